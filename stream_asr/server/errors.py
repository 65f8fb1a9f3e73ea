"""Why a connection ends before its time, in words for the client."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Those of RFC 6455, section 7.4.1, and of the registry it founded, that this server uses."""

    NORMAL = 1000
    GOING_AWAY = 1001
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013


_STATUS = {
    CloseCode.GOING_AWAY: 503,
    CloseCode.TRY_AGAIN_LATER: 503,
    CloseCode.INTERNAL_ERROR: 500,
    CloseCode.TOO_BIG: 413,
}


class SessionError(Exception):
    """Ends one connection. Each protocol has a message for it; then the websocket closes with ``close_code``.

    Attributes:
        code: for programs: a short name that stays the same.
        message: for people: what was wrong, and what is accepted.
    """

    def __init__(self, code: str, message: str, close_code: CloseCode = CloseCode.POLICY_VIOLATION) -> None:
        super().__init__(message)
        self.code, self.message, self.close_code = code, message, close_code

    @property
    def http_status(self) -> int:
        """Of a response that tells the same: 400 unless it was not the client's mistake, or its size."""
        return _STATUS.get(self.close_code, 400)


def internal() -> SessionError:
    """For what nobody foresaw: the client is told nothing of it."""
    return SessionError("internal", "the server failed; its log has the details", CloseCode.INTERNAL_ERROR)


class TakenOverError(SessionError):
    """Another connection resumed the session: this connection ends, the session does not."""

    def __init__(self) -> None:
        super().__init__("taken_over", "another connection has resumed this session")


class IdleTimeoutError(SessionError):
    """Nothing came from the client for too long. What it said before is worth its finals."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__("idle_timeout", f"no message came for {timeout_s:g} s")
