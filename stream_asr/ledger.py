"""Where every captured sample of a stream went."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stream_asr.audio.ring_buffer import Gap

_REMEMBERED = 64
"""Utterances remembered to tell how much of a gap fell into speech. Two would do: a gap sounds like silence."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Samples of a stream. Once it has ended, ``captured == recognised + silent + dropped``.

    Attributes:
        captured: offered to the stream.
        recognised: inside utterances.
        silent: the segmenter found no speech in them.
        dropped: lost because the buffer was full.
        previews_skipped: previews (not samples) that were due but gave way to something more urgent.
    """

    captured: int
    recognised: int
    silent: int
    dropped: int
    previews_skipped: int


class Ledger:
    """Adds up utterances and gaps. A gap inside an utterance counts as dropped, not as recognised."""

    def __init__(self) -> None:
        self._extents: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self._gaps: deque[Gap] = deque()
        self._in_utterances = 0
        self._dropped_in_utterances = 0

    def utterance(self, start: int, end: int) -> None:
        """An utterance covers the samples [start, end)."""
        self._in_utterances += end - start
        self._extents.append((start, end))

    def gap(self, gap: Gap) -> None:
        self._gaps.append(gap)

    def settle(self, position: int) -> None:
        """No utterance to come begins before ``position``, so gaps until there can be accounted for."""
        while self._gaps and self._gaps[0].stop <= position:
            gap = self._gaps.popleft()
            for start, end in self._extents:
                self._dropped_in_utterances += max(0, min(end, gap.stop) - max(start, gap.start))

    def counts(self, captured: int, dropped: int, previews_skipped: int) -> Counts:
        recognised = self._in_utterances - self._dropped_in_utterances
        return Counts(captured, recognised, captured - dropped - recognised, dropped, previews_skipped)
