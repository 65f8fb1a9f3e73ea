"""Rules for the websocket connections of all protocols."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed

from stream_asr import Recognizer
from stream_asr.server.connection import WebSocketConnection
from stream_asr.server.metrics import Metrics
from stream_asr.server.settings import ServerSettings
from tests.support.fakes import FakeModel, loud
from tests.support.serving import run_server


class EndlessWebSocket:
    """Websocket that always has another message."""

    async def receive(self) -> dict[str, Any]:
        return {"type": "websocket.receive", "bytes": b""}


def test_other_tasks_run_between_two_messages() -> None:
    async def count_turns() -> int:
        with Recognizer(FakeModel(), detector=lambda: loud) as recognizer:
            websocket = cast(WebSocket, EndlessWebSocket())
            connection = WebSocketConnection(websocket, ServerSettings(), Metrics(lambda: recognizer.stats))
        turns = 0

        async def take_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(take_turns())
        for _ in range(100):
            await connection.receive(None)
        task.cancel()
        return turns

    assert asyncio.run(count_turns()) >= 99


SESSION_UPDATE = json.dumps({"type": "session.update", "session": {"type": "transcription"}})


@pytest.mark.parametrize(
    ("path", "first", "message"),
    [
        ("/v1/stream", '{"type":"start","sample_rate":16000}', b""),
        ("/v1/listen?encoding=linear16&sample_rate=16000", None, '{"type":"KeepAlive"}'),
        ("/vosk", None, '{"config":{"words":1}}'),
        ("/v1/realtime", None, SESSION_UPDATE),
    ],
)
def test_flood_of_tiny_messages_is_slowed_down(path: str, first: str | None, message: str | bytes) -> None:
    """Each message counts as 2 ms of audio; 2 s of audio are accepted at once."""
    with run_server(max_speed=1.0) as server, server.connect(path, max_queue=None) as connection:
        started_s = time.monotonic()
        for each in (first, *[message] * 1250, "no JSON"):
            if each is not None:
                connection.send(each)
        with suppress(ConnectionClosed):
            while "not JSON" not in str(connection.recv()):
                pass
        assert time.monotonic() - started_s > 0.4
