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
        sample: its middle, counted from the start of the recording.
    """

    word: int
    sample: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a recording, by samples and by words."""

    start: int
    stop: int
    first_word: int
    stop_word: int


def cut(
    samples: int,
    words: int,
    pauses: tuple[Pause, ...],
    shortest_samples: int,
    longest_samples: int,
    rng: np.random.Generator,
) -> list[Segment]:
    """Divide a recording into parts of random lengths.

    Args:
        samples, words: of the whole recording.
        pauses: where it may be cut, in order.
        shortest_samples, longest_samples: the wanted length of each part is drawn evenly from between these. A part
            ends at the first pause beyond it, so it may be longer; none is shorter than the shortest.

    Returns:
        Parts that cover the recording, in order.
    """
    segments: list[Segment] = []
    start = first_word = 0
    wanted = rng.uniform(shortest_samples, longest_samples)
    for pause in pauses:
        if pause.sample - start >= wanted and samples - pause.sample >= shortest_samples:
            segments.append(Segment(start, pause.sample, first_word, pause.word))
            start, first_word = pause.sample, pause.word
            wanted = rng.uniform(shortest_samples, longest_samples)
    return [*segments, Segment(start, samples, first_word, words)]
