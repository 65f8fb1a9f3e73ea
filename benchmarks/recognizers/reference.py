"""Reference words of recordings and their times.

The times come from a CTM file, or from the alignment of a CTC model: a word starts with the frame of its first token
and ends with the frame in which its last token begins. Digits get the frames between the words next to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
from corpus import Playlist, Utterance
from ctm import read_ctm
from scoring import normalize

from stream_asr.acoustic.base import AcousticModel
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.decoding.alignment import ForcedAligner
from stream_asr.errors import InputError


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

    The aligner raises InputError for a recording that is too short for its text.
    """
    # Not at the top: it is not needed with a CTM file, and the import takes seconds.
    from stream_asr.acoustic.loading import load_model

    model = load_model(precision="float32")
    aligner = ForcedAligner(model.labels)

    def align_utterance(utterance: Utterance, samples: FloatArray) -> tuple[SpokenWord, ...]:
        words = align_words(model, aligner, samples, normalize(utterance.text))
        if words is None:
            raise InputError(f"{utterance.path} is too short for its text; provide word times with --words")
        return words

    return align_utterance


def align_words(
    model: AcousticModel, aligner: ForcedAligner, samples: FloatArray, text: str
) -> tuple[SpokenWord, ...] | None:
    """Align a normalized text with samples in one model pass; return None if there are too few frames."""
    words = text.split()
    if not words:
        return ()
    padded = np.pad(samples, (0, -len(samples) % model.frame_samples))
    alignment = aligner.align(model.log_probs([padded])[0], words)
    if alignment.log_prob == -inf:
        return None
    frame_s = model.frame_samples / SAMPLE_RATE
    return tuple(
        SpokenWord(word, aligned.first_frame * frame_s, (aligned.last_token_frame + 1) * frame_s)
        for word, aligned in zip(words, alignment.words, strict=True)
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
