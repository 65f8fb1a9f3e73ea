"""Deepgram's published client, pointed at a local server."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.serving import TIMEOUT_S

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package uses deprecated names of its dependencies
    from deepgram import DeepgramClient
    from deepgram.environment import DeepgramClientEnvironment


def deepgram_environment(address: str) -> DeepgramClientEnvironment:
    """Endpoints of the server at ``address``, HOST:PORT."""
    http, ws = f"http://{address}", f"ws://{address}"
    return DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)


@contextmanager
def deepgram_client(address: str, key: str = "any") -> Iterator[DeepgramClient]:
    """Client for the server at ``address``, HOST:PORT."""
    with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as http_client:
        environment = deepgram_environment(address)
        yield DeepgramClient(api_key=key, environment=environment, httpx_client=http_client)
