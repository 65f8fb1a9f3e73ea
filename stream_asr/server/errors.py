"""Errors that end a connection and are reported to the client."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Websocket close codes that this server sends: RFC 6455, section 7.4.1, and the IANA registry of close codes."""

    NORMAL = 1000
    GOING_AWAY = 1001
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013


_HTTP_STATUS = {
    CloseCode.GOING_AWAY: 503,
    CloseCode.TRY_AGAIN_LATER: 503,
    CloseCode.INTERNAL_ERROR: 500,
    CloseCode.TOO_BIG: 413,
}


class SessionError(Exception):
    """Error that ends one connection. It is sent in the protocol's error message, if any, and in the close frame.

    Attributes:
        code: stable short name, for programs.
        message: what was wrong and what is accepted, for people.
        close_code: close code of the websocket.
    """

    def __init__(self, code: str, message: str, close_code: CloseCode = CloseCode.POLICY_VIOLATION) -> None:
        super().__init__(message)
        self.code, self.message, self.close_code = code, message, close_code

    @property
    def http_status(self) -> int:
        """Status of an HTTP response that reports this error; 400 for errors of the client."""
        return _HTTP_STATUS.get(self.close_code, 400)


def internal_error() -> SessionError:
    """Return the error for an unexpected exception. It reveals no details to the client."""
    return SessionError("internal", "internal server error; see the server's log", CloseCode.INTERNAL_ERROR)


class TakenOverError(SessionError):
    """Another connection resumed the session. Ends this connection but not the session."""

    def __init__(self) -> None:
        super().__init__("taken_over", "another connection has resumed this session")


class IdleTimeoutError(SessionError):
    """The client sent no message within the idle timeout. Its session still gets the last finals."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__("idle_timeout", f"no message received within {timeout_s:g} s")
