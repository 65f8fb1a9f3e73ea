"""Where every captured sample of a stream went."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stream_asr.audio.ring_buffer import Gap
from stream_asr.config import ms_to_samples, samples_to_ms
from stream_asr.events import Marked, Overload

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


class SampleAccounting:
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


@dataclass(frozen=True, slots=True)
class _Reached:
    """A mark up to which the audio was heard, and what the model still had to do then."""

    mark: int
    position: int
    windows: int


class Marks:
    """Holds the marks that were heard, oldest first, until the model has caught up with them."""

    def __init__(self) -> None:
        self._reached: deque[_Reached] = deque()
        self._planned = self._delivered = 0

    def planned(self) -> None:
        """Another window whose frames will be kept waits for the model."""
        self._planned += 1

    def delivered(self) -> None:
        """The oldest of them came back; they come back in their order."""
        self._delivered += 1

    def reach(self, mark: int, position: int) -> None:
        """All audio up to ``position``, where ``mark`` was set, has been heard, and its windows are planned."""
        self._reached.append(_Reached(mark, position, self._planned))

    def passed(self, reflected: int, idle: bool) -> list[Marked]:
        """The marks whose windows are all done, in order, each once.

        Args:
            reflected: newest sample that the captions reflect.
            idle: no preview is due or out, so that more can only come of more audio.
        """
        passed = []
        while self._reached and self._is_done(self._reached[0], reflected, idle):
            passed.append(Marked(self._reached.popleft().mark))
        return passed

    def _is_done(self, reached: _Reached, reflected: int, idle: bool) -> bool:
        return self._delivered >= reached.windows and (idle or reflected >= reached.position)


_REPEAT_MS = 1000
"""Audio between two events of a stream that stays behind."""


class OverloadAlarm:
    """Raised by a lag of more than ``limit_ms``, and again while it stays so."""

    def __init__(self, limit_ms: int) -> None:
        self._limit_ms = limit_ms
        self._raised_at = 0

    def check(self, captured: int, lag_samples: int) -> list[Overload]:
        """The event, if one is due.

        Args:
            captured: samples of the stream so far.
        """
        lag_ms = samples_to_ms(lag_samples)
        if lag_ms <= self._limit_ms or captured - self._raised_at < ms_to_samples(_REPEAT_MS):
            return []
        self._raised_at = captured
        return [Overload(lag_ms)]
