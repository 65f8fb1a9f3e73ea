"""What the codecs have in common: text messages that are JSON objects, and refusals that show what was wrong."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from stream_asr.server.errors import CloseCode, SessionError

BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
"""As queries and forms write them."""


def load(text: str) -> dict[str, Any]:
    """A text message as an object.

    Raises:
        SessionError: it is not JSON, or no object.
    """
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise SessionError("invalid_json", f"not JSON: {reason}", CloseCode.INVALID_DATA) from None
    if not isinstance(message, dict):
        refuse("a message is a JSON object")
    return message


def dump(message: dict[str, Any], *, ascii_only: bool = False) -> str:
    """A message as text.

    Args:
        ascii_only: for what a client said and gets back. Half of a surrogate pair must come back as it was sent, and
            UTF-8 has none.
    """
    return json.dumps(message, ensure_ascii=ascii_only, separators=(",", ":"))


def refuse(reason: str) -> NoReturn:
    raise SessionError("bad_message", reason)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def shown(value: object) -> str:
    """As JSON, and short: errors go into logs and close frames."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:37]}..."
