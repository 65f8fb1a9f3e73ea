"""Deterministic models, and sound that they recognize, for tests of timing, order and errors.

The sound of a text is a staircase: each letter is a few frames of 20 ms with one amplitude. The model turns amplitudes
into letters. Like a real model it needs context: letters near the edges of a window come out garbled, so that frames
from the wrong part of a window show up in the text. Spaces are never garbled.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Sequence
from itertools import groupby
from zlib import crc32

import numpy as np
import numpy.typing as npt

from stream_asr.acoustic.base import Chunk, ChunkOutput, DecodeOutput, DecodeRequest, State, Vocabulary
from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.config import WindowConfig

FRAME = 320
GARBLED = "#"
_TOKENS = ("", " ", *string.ascii_lowercase, GARBLED)
LABELS = Labels(_TOKENS, blank=0)
_STEP = 1 / 64
_SOUNDING_BLANK = 60
_LETTER_FRAMES, _GAP_FRAMES = 3, 1


def sound(text: str) -> FloatArray:
    """Return the sound of a text: 80 ms per letter, in whole frames."""
    levels: list[int] = []
    for letter in text:
        levels += [_TOKENS.index(letter)] * _LETTER_FRAMES + [_SOUNDING_BLANK] * _GAP_FRAMES
    return np.repeat(np.array(levels, dtype=np.float32) * _STEP, FRAME).astype(np.float32)


def silence(seconds: float) -> FloatArray:
    """Return digital silence, in whole frames."""
    return np.zeros(round(seconds * 16_000 / FRAME) * FRAME, dtype=np.float32)


def conversation(*sentences: str, pause_s: float = 0.8) -> FloatArray:
    """Return the sound of sentences with pauses before, between and after them."""
    parts = [silence(pause_s)]
    for sentence in sentences:
        parts += [sound(sentence), silence(pause_s)]
    return np.concatenate(parts)


class Loud:
    """A `VoiceDetector` for which everything but digital silence is voiced."""

    def __init__(self, frame_ms: int) -> None:
        self.frame_samples = 16 * frame_ms

    def __call__(self, frame: bytes) -> bool:
        assert len(frame) == 2 * self.frame_samples
        return bool(frame.strip(b"\0"))


loud = Loud(20)


def _token_ids(levels: FloatArray) -> npt.NDArray[np.int_]:
    """Return the token of each frame, given the mean amplitudes of frames."""
    ids: npt.NDArray[np.int_] = np.rint(levels / _STEP).astype(int)
    ids[ids >= len(_TOKENS)] = LABELS.blank
    return ids


class FakeModel:
    """An `AcousticModel` that recognizes `sound`.

    Args:
        before: called with the windows of each batch before it runs; it may advance a clock or raise an error.
        context_frames: number of frames at each edge of a window in which letters are garbled.
        pads: see `AcousticModel`.
        batches_commit_windows: see `AcousticModel`.
        doubtful: give each letter's successor in the alphabet almost the same probability.

    Attributes:
        batches: lengths of the windows of each batch, in samples.
    """

    name = "fake"
    frame_samples = FRAME
    max_window_samples: int | None = None
    parallel_windows: int | None = None
    labels = LABELS

    def __init__(
        self,
        before: Callable[[Sequence[FloatArray]], None] | None = None,
        *,
        context_frames: int = 5,
        pads: bool = False,
        batches_commit_windows: bool = True,
        doubtful: bool = False,
    ) -> None:
        self.batches: list[list[int]] = []
        self.pads, self.batches_commit_windows = pads, batches_commit_windows
        self._before = before
        self._context_frames = context_frames
        self._doubtful = doubtful

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        assert self.pads or len({len(window) for window in windows}) == 1
        self.batches.append([len(window) for window in windows])
        if self._before is not None:
            self._before(windows)
        return [self._recognize(window) for window in windows]

    def _recognize(self, window: FloatArray) -> FloatArray:
        assert len(window) % FRAME == 0
        ids = _token_ids(np.abs(window.reshape(-1, FRAME)).mean(axis=1))
        at_edge = np.ones(len(ids), dtype=bool)
        at_edge[self._context_frames : max(self._context_frames, len(ids) - self._context_frames)] = False
        ids[at_edge & (ids > 1)] = len(_TOKENS) - 1
        log_probs = np.full((len(ids), len(_TOKENS)), -10.0, dtype=np.float32)
        if self._doubtful:
            letters = np.flatnonzero((ids > 1) & (ids < len(_TOKENS) - 1))
            log_probs[letters, (ids[letters] - 1) % 26 + 2] = -0.9
        log_probs[np.arange(len(ids)), ids] = -0.6 if self._doubtful else -0.1
        return log_probs


class FakeStatefulModel(FakeModel):
    """A `StatefulModel` that recognizes `sound`, with encoder states for `FakeSecondPass`.

    Takes the arguments of `FakeModel`. A state is the end of the audio before a window, and the number of encoder
    states before it. An encoder state is the mean amplitude of half a frame, and its place in the utterance.
    """

    window_config = WindowConfig(left_context_ms=1000, commit_ms=800, right_context_ms=400)
    second_pass_window_config = window_config

    def initial_state(self, left_samples: int) -> State:
        return np.zeros(0, dtype=np.float32), 0

    def forward_chunks(self, chunks: Sequence[Chunk]) -> list[ChunkOutput]:
        windows = [chunk.samples for chunk in chunks]
        self.batches.append([len(window) for window in windows])
        if self._before is not None:
            self._before(windows)
        return [self._forward(chunk) for chunk in chunks]

    def _forward(self, chunk: Chunk) -> ChunkOutput:
        context, place = chunk.state
        audio = np.concatenate([context, chunk.samples])
        log_probs = self._recognize(audio)[len(context) // FRAME :]
        levels = np.abs(chunk.samples).reshape(-1, _ENCODER_FRAME).mean(axis=1)
        places = np.arange(place, place + len(levels), dtype=np.float32)
        kept, preview_kept = (2 * -(-samples // FRAME) for samples in (chunk.kept_samples, chunk.preview_kept_samples))

        def state_after(new_samples: int, new_places: int) -> State:
            end = len(context) + new_samples
            return audio[:end][-max(1, self._context_frames) * FRAME :], place + new_places

        return ChunkOutput(
            log_probs,
            state_after(chunk.kept_samples, kept),
            np.stack([levels, places], axis=1),
            kept,
            state_after(chunk.preview_kept_samples, preview_kept) if chunk.preview_kept_samples else None,
            preview_kept,
        )


_ENCODER_FRAME = FRAME // 2
_PUNCTUATION = ",.?"
_FIRST_PIECES = (f" {character}" for character in string.ascii_letters + GARBLED + _PUNCTUATION)
_PIECES = ("", *_FIRST_PIECES, *_TOKENS[2:], *_PUNCTUATION)
_PIECE_IDS = {piece: index for index, piece in enumerate(_PIECES)}
VOCABULARY = Vocabulary(tuple(piece.encode() for piece in _PIECES), end=0)


def encode(text: str) -> tuple[int, ...]:
    """Return the tokens of a text for `FakeSecondPass`: one for each letter, with the space before it."""
    return tuple(_PIECE_IDS[piece] for piece in re.findall(" ?[^ ]", text))


class FakeSecondPass:
    """A `SecondPassModel` that reads `sound`.

    It writes another style than `FakeModel`: a capital at the start of a sentence, a comma or period after some words,
    and a period at the end of every hypothesis. After a prefix it goes on where the audio has the next word.

    Args:
        before: called with the requests of each batch before it runs; it may raise an error.
        uses_audio: read ``samples``; otherwise the encoder states of `FakeStatefulModel`.
        lies: share of the hypotheses that are wrong after their prefix. They have wrong, missing and invented words,
            loops, other punctuation, or letters that continue the last word of the prefix.
        parallel_requests: see `SecondPassModel`.

    Attributes:
        batches: number of requests in each batch.
    """

    name = "fake decoder"
    vocabulary = VOCABULARY
    max_samples: int | None = None

    def __init__(
        self,
        before: Callable[[Sequence[DecodeRequest]], None] | None = None,
        *,
        uses_audio: bool = True,
        lies: float = 0.0,
        parallel_requests: int = 1,
    ) -> None:
        self.uses_audio, self.parallel_requests = uses_audio, parallel_requests
        self.batches: list[int] = []
        self._before = before
        self._lies = lies

    def initial_state(self) -> State:
        return None if self.uses_audio else np.zeros((0, 2), dtype=np.float32)

    def decode(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        self.batches.append(len(requests))
        if self._before is not None:
            self._before(requests)
        return [self._decode(request) for request in requests]

    def _decode(self, request: DecodeRequest) -> DecodeOutput:
        assert (request.samples is None, request.encoded is None) == (not self.uses_audio, self.uses_audio)
        state: State = None
        if request.samples is not None:
            levels = np.abs(request.samples.reshape(-1, FRAME)).mean(axis=1)
        else:
            assert request.encoded is not None
            levels, places = np.concatenate([request.state, request.encoded]).T
            assert np.array_equal(places, np.arange(len(places))), "encoder states are missing or repeated"
            levels = levels.reshape(-1, 2).mean(axis=1)
            state = np.concatenate([request.state, request.encoded[: request.kept_frames]])
        # The result is a function of the request, without its draft.
        rng = random.Random(f"{crc32(levels.tobytes())} {request.prefix}")
        tokens = request.prefix + self._continue(request.prefix, _read(levels), rng)
        tokens = tokens[: max(len(request.prefix), request.max_tokens)]
        return DecodeOutput(tokens, tuple(-0.1 * rng.random() for _ in tokens), state)

    def _continue(self, prefix: tuple[int, ...], spoken: list[str], rng: random.Random) -> tuple[int, ...]:
        before = VOCABULARY.text(prefix)
        bare = before.lower().translate(dict.fromkeys(map(ord, _PUNCTUATION))).split()
        words = _write(spoken[_closest_prefix(bare, spoken) :], starts=not before or before.endswith("."))
        if rng.random() >= self._lies:
            return encode("".join(f" {word}" for word in words)) or encode("." if before[-1:].isalpha() else "")
        for lie in rng.sample(_LIES, rng.randint(1, 3)):
            words = lie(words, rng)
        tokens = encode("".join(f" {word}" for word in words))
        return encode(rng.choice(["s", "ing", "."])) + tokens if rng.random() < 0.2 else tokens


def _read(levels: FloatArray) -> list[str]:
    return "".join(_TOKENS[token] for token, _ in groupby(_token_ids(levels).tolist())).split()


def _write(words: Sequence[str], *, starts: bool) -> list[str]:
    """Return words with capitals and punctuation, given whether they start a sentence."""
    written = []
    for index, word in enumerate(words):
        mark = "." if index == len(words) - 1 else {0: ",", 1: "."}.get(crc32(word.encode()) % 5, "")
        written.append((word[:1].upper() + word[1:] if starts else word) + mark)
        starts = mark == "."
    return written


def _closest_prefix(words: Sequence[str], spoken: Sequence[str]) -> int:
    """Return how many of the spoken words resemble the words most, by edit distance."""
    distances = list(range(len(spoken) + 1))
    for done, word in enumerate(words):
        row = [done + 1]
        for index, other in enumerate(spoken):
            row.append(min(distances[index] + (word != other), distances[index + 1] + 1, row[index] + 1))
        distances = row
    return distances.index(min(distances))


def _invent(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 6))) + rng.choice(["", "", ",", "."])


def _end_wrongly(words: list[str], rng: random.Random) -> list[str]:
    count = rng.randint(1, 3)
    return words[:-count] + [_invent(rng) for _ in words[-count:]]


def _add_words(words: list[str], rng: random.Random) -> list[str]:
    return words + [_invent(rng) for _ in range(rng.randint(1, 4))]


def _loop(words: list[str], rng: random.Random) -> list[str]:
    return words + words[-rng.randint(1, 5) :] * rng.randint(1, 30)


def _skip_words(words: list[str], rng: random.Random) -> list[str]:
    share = rng.choice([0.1, 0.5, 1.0])
    return [word for word in words if rng.random() > share]


def _punctuate_wrongly(words: list[str], rng: random.Random) -> list[str]:
    bare = (word.rstrip(_PUNCTUATION) for word in words)
    return [rng.choice([word, word.capitalize()]) + rng.choice(["", ",", ".", "?"]) for word in bare]


_LIES = (_end_wrongly, _add_words, _loop, _skip_words, _punctuate_wrongly)
