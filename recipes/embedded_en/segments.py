"""Cutting recordings where nobody speaks, at other places each time: what a model hears in a live window is seldom
a whole sentence, and never a long one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pause:
    """A place to cut.

    Attributes:
        word: the first word after it, by its place in the text.
        at: its middle, counted from the start of the recording as the recording's length is.
    """

    word: int
    at: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a recording, and of its words."""

    start: int
    stop: int
    first_word: int
    stop_word: int


def cut(
    length: int,
    words: int,
    pauses: tuple[Pause, ...],
    shortest: int,
    longest: int,
    rng: np.random.Generator,
) -> list[Segment]:
    """Divide a recording into parts of random lengths.

    Args:
        length, words: of the whole recording.
        pauses: where it may be cut, in order.
        shortest, longest: the wanted length of each part is drawn evenly from between these. A part
            ends at the first pause beyond it, so it may be longer; none is shorter than the shortest.

    Returns:
        Parts that cover the recording, in order.
    """
    segments: list[Segment] = []
    start = first_word = 0
    wanted = rng.uniform(shortest, longest)
    for pause in pauses:
        if pause.at - start >= wanted and length - pause.at >= shortest:
            segments.append(Segment(start, pause.at, first_word, pause.word))
            start, first_word = pause.at, pause.word
            wanted = rng.uniform(shortest, longest)
    return [*segments, Segment(start, length, first_word, words)]
