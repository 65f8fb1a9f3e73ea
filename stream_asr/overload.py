"""When a stream says that it falls behind."""

from __future__ import annotations

from stream_asr.config import ms_to_samples, samples_to_ms
from stream_asr.events import Overload

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
