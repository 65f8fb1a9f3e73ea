"""How well what a model writes agrees with a row of words that were found in another way, by their sounds.

The best alignment of each word's pieces, word after word. Log-probabilities count from the best output of each frame,
so that a row of words that is just what the model writes costs nothing.

Source: Viterbi alignment to the CTC topology of Graves et al., "Connectionist Temporal Classification", 2006; the
division into pieces is that of byte-pair encoding, Sennrich et al., "Neural Machine Translation of Rare Words with
Subword Units", 2016.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from stream_asr.arrays import DoubleArray, FloatArray
from stream_asr.ctc import Labels

_IMPOSSIBLE, _NEVER = -1e9, -50.0
_WORST_WORD = 5.0
"""Nats that a word costs at most: the model may never have learnt to write it."""

_BACK_FRAMES = 10
"""Words are written that much earlier or later than is likeliest, at most: half a second, where a frame is 48 ms."""

_SPARE_FRAMES = 12
"""More frames than are needed are looked at, because the next ones will be asked for soon."""


class BytePairs:
    """The pieces of words.

    Args:
        labels: of a model whose pieces are in the order in which byte-pair encoding learnt them.
    """

    def __init__(self, labels: Labels) -> None:
        self._ranks = {piece: number for number, piece in enumerate(labels.pieces) if piece and number != labels.blank}
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, word: str) -> tuple[int, ...]:
        """The outputs that spell a word; none if some letter is never written."""
        if (known := self._known.get(word)) is None:
            known = self._known[word] = self._spelt(word)
        return known

    def _spelt(self, word: str) -> tuple[int, ...]:
        parts, ranks = [" ", *word], self._ranks
        while len(parts) > 1:
            ranked = [(ranks.get(first + second), at) for at, (first, second) in enumerate(pairwise(parts))]
            known = [(rank, at) for rank, at in ranked if rank is not None]
            if not known:
                break
            _, at = min(known)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return tuple(ranks[part] for part in parts) if all(part in ranks for part in parts) else ()


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """Where a row of words may end.

    Attributes:
        start_frame: of the first of the scores.
        scores: of its best alignment to the frames before each frame, from ``start_frame`` on.
        best: the highest of them up to each.
    """

    start_frame: int
    scores: DoubleArray
    best: DoubleArray

    @property
    def stop_frame(self) -> int:
        """The last frame before which it may end, as far as was looked."""
        return self.start_frame + len(self.scores) - 1

    def by(self, frame: int) -> float:
        """The score of ending before ``frame``, or earlier."""
        return float(self.best[min(max(frame - self.start_frame, 0), len(self.best) - 1)])


def beginning(frame: int) -> Trail:
    """Of no words, before any frames."""
    nothing = np.zeros(1)
    return Trail(frame, nothing, nothing)


class Written:
    """A stretch of what a model wrote, on the absolute grid.

    Args:
        start_frame: of the first frame.
        log_probs: of the pieces alone, shape (frames, pieces).
        blank: the output for nothing.
    """

    def __init__(self, start_frame: int, log_probs: FloatArray, blank: int) -> None:
        self.start_frame, self._blank = start_frame, blank
        best = log_probs.max(axis=1, keepdims=True, initial=-np.inf)
        self._agreed = np.maximum(log_probs - best, _NEVER)  # sums of what cannot be are no numbers

    @property
    def stop_frame(self) -> int:
        return self.start_frame + len(self._agreed)

    def with_word(self, trail: Trail, outputs: tuple[int, ...], frame: int) -> Trail:
        """A word more, which ends before ``frame``; one without outputs may have been written in any way."""
        peak = trail.start_frame + int(trail.scores.argmax())
        start = max(self.start_frame, trail.start_frame, peak - _BACK_FRAMES)
        stop = max(start, min(self.stop_frame, frame + _SPARE_FRAMES))
        arrived = np.full(stop - start + 1, _IMPOSSIBLE)
        known = trail.scores[start - trail.start_frame :][: len(arrived)]
        arrived[: len(known)] = known
        if not len(known):
            arrived[0] = trail.best[-1]  # so long ago that nothing of it is left
        floor = float(trail.best[-1]) - _WORST_WORD
        scores = self._aligned(arrived, outputs, start, stop) if outputs else np.maximum.accumulate(arrived)
        scores = np.maximum(scores, floor)
        return Trail(start, scores, np.maximum.accumulate(scores))

    def _aligned(self, arrived: DoubleArray, outputs: tuple[int, ...], start: int, stop: int) -> DoubleArray:
        part = self._agreed[start - self.start_frame : stop - self.start_frame]
        summed = np.zeros((1 + len(outputs), stop - start + 1))
        np.cumsum(part[:, (self._blank, *outputs)].T, axis=1, out=summed[:, 1:])
        silent = summed[0]
        rested: DoubleArray = silent + np.maximum.accumulate(arrived - silent)
        entered = rested
        for place, output in enumerate(outputs):
            sounding = _moved(summed[place + 1], entered)
            rested = silent + np.maximum.accumulate(sounding - silent)
            # The same piece twice has a blank in between.
            entered = _moved(silent, sounding) if outputs[place + 1 : place + 2] == (output,) else rested
        return rested


def _moved(summed: DoubleArray, entered: DoubleArray) -> DoubleArray:
    """At least one frame of an output whose log-probabilities add up to ``summed``."""
    moved = np.empty_like(entered)
    moved[0] = _IMPOSSIBLE
    np.add(np.maximum.accumulate(entered - summed)[:-1], summed[1:], out=moved[1:])
    return moved


Trails: TypeAlias = MutableMapping[int, Trail]
"""By the hash of the words; see `stream_asr.said.text_after`."""
