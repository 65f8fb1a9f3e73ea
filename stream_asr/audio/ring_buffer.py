"""A bounded buffer of samples with absolute positions, for one writer and one reader.

No lock is taken: each position is written by one side only, and a Python integer is replaced as a whole.
The writer may therefore be an audio callback. Positions count samples since the stream began and never wrap.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from stream_asr.array_types import FloatArray


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples [start, stop) arrived while the buffer was full; they read as zeros."""

    start: int
    stop: int


class RingBuffer:
    """Holds the samples [`released`, `written`) of a stream, at most ``capacity_samples`` of them.

    When it is full, the newest samples are dropped. The clock must not stand still for that, so the dropped
    stretch is filled with zeros as soon as there is room, and becomes one `Gap`: a long stretch understood
    and a long stretch lost serve a reader of captions better than a sieve.

    Raises:
        ValueError: the capacity is not positive.
    """

    def __init__(self, capacity_samples: int) -> None:
        if capacity_samples <= 0:
            raise ValueError(f"a ring buffer of {capacity_samples} samples; it needs at least 1")
        self._samples: FloatArray = np.zeros(capacity_samples, dtype=np.float32)
        self._written = 0  # writer's
        self._hole = 0  # writer's: dropped samples that still wait for room to be zeros in
        self._gap_start = 0  # writer's: where the dropped stretch began
        self._dropped = 0  # writer's
        self._released = 0  # reader's
        self._gaps: deque[Gap] = deque()  # appended by the writer, popped by the reader

    @property
    def capacity(self) -> int:
        return len(self._samples)

    @property
    def captured(self) -> int:
        """Samples that were ever offered, dropped ones included: the writer's clock."""
        return self._written + self._hole

    @property
    def written(self) -> int:
        """Position after the newest sample that can be read."""
        return self._written

    @property
    def released(self) -> int:
        """Position of the oldest sample that can be read."""
        return self._released

    @property
    def dropped(self) -> int:
        """Samples lost so far because the buffer was full."""
        return self._dropped

    @property
    def free(self) -> int:
        return self.capacity - (self._written - self._released)

    def write(self, block: FloatArray) -> int:
        """Append ``block`` (1-D float32) as far as it fits; returns how many of its samples were dropped."""
        self.settle()
        stored = 0 if self._hole else min(len(block), self.free)
        if stored:
            self._store(block[:stored])
        lost = len(block) - stored
        if lost:
            if not self._hole:
                self._gap_start = self._written
            self._hole += lost
            self._dropped += lost
        return lost

    def settle(self) -> bool:
        """Writer's: give dropped samples their place as zeros; True when none is left without one."""
        if self._hole:
            zeros = min(self._hole, self.free)
            self._hole -= zeros
            self._store(np.zeros(zeros, dtype=np.float32))
            if not self._hole:
                self._gaps.append(Gap(self._gap_start, self._written))
        return not self._hole

    def _store(self, block: FloatArray) -> None:
        at = self._written % self.capacity
        first = min(len(block), self.capacity - at)
        self._samples[at : at + first] = block[:first]
        self._samples[: len(block) - first] = block[first:]
        # Last of all: the reader must never see a position whose samples are not there yet.
        self._written += len(block)

    def read(self, start: int, stop: int) -> FloatArray:
        """A copy of the samples [start, stop), which stay in the buffer.

        Raises:
            IndexError: some of them were released already or have not arrived.
        """
        if not self._released <= start <= stop <= self._written:
            raise IndexError(
                f"samples [{start}, {stop}) asked of a buffer that holds [{self._released}, {self._written})"
            )
        at, length = start % self.capacity, stop - start
        first = min(length, self.capacity - at)
        block = np.empty(length, dtype=np.float32)
        block[:first] = self._samples[at : at + first]
        block[first:] = self._samples[: length - first]
        return block

    def release(self, position: int) -> None:
        """Reader's: samples before ``position`` are not needed any more. A smaller one than before does nothing."""
        self._released = max(self._released, min(position, self._written))

    def take_gaps(self) -> list[Gap]:
        """Reader's: the gaps that were closed since the last call, oldest first."""
        gaps = []
        while self._gaps:
            gaps.append(self._gaps.popleft())
        return gaps
