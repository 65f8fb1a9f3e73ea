"""Objects that OpenAI's interfaces share: errors, models, and transcripts that are sent as deltas."""

from __future__ import annotations

from typing import Any

from stream_asr.server.errors import CloseCode, SessionError


class RequestError(SessionError):
    """An invalid request or message; a connection survives it.

    Attributes:
        param: name of the invalid parameter, if there is one.
    """

    def __init__(
        self, code: str, message: str, *, param: str | None = None, close_code: CloseCode = CloseCode.POLICY_VIOLATION
    ) -> None:
        super().__init__(code, message, close_code)
        self.param = param


def error_object(error: SessionError) -> dict[str, Any]:
    """Build the ``error`` object of a response body or an ``error`` event."""
    param = error.param if isinstance(error, RequestError) else None
    return _error_object(error.http_status, error.code, error.message, param)


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    """Build the body of an HTTP error response."""
    return {"error": _error_object(status, code, message, None)}


def _error_object(status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    error_type = "server_error" if status >= 500 else "invalid_request_error"
    return {"message": message, "type": error_type, "param": param, "code": code}


def model_object(name: str) -> dict[str, Any]:
    """Build the description of a model. The creation time is unknown, so ``created`` is 0."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "stream-asr"}


class Transcript:
    """Text of successive utterances, sent as deltas. Text that was sent never changes.

    Attributes:
        text: all deltas so far, joined.
    """

    def __init__(self) -> None:
        self.text = ""
        self._sent_characters = 0  # of the current utterance

    def extend(self, stable: str) -> str:
        """Update the current utterance.

        Args:
            stable: stable text of the utterance so far; begins with the earlier stable text. May be empty.

        Returns:
            The delta, with a space in front between utterances; empty if nothing is new.
        """
        delta = stable[self._sent_characters :]
        if delta and not self._sent_characters and self.text:
            delta = f" {delta}"
        self._sent_characters = len(stable)
        self.text += delta
        return delta

    def end_utterance(self, text: str) -> str:
        """Complete the current utterance and begin the next.

        Args:
            text: text of the final.

        Returns:
            The delta; see `extend`.
        """
        delta = self.extend(text)
        self._sent_characters = 0
        return delta
