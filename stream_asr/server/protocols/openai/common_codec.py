"""What OpenAI's interfaces have in common: errors, models, and transcripts that only grow."""

from __future__ import annotations

from typing import Any

from stream_asr.server.errors import CloseCode, SessionError


class RequestError(SessionError):
    """A mistake in one request or message, in the words of these interfaces; a connection outlives it.

    Attributes:
        param: the parameter that is wrong, if it is one.
    """

    def __init__(
        self, code: str, message: str, *, param: str | None = None, close_code: CloseCode = CloseCode.POLICY_VIOLATION
    ) -> None:
        super().__init__(code, message, close_code)
        self.param = param


def error_object(error: SessionError) -> dict[str, Any]:
    """What is under ``error`` in the body of a failed request, and in an ``error`` event."""
    param = error.param if isinstance(error, RequestError) else None
    return _error_object(error.code, error.message, param, is_ours=error.http_status >= 500)


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    """The body of an answer with an HTTP ``status``."""
    return {"error": _error_object(code, message, None, is_ours=status >= 500)}


def _error_object(code: str, message: str, param: str | None, *, is_ours: bool) -> dict[str, Any]:
    kind = "server_error" if is_ours else "invalid_request_error"
    return {"message": message, "type": kind, "param": param, "code": code}


def model_object(name: str) -> dict[str, Any]:
    """A model; when it was made is not known here, so ``created`` is 0."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "stream-asr"}


class Transcript:
    """The text of successive utterances, in pieces that are never taken back.

    Attributes:
        text: the joined pieces so far.
    """

    def __init__(self) -> None:
        self.text = ""
        self._told = 0  # characters of the utterance that goes on

    def grow(self, stable: str) -> str:
        """The piece that is new in the current utterance.

        Args:
            stable: its text so far, which begins with what was given before; may be empty.
        """
        piece = stable[self._told :]
        if piece and not self._told and self.text:
            piece = f" {piece}"
        self._told = len(stable)
        self.text += piece
        return piece

    def end(self, final: str) -> str:
        """The same for the whole text of the current utterance; the next one begins."""
        piece = self.grow(final)
        self._told = 0
        return piece
