"""JSON messages and the error texts that all codecs share."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from stream_asr.server.errors import CloseCode, SessionError

BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
"""Boolean values in query strings and form fields, in lower case."""

_MAX_SHOWN_CHARACTERS = 40


def load_message(text: str) -> dict[str, Any]:
    """Parse a text message.

    Raises:
        SessionError: the text is not JSON, or not a JSON object.
    """
    try:
        message = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise SessionError("invalid_json", f"the message is not JSON: {reason}", CloseCode.INVALID_DATA) from None
    if not isinstance(message, dict):
        reject_message("a message must be a JSON object")
    return message


def dump_message(message: dict[str, Any], *, ascii_only: bool = False) -> str:
    """Format a message.

    Args:
        ascii_only: escape all other characters. Required for text that came from a client: it may contain half of a
            surrogate pair, which has an escape in JSON but no encoding in UTF-8.
    """
    return json.dumps(message, ensure_ascii=ascii_only, separators=(",", ":"))


def reject_message(reason: str) -> NoReturn:
    """Raise the error for a message that does not follow the protocol."""
    raise SessionError("bad_message", reason)


def format_value(value: object) -> str:
    """Format a client's value for an error text, as JSON, shortened for logs and close frames."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[: _MAX_SHOWN_CHARACTERS - 3]}..."


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
