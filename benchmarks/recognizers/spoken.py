"""What is said in recordings, and when: the reference that captions are held against.

Times are where a CTC model hears the pieces of the words: a word ends with the frame in which its last piece begins.
A file of times in NIST's CTM format (``RECORDING CHANNEL START DURATION WORD``) may take the model's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from corpus import Programme, Utterance
from scoring import normalized
from words import parse_ctm

from recipes.embedded_en.alignment import align
from stream_asr.acoustic.base import AcousticModel
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.training.alphabet import Alphabet


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word, normalised, and where it is, in seconds since the recording or the stream began."""

    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio, float32 at 16 kHz, and what is said in it."""

    samples: FloatArray
    words: tuple[Spoken, ...]

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)


WordTimes = Callable[[Utterance, FloatArray], tuple[Spoken, ...]]
"""Finds the words of an utterance in its samples."""


def recordings(programme: Programme, times: WordTimes) -> list[Recording]:
    """Those that the programme is made of."""
    return [Recording(place.samples, times(place.utterance, place.samples)) for place in programme.places]


def stream(programme: Programme, parts: Sequence[Recording]) -> Recording:
    """The programme as one recording, whose words are those of its parts."""
    words = [
        Spoken(word.word, place.start_s + word.start_s, place.start_s + word.end_s)
        for place, part in zip(programme.places, parts, strict=True)
        for word in part.words
    ]
    return Recording(programme.samples, tuple(words))


def by_model() -> WordTimes:
    """The embedded model's own alignment.

    The function returned raises SystemExit for a recording that is too short for its text.
    """
    # Not at the top: with a file of times none of it is needed, and it takes seconds.
    from stream_asr.acoustic.loading import load_model
    from stream_asr.acoustic.pretrained import load_pretrained
    from stream_asr.training.vocabulary import alphabet_of

    model, alphabet = load_model(precision="float32"), alphabet_of(load_pretrained())

    def times(utterance: Utterance, samples: FloatArray) -> tuple[Spoken, ...]:
        words = aligned(model, alphabet, samples, normalized(utterance.text))
        if words is None:
            raise SystemExit(f"{utterance.path} is too short for its text; give the times of its words with --words")
        return words

    return times


def aligned(model: AcousticModel, alphabet: Alphabet, samples: FloatArray, text: str) -> tuple[Spoken, ...] | None:
    """The words of ``text``, which is normalised, in one pass over the samples; None if there are too few frames."""
    if not text:
        return ()
    padded = np.pad(samples, (0, -len(samples) % model.frame_samples))
    ids = alphabet.spell(text).ids
    begins = align(model.log_probs([padded])[0], ids, model.labels.blank)
    if begins is None:
        return None
    spans: list[tuple[int, int]] = []
    starts_word = True
    for index, frame in zip(ids, begins.tolist(), strict=True):
        piece = model.labels.tokens[index]
        starts_word = starts_word or piece.startswith(" ")
        if not piece.strip():
            continue  # the space of a model that writes letters
        if starts_word:
            spans.append((frame, frame + 1))
        else:
            spans[-1] = (spans[-1][0], frame + 1)
        starts_word = False
    frame_s = model.frame_samples / SAMPLE_RATE
    return tuple(
        Spoken(word, first * frame_s, stop * frame_s) for word, (first, stop) in zip(text.split(), spans, strict=True)
    )


def by_ctm(path: Path) -> WordTimes:
    """Times from a CTM file, whose recordings are called as their files are, without the suffix.

    Raises:
        SystemExit: as `parse_ctm`.

    The function returned raises SystemExit where the file has other words than the transcript.
    """
    found = parse_ctm(path.read_text(encoding="utf-8").splitlines(), str(path))

    def times(utterance: Utterance, samples: FloatArray) -> tuple[Spoken, ...]:
        words = tuple(
            Spoken(word, heard.start, heard.end)
            for heard in found.get(utterance.path.stem, ())
            for word in normalized(heard.word).split()
        )
        if [word.word for word in words] != normalized(utterance.text).split():
            raise SystemExit(f"{path} does not have the words of {utterance.path.stem} as its transcript has them")
        return words

    return times
