"""A bounded, lock-free buffer of samples for one writer and one reader.

The buffer takes no lock: each position is written by one side only, and assigning a Python integer is atomic. The
writer may therefore be an audio callback. Positions count samples since the start of the stream and never wrap.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from stream_asr.array_types import FloatArray


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples [start, stop) were dropped because the buffer was full. They read as zeros."""

    start: int
    stop: int


class RingBuffer:
    """Buffer of the samples [`released`, `written`) of a stream.

    When the buffer is full, it drops the newest samples. Dropped samples still advance the position: as soon as there
    is room, the writer fills their place with zeros and reports one `Gap`. New samples are dropped until the whole gap
    is filled, because captions with one long gap are more useful than captions with many short ones.

    Args:
        capacity_samples: the largest number of samples that the buffer holds.

    Raises:
        ValueError: the capacity is not positive.
    """

    def __init__(self, capacity_samples: int) -> None:
        if capacity_samples <= 0:
            raise ValueError(f"capacity_samples is {capacity_samples}; it must be at least 1")
        self._samples: FloatArray = np.zeros(capacity_samples, dtype=np.float32)
        # Assigned by the writer only.
        self._written = 0
        self._unfilled = 0  # dropped samples that are not yet filled with zeros
        self._gap_start = 0
        self._dropped = 0
        # Assigned by the reader only.
        self._released = 0
        # Appended to by the writer, popped from by the reader.
        self._gaps: deque[Gap] = deque()

    @property
    def capacity(self) -> int:
        return len(self._samples)

    @property
    def captured(self) -> int:
        """Number of samples passed to `write` so far, including dropped ones."""
        return self._written + self._unfilled

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
        """Number of samples dropped so far because the buffer was full."""
        return self._dropped

    @property
    def free(self) -> int:
        """Number of samples that fit into the buffer now."""
        return self.capacity - (self._written - self._released)

    def write(self, block: FloatArray) -> int:
        """Append the samples of a block that fit, and drop the rest. Called by the writer.

        Args:
            block: float32, shape (samples,).

        Returns:
            The number of dropped samples.
        """
        self.fill_gap()
        stored = 0 if self._unfilled else min(len(block), self.free)
        if stored:
            self._store(block[:stored])
        dropped = len(block) - stored
        if dropped:
            if not self._unfilled:
                self._gap_start = self._written
            self._unfilled += dropped
            self._dropped += dropped
        return dropped

    def fill_gap(self) -> bool:
        """Fill dropped samples with zeros if there is room. Called by the writer.

        Returns:
            Whether all dropped samples are filled.
        """
        if self._unfilled:
            zeros = min(self._unfilled, self.free)
            self._unfilled -= zeros
            self._store(np.zeros(zeros, dtype=np.float32))
            if not self._unfilled:
                self._gaps.append(Gap(self._gap_start, self._written))
        return not self._unfilled

    def _store(self, block: FloatArray) -> None:
        index = self._written % self.capacity
        first = min(len(block), self.capacity - index)
        self._samples[index : index + first] = block[:first]
        self._samples[: len(block) - first] = block[first:]
        # Advance the position last: the reader must not see a position whose samples are not stored yet.
        self._written += len(block)

    def read(self, start: int, stop: int) -> FloatArray:
        """Return a copy of the samples [start, stop), which stay in the buffer. Called by the reader.

        Raises:
            IndexError: some of the samples are released or not yet written.
        """
        if not self._released <= start <= stop <= self._written:
            raise IndexError(
                f"samples [{start}, {stop}) are not in the buffer, which holds [{self._released}, {self._written})"
            )
        index, length = start % self.capacity, stop - start
        first = min(length, self.capacity - index)
        block = np.empty(length, dtype=np.float32)
        block[:first] = self._samples[index : index + first]
        block[first:] = self._samples[: length - first]
        return block

    def release(self, position: int) -> None:
        """Free the samples before ``position``, unless they are released already. Called by the reader."""
        self._released = max(self._released, min(position, self._written))

    def take_gaps(self) -> list[Gap]:
        """Return the gaps that were filled since the last call, oldest first. Called by the reader."""
        gaps = []
        while self._gaps:
            gaps.append(self._gaps.popleft())
        return gaps
