"""A server on a real socket of this machine, in a thread, and clients for it that do exactly what a test says."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from fakes import FakeModel, loud
from websockets.sync.client import ClientConnection, connect

from stream_asr import Recognizer, RecognizerConfig
from stream_asr.arrays import FloatArray
from stream_asr.server.serve import Tls, listen, make_server
from stream_asr.server.settings import ServerSettings

CONTROL = {"ready", "ack", "done", "error"}
TIMEOUT_S = 60.0
"""Nothing takes so long; a test that waits for it has failed."""


class Served:
    """A running server."""

    def __init__(self, port: int, service: Any, thread: threading.Thread, stop: Any) -> None:
        self.port, self.service, self._thread, self._stop = port, service, thread, stop

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, path: str = "/v1/stream", **settings: Any) -> ClientConnection:
        # The client's own tests of the connection would only add noise, and its limit hides the server's.
        settings = {"compression": None, "ping_interval": None, "max_size": None, "proxy": None, **settings}
        return connect(f"ws://{self.address}{path}", **settings)

    def get(self, path: str, **settings: Any) -> httpx.Response:
        with httpx.Client(trust_env=False) as client:
            return client.get(f"http://{self.address}{path}", **settings)

    def metric(self, line: str) -> float:
        """The value of a sample, named as in the text format; 0 when it is not there yet."""
        found = re.search(rf"^{re.escape(line)} (\S+)$", self.service.metrics.render().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stop(self) -> None:
        """As SIGTERM does."""
        self._stop()

    def join(self) -> None:
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()


@contextmanager
def serving(
    recognizer: Recognizer | None = None,
    *,
    tls: Tls | None = None,
    config: RecognizerConfig | None = None,
    **limits: Any,
) -> Iterator[Served]:
    """Serve ``recognizer``, or one with a fake model."""
    settings = ServerSettings(**{"close_timeout_s": 1.0, "grace_s": 20.0, **limits})
    made = recognizer or Recognizer(FakeModel(), config, detector=lambda: loud)
    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    server = make_server(made, settings, tls=tls, on_ready=ready.set)

    def stop() -> None:
        server.should_exit = True

    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    assert ready.wait(TIMEOUT_S)
    served = Served(listener.getsockname()[1], server.config.app.state.service, thread, stop)
    try:
        yield served
    finally:
        stop()
        served.join()
        if recognizer is None:
            made.close()


def pcm(audio: FloatArray) -> bytes:
    """As ``pcm_f32le``: the fake model's amplitudes survive any encoding, but let us not think about it."""
    return np.asarray(audio, dtype="<f4").tobytes()


class Client:
    """Speaks the native protocol over one connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []

    def say(self, kind: str, **keys: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **keys}))

    def start(self, **keys: Any) -> dict[str, Any]:
        self.say("start", **{"sample_rate": 16_000, "encoding": "pcm_f32le", **keys})
        return self.until("ready")

    def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(TIMEOUT_S))
        self.seen.append(message)
        return message

    def until(self, kind: str) -> dict[str, Any]:
        while True:
            message = self.hear()
            if message["type"] == kind:
                return message
            assert message["type"] not in ("done", "error"), message

    def send(self, audio: FloatArray, block: int = 16_000) -> None:
        for at in range(0, len(audio), block):
            self.connection.send(pcm(audio[at : at + block]))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [message for message in self.seen if message["type"] not in CONTROL]

    @property
    def finals(self) -> list[str]:
        return [message["text"] for message in self.seen if message["type"] == "final"]
