"""How fast audio may come, and when it came. Both are told the time, and never ask for it."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque


class Pace:
    """A bucket of audio that refills at ``speed`` times real time and holds ``burst_s`` seconds.

    Args:
        now_s: any clock that only goes forward; later calls use the same.
    """

    def __init__(self, speed: float, burst_s: float, now_s: float) -> None:
        self._speed, self._burst_s = speed, burst_s
        self._left_s, self._at_s = burst_s, now_s

    def wait_s(self, audio_s: float, now_s: float) -> float:
        """How long to wait after ``audio_s`` seconds of audio before any more may be taken."""
        self._left_s = min(self._burst_s, self._left_s + (now_s - self._at_s) * self._speed) - audio_s
        self._at_s = now_s
        return max(0.0, -self._left_s / self._speed)


class Timeline:
    """When each stretch of audio arrived, for as far back as finals look.

    Args:
        span_s: audio that is remembered.
        step_s: audio between two notes, at least.
    """

    def __init__(self, span_s: float = 90.0, step_s: float = 0.1) -> None:
        self._step_s = step_s
        self._positions_s: deque[float] = deque(maxlen=round(span_s / step_s))
        self._times_s: deque[float] = deque(maxlen=round(span_s / step_s))

    def note(self, position_s: float, now_s: float) -> None:
        """Audio up to ``position_s`` is there now."""
        if not self._positions_s or position_s - self._positions_s[-1] >= self._step_s:
            self._positions_s.append(position_s)
            self._times_s.append(now_s)

    def when(self, position_s: float) -> float | None:
        """When the audio at ``position_s`` had arrived; None when that was not noted, or is forgotten."""
        at = bisect_left(self._positions_s, position_s)
        if at == len(self._positions_s) or (at == 0 and len(self._positions_s) == self._positions_s.maxlen):
            return None
        return self._times_s[at]
