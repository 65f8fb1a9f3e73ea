"""A server on a real socket of this machine, in a thread, and clients for it that do exactly what a test says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from stream_asr import Recognizer, RecognizerConfig
from stream_asr.array_types import FloatArray
from stream_asr.server.run import Tls, listen, make_server
from stream_asr.server.settings import ServerSettings
from tests.support.fakes import FakeModel, conversation, loud

CONTROL = {"ready", "ack", "done", "error"}
TIMEOUT_S = 60.0
"""Nothing takes so long; a test that waits for it has failed."""


class RunningServer:
    """A running server."""

    def __init__(
        self, port: int, service: Any, thread: threading.Thread, stop: Callable[[], None], connections: ExitStack
    ) -> None:
        self.port, self.service, self._thread, self._stop = port, service, thread, stop
        self._connections = connections

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, path: str = "/v1/stream", **settings: Any) -> ClientConnection:
        # The client's own tests of the connection would only add noise, and its limit hides the server's.
        settings = {"compression": None, "ping_interval": None, "max_size": None, "proxy": None, **settings}
        return connect(f"ws://{self.address}{path}", **settings)

    def open(self, path: str = "/v1/stream", **settings: Any) -> ClientConnection:
        """A connection that is closed with the server at the latest."""
        return self._connections.enter_context(self.connect(path, **settings))

    def get(self, path: str, **settings: Any) -> httpx.Response:
        with httpx.Client(trust_env=False) as client:
            return client.get(f"http://{self.address}{path}", **settings)

    def post(self, path: str, **settings: Any) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as client:
            return client.post(f"http://{self.address}{path}", **settings)

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
def run_server(
    recognizer: Recognizer | None = None,
    *,
    tls: Tls | None = None,
    config: RecognizerConfig | None = None,
    **limits: Any,
) -> Iterator[RunningServer]:
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
    connections = ExitStack()
    try:
        with connections:
            yield RunningServer(listener.getsockname()[1], server.config.app.state.service, thread, stop, connections)
    finally:
        stop()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
        if recognizer is None:
            made.close()


@contextmanager
def server_process(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and the address at which it serves."""
    command = [sys.executable, "-m", "stream_asr", "serve", "--port", "0", "--threads", "1", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if found := re.search(r"websocket (ws://\S+)/v1/stream", line):
                yield server, found[1]
                break
        else:
            pytest.fail("the server ended before it served")
    finally:
        server.kill()
        server.communicate()


def pcm(audio: FloatArray) -> bytes:
    """As ``pcm_f32le``: the fake model's amplitudes survive any encoding, but let us not think about it."""
    return np.asarray(audio, dtype="<f4").tobytes()


def pcm16(audio: FloatArray) -> bytes:
    """Encode samples as ``pcm_s16le``."""
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype("<i2").tobytes()


def blocked_model(event: threading.Event) -> FakeModel:
    """A model that does not answer before ``event``."""

    def wait(windows: object) -> None:
        assert event.wait(TIMEOUT_S)

    return FakeModel(wait)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


class NativeClient:
    """Speaks the native protocol over one connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[dict[str, Any]] = []

    def send_message(self, kind: str, **keys: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **keys}))

    def start(self, **keys: Any) -> dict[str, Any]:
        self.send_message("start", **{"sample_rate": 16_000, "encoding": "pcm_f32le", **keys})
        return self.receive_until("ready")

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(TIMEOUT_S))
        self.messages.append(message)
        return message

    def receive_until(self, kind: str) -> dict[str, Any]:
        while True:
            message = self.receive()
            if message["type"] == kind:
                return message
            assert message["type"] not in ("done", "error"), message

    def send(self, audio: FloatArray, block: int = 16_000) -> None:
        for at in range(0, len(audio), block):
            self.connection.send(pcm(audio[at : at + block]))

    def receive_close(self) -> tuple[dict[str, Any], int, str]:
        """Hear all that is left: the last message, and the code and reason of the close that follows."""
        with suppress(ConnectionClosed):
            while True:
                self.receive()
        assert self.connection.close_code is not None
        return (
            self.messages[-1] if self.messages else {},
            self.connection.close_code,
            self.connection.close_reason or "",
        )

    @property
    def events(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] not in CONTROL]

    @property
    def finals(self) -> list[str]:
        return [message["text"] for message in self.messages if message["type"] == "final"]


PROBE_TEXT = "all is well"


def assert_serves_new_client(server: RunningServer) -> None:
    """Check that a new client is served, whatever happened to other clients; it says `PROBE_TEXT`."""
    with server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(conversation(PROBE_TEXT), 1000)
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == [PROBE_TEXT]
