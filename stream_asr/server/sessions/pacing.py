"""Pace and arrival times of audio. The current time is an argument; nothing here reads a clock."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque


class RateLimiter:
    """Token bucket, measured in seconds of audio.

    Args:
        speed: refill rate, in multiples of real time.
        burst_s: capacity.
        now_s: current time of any monotonic clock; later calls use the same clock.
    """

    def __init__(self, speed: float, burst_s: float, now_s: float) -> None:
        self._speed, self._burst_s = speed, burst_s
        self._level_s, self._updated_s = burst_s, now_s

    def delay_s(self, audio_s: float, now_s: float) -> float:
        """Withdraw ``audio_s`` seconds of audio; return how long to wait before any more audio may be accepted."""
        refill_s = (now_s - self._updated_s) * self._speed
        self._level_s = min(self._burst_s, self._level_s + refill_s) - audio_s
        self._updated_s = now_s
        return max(0.0, -self._level_s / self._speed)


class ArrivalTimes:
    """Arrival times of the most recent audio, by position.

    Args:
        span_s: audio for which arrival times are kept.
        step_s: minimum audio between two recorded times.
    """

    def __init__(self, span_s: float, step_s: float) -> None:
        self._step_s = step_s
        self._positions_s: deque[float] = deque(maxlen=round(span_s / step_s))
        self._times_s: deque[float] = deque(maxlen=round(span_s / step_s))

    def record(self, position_s: float, now_s: float) -> None:
        """Record that the audio up to ``position_s`` has arrived by now."""
        if not self._positions_s or position_s - self._positions_s[-1] >= self._step_s:
            self._positions_s.append(position_s)
            self._times_s.append(now_s)

    def time_of(self, position_s: float) -> float | None:
        """Return when the audio at ``position_s`` had arrived; None if it has not arrived or is no longer recorded."""
        index = bisect_left(self._positions_s, position_s)
        if index == len(self._positions_s) or (index == 0 and len(self._positions_s) == self._positions_s.maxlen):
            return None
        return self._times_s[index]
