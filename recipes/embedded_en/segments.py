"""Cut recordings into segments at pauses.

Live windows seldom contain a whole sentence, and never a long one, so the model is trained on segments. The cuts are
drawn again for each epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause between two words.

    Attributes:
        word: index of the first word after the pause.
        at: middle of the pause, in the same unit as the length of the recording.
    """

    word: int
    at: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a recording and its words; both ranges exclude their end."""

    start: int
    stop: int
    first_word: int
    stop_word: int


def split_recording(
    length: int,
    words: int,
    pauses: tuple[Pause, ...],
    min_length: int,
    max_length: int,
    rng: np.random.Generator,
) -> list[Segment]:
    """Split a recording at random pauses.

    Args:
        length: length of the recording.
        words: number of words in the recording.
        pauses: possible cuts, in order.
        min_length: minimum length of a segment.
        max_length: segment lengths are drawn uniformly between ``min_length`` and this. A segment ends at the first
            pause after that length, so it may be longer.
        rng: source of randomness.

    Returns:
        Segments that cover the recording, in order.
    """
    segments: list[Segment] = []
    start = first_word = 0
    target_length = rng.uniform(min_length, max_length)
    for pause in pauses:
        if pause.at - start >= target_length and length - pause.at >= min_length:
            segments.append(Segment(start, pause.at, first_word, pause.word))
            start, first_word = pause.at, pause.word
            target_length = rng.uniform(min_length, max_length)
    return [*segments, Segment(start, length, first_word, words)]
