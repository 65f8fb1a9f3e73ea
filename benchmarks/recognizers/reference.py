"""Reference words of recordings and their times.

The times come from a CTM file, or from the alignment of a CTC model: a word starts with the frame of its first token
and ends with the frame in which its last token begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from corpus import Playlist, Utterance
from ctm import read_ctm
from scoring import normalize

from recipes.embedded_en.alignment import align
from stream_asr.acoustic.base import AcousticModel
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Alphabet, OutOfAlphabetError


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A normalized word and its time span in seconds since the start of the recording."""

    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class ReferenceRecording:
    """Audio, float32 at 16 kHz, and its words."""

    samples: FloatArray
    words: tuple[SpokenWord, ...]

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)


Aligner = Callable[[Utterance, FloatArray], tuple[SpokenWord, ...]]
"""Returns the words of an utterance, given its samples."""


def align_recordings(playlist: Playlist, aligner: Aligner) -> list[ReferenceRecording]:
    """Return the recordings of a playlist with their words."""
    return [ReferenceRecording(item.samples, aligner(item.utterance, item.samples)) for item in playlist.items]


def join_recordings(playlist: Playlist, recordings: Sequence[ReferenceRecording]) -> ReferenceRecording:
    """Return a playlist as one recording with the words of its recordings."""
    words = [
        SpokenWord(word.word, item.start_s + word.start_s, item.start_s + word.end_s)
        for item, recording in zip(playlist.items, recordings, strict=True)
        for word in recording.words
    ]
    return ReferenceRecording(playlist.samples, tuple(words))


def model_aligner() -> Aligner:
    """Return an aligner that uses the bundled model.

    The aligner raises InputError for a recording that is too short for its text, and for digits.
    """
    # Not at the top: they are not needed with a CTM file, and the imports take seconds.
    from stream_asr.acoustic.loading import load_model
    from stream_asr.acoustic.pretrained import load_pretrained
    from stream_asr.training.vocabulary import alphabet_of

    model, alphabet = load_model(precision="float32"), alphabet_of(load_pretrained())

    def align_utterance(utterance: Utterance, samples: FloatArray) -> tuple[SpokenWord, ...]:
        try:
            words = align_words(model, alphabet, samples, normalize(utterance.text))
        except OutOfAlphabetError as error:
            raise InputError(f"{utterance.path}: {error}; provide word times with --words") from error
        if words is None:
            raise InputError(f"{utterance.path} is too short for its text; provide word times with --words")
        return words

    return align_utterance


def align_words(
    model: AcousticModel, alphabet: Alphabet, samples: FloatArray, text: str
) -> tuple[SpokenWord, ...] | None:
    """Align a normalized text with samples in one model pass; return None if there are too few frames."""
    if not text:
        return ()
    padded = np.pad(samples, (0, -len(samples) % model.frame_samples))
    ids = alphabet.encode(text).ids
    token_starts = align(model.log_probs([padded])[0], ids, model.labels.blank)
    if token_starts is None:
        return None
    spans: list[tuple[int, int]] = []
    starts_word = True
    for index, frame in zip(ids, token_starts.tolist(), strict=True):
        token = model.labels.tokens[index]
        starts_word = starts_word or token.startswith(" ")
        if not token.strip():
            continue  # the space of a model whose tokens are characters
        if starts_word:
            spans.append((frame, frame + 1))
        else:
            spans[-1] = (spans[-1][0], frame + 1)
        starts_word = False
    frame_s = model.frame_samples / SAMPLE_RATE
    return tuple(
        SpokenWord(word, first * frame_s, stop * frame_s)
        for word, (first, stop) in zip(text.split(), spans, strict=True)
    )


def ctm_aligner(path: Path) -> Aligner:
    """Return an aligner that reads word times from a CTM file.

    The aligner raises InputError if the words of the file are not those of the transcript.

    Raises:
        InputError: the file is unreadable or malformed.
    """
    words_of = read_ctm(path)

    def align_utterance(utterance: Utterance, samples: FloatArray) -> tuple[SpokenWord, ...]:
        words = tuple(
            SpokenWord(text, word.start, word.end)
            for word in words_of.get(utterance.path.stem, ())
            for text in normalize(word.word).split()
        )
        if [word.word for word in words] != normalize(utterance.text).split():
            raise InputError(f"the words of {utterance.path.stem} in {path} differ from its transcript")
        return words

    return align_utterance
