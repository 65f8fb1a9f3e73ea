"""Deepgram's published SDK, connected to a server of a test, and a compact form of its live messages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.serving import TIMEOUT_S

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK imports deprecated names of its dependencies
    from deepgram import AsyncDeepgramClient, DeepgramClient
    from deepgram.core.api_error import ApiError
    from deepgram.core.events import EventType
    from deepgram.environment import DeepgramClientEnvironment

__all__ = [
    "ApiError",
    "AsyncDeepgramClient",
    "DeepgramClient",
    "EventType",
    "deepgram_client",
    "deepgram_environment",
    "summarize",
]


def deepgram_environment(address: str) -> DeepgramClientEnvironment:
    """Return the SDK's configuration for the server at ``address``, HOST:PORT."""
    http, ws = f"http://{address}", f"ws://{address}"
    return DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)


@contextmanager
def deepgram_client(address: str, key: str = "any") -> Iterator[DeepgramClient]:
    """Open a client of the server at ``address``, HOST:PORT."""
    with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as http_client:
        yield DeepgramClient(api_key=key, environment=deepgram_environment(address), httpx_client=http_client)


def summarize(message: dict[str, Any]) -> tuple[Any, ...]:
    """Summarize a live message.

    Returns:
        For results: start and end in seconds, the transcript, and the initials of the flags that are set (``i`` for
        is_final, ``s`` for speech_final, ``f`` for from_finalize). For other messages: the type.
    """
    if message["type"] != "Results":
        return (message["type"],)
    flags = "".join(name[0] for name in ("is_final", "speech_final", "from_finalize") if message[name])
    transcript = message["channel"]["alternatives"][0]["transcript"]
    return message["start"], message["start"] + message["duration"], transcript, flags
