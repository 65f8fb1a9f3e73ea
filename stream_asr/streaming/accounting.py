"""What a stream reports about its own progress.

`SampleAccounting` counts where each captured sample went, `Marks` reports when the audio before a mark has been
recognized, and `OverloadAlarm` reports a stream that falls behind. All positions are absolute samples.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from stream_asr.audio.ring_buffer import Gap
from stream_asr.config import ms_to_samples, samples_to_ms
from stream_asr.events import Marked, Overload

_MAX_UTTERANCES = 64
"""Bound on the utterances that are compared with a gap. A gap reads as silence, so it overlaps two at most."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Sample counts of a stream. Once the stream has ended, ``captured == recognised + silent + dropped``.

    Attributes:
        captured: samples fed to the stream.
        recognised: samples inside utterances.
        silent: samples outside utterances.
        dropped: samples lost because the buffer was full.
        previews_skipped: number of previews (not samples) that were due but gave way to more urgent windows.
    """

    captured: int
    recognised: int
    silent: int
    dropped: int
    previews_skipped: int


class SampleAccounting:
    """Counts the samples of utterances. A gap inside an utterance counts as dropped, not as recognized."""

    def __init__(self) -> None:
        self._utterances: deque[tuple[int, int]] = deque(maxlen=_MAX_UTTERANCES)
        self._gaps: deque[Gap] = deque()
        self._in_utterances = 0
        self._dropped_in_utterances = 0

    def add_utterance(self, start: int, end: int) -> None:
        """Count the utterance [start, end)."""
        self._in_utterances += end - start
        self._utterances.append((start, end))

    def add_gap(self, gap: Gap) -> None:
        """Add a gap, to be counted by `settle`."""
        self._gaps.append(gap)

    def settle(self, position: int) -> None:
        """Count the gaps before ``position``. No later utterance may start before it."""
        while self._gaps and self._gaps[0].stop <= position:
            gap = self._gaps.popleft()
            for start, end in self._utterances:
                self._dropped_in_utterances += max(0, min(end, gap.stop) - max(start, gap.start))

    def counts(self, captured: int, dropped: int, previews_skipped: int) -> Counts:
        """Return all counts; the arguments are those that the caller keeps itself."""
        recognised = self._in_utterances - self._dropped_in_utterances
        return Counts(captured, recognised, captured - dropped - recognised, dropped, previews_skipped)


@dataclass(frozen=True, slots=True)
class _PendingMark:
    """A mark at ``position``; ``serial`` counts the marks before it."""

    mark: int
    position: int
    serial: int


class Marks:
    """Holds marks, oldest first, until the audio before them has been recognized.

    A mark is added when the endpointer has reached its position. At that time all commit windows before it are
    planned, and so are their decoding passes. The mark passes once these jobs are done. Jobs are not always done in
    the order in which they were planned.
    """

    def __init__(self) -> None:
        self._pending: deque[_PendingMark] = deque()
        self._added = 0
        self._unfinished: Counter[int] = Counter()  # jobs by the number of marks before them

    def jobs_planned(self, jobs: int = 1) -> int:
        """Count a commit window that was queued, and the decoding pass that will follow it.

        Returns:
            Number of marks before these jobs, for `job_done`.
        """
        self._unfinished[self._added] += jobs
        return self._added

    def job_done(self, marks_before: int) -> None:
        """Count a commit window or a decoding pass whose output was delivered."""
        self._unfinished[marks_before] -= 1
        if not self._unfinished[marks_before]:
            del self._unfinished[marks_before]

    def add(self, mark: int, position: int) -> None:
        """Add a mark at ``position``, the end of the audio that the endpointer has processed."""
        self._pending.append(_PendingMark(mark, position, self._added))
        self._added += 1

    def take_passed(self, reflected: int, idle: bool) -> list[Marked]:
        """Remove and return the marks that have passed, in order.

        Args:
            reflected: newest sample that the captions reflect.
            idle: whether no preview is due or in flight, so that captions change only with more audio.
        """
        passed = []
        while self._pending and self._has_passed(self._pending[0], reflected, idle):
            passed.append(Marked(self._pending.popleft().mark))
        return passed

    def _has_passed(self, pending: _PendingMark, reflected: int, idle: bool) -> bool:
        jobs_done = all(marks_before > pending.serial for marks_before in self._unfinished)
        return jobs_done and (idle or reflected >= pending.position)


class OverloadAlarm:
    """Reports a lag above a limit, and reports it again while it lasts.

    Args:
        limit_ms: the largest lag that is not reported.
        interval_ms: minimum audio between two reports.
    """

    def __init__(self, limit_ms: int, interval_ms: int) -> None:
        self._limit_ms = limit_ms
        self._interval = ms_to_samples(interval_ms)
        self._reported_at = 0

    def check(self, captured: int, lag_samples: int) -> list[Overload]:
        """Return the event that is due, if any.

        Args:
            captured: samples captured so far.
            lag_samples: how far the captions are behind them.
        """
        lag_ms = samples_to_ms(lag_samples)
        if lag_ms <= self._limit_ms or captured - self._reported_at < self._interval:
            return []
        self._reported_at = captured
        return [Overload(lag_ms)]
