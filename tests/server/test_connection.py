"""What all sockets of the server have in common."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from stream_asr import Recognizer
from stream_asr.server.connection import WebSocketConnection
from stream_asr.server.metrics import Metrics
from stream_asr.server.settings import ServerSettings
from tests.support.fakes import FakeModel, loud
from tests.support.serving import run_server


class Flood:
    """A websocket whose next message is always there already."""

    async def receive(self) -> dict[str, Any]:
        return {"type": "websocket.receive", "bytes": b""}


def test_others_get_their_turn_between_two_messages() -> None:
    async def talk() -> int:
        with Recognizer(FakeModel(), detector=lambda: loud) as recognizer:
            socket: Any = WebSocketConnection(Flood(), ServerSettings(), Metrics(lambda: recognizer.stats))  # type: ignore[arg-type]
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(100):
            await socket.receive(None)
        task.cancel()
        return turns

    assert asyncio.run(talk()) >= 99


UPDATE = json.dumps({"type": "session.update", "session": {"type": "transcription"}})


@pytest.mark.parametrize(
    ("path", "first", "message"),
    [
        ("/v1/stream", '{"type":"start","sample_rate":16000}', b""),
        ("/v1/listen?encoding=linear16&sample_rate=16000", None, '{"type":"KeepAlive"}'),
        ("/vosk", None, '{"config":{"words":1}}'),
        ("/v1/realtime", None, UPDATE),
    ],
)
def test_a_flood_of_tiny_messages_is_slowed_down(path: str, first: str | None, message: str | bytes) -> None:
    """Each counts as 2 ms of audio, of which 2 s may come at once."""
    with run_server(max_speed=1.0) as server, server.connect(path, max_queue=None) as connection:
        began_s = time.monotonic()
        for sent in (first, *[message] * 1250, "no JSON"):
            if sent is not None:
                connection.send(sent)
        with suppress(ConnectionClosed):
            while "not JSON" not in str(connection.recv()):
                pass
        assert time.monotonic() - began_s > 0.4
