"""Deepgram's published client, pointed at a local server."""

from __future__ import annotations

from typing import Any


def summarize(message: dict[str, Any]) -> tuple[Any, ...]:
    """Summarize a message.

    Returns:
        For results: start and end in seconds, the transcript, and the initials of the flags that are set (``i`` for
        is_final, ``s`` for speech_final, ``f`` for from_finalize). For other messages: the type.
    """
    if message["type"] != "Results":
        return (message["type"],)
    flags = "".join(name[0] for name in ("is_final", "speech_final", "from_finalize") if message[name])
    transcript = message["channel"]["alternatives"][0]["transcript"]
    return message["start"], message["start"] + message["duration"], transcript, flags
