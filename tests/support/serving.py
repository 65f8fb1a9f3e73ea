"""Servers on local sockets, in a thread or in a process, and a client of the native protocol that tests control."""

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
from stream_asr.server.service import Service
from stream_asr.server.settings import ServerSettings
from tests.support.fakes import FakeModel, conversation, loud

CONTROL_TYPES = {"ready", "ack", "done", "error"}
TIMEOUT_S = 60.0
"""Longer than anything takes; a test that waits so long has failed."""


class RunningServer:
    """Server that runs in a thread.

    Attributes:
        port: port on 127.0.0.1.
        service: objects behind the routes of the server.
    """

    def __init__(
        self, port: int, service: Service, thread: threading.Thread, stop: Callable[[], None], connections: ExitStack
    ) -> None:
        self.port, self.service, self._thread, self._stop = port, service, thread, stop
        self._connections = connections

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def connect(self, path: str = "/v1/stream", **settings: Any) -> ClientConnection:
        """Connect a websocket; ``settings`` are those of websockets.

        The client sends no pings, and its size limit is off so that the server's limit is tested.
        """
        settings = {"compression": None, "ping_interval": None, "max_size": None, "proxy": None, **settings}
        connection: ClientConnection = connect(f"ws://{self.address}{path}", **settings)
        return connection

    def open(self, path: str = "/v1/stream", **settings: Any) -> ClientConnection:
        """Connect a websocket that is closed with the server at the latest."""
        return self._connections.enter_context(self.connect(path, **settings))

    def get(self, path: str, **settings: Any) -> httpx.Response:
        """Send a GET request; ``settings`` are those of httpx."""
        with httpx.Client(trust_env=False) as client:
            return client.get(f"http://{self.address}{path}", **settings)

    def post(self, path: str, **settings: Any) -> httpx.Response:
        """Send a POST request; ``settings`` are those of httpx."""
        with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as client:
            return client.post(f"http://{self.address}{path}", **settings)

    def metric(self, name: str) -> float:
        """Return the value of a metric, named with its labels as in the text format; 0 if it does not exist yet."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.service.metrics.render().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stop(self) -> None:
        """Start a shutdown, as SIGTERM does."""
        self._stop()

    def join(self) -> None:
        """Wait for the end of the server."""
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()


@contextmanager
def run_server(
    recognizer: Recognizer | None = None,
    *,
    tls: Tls | None = None,
    config: RecognizerConfig | None = None,
    **settings: Any,
) -> Iterator[RunningServer]:
    """Run a server in a thread.

    Args:
        recognizer: recognizer to serve; None for a recognizer with a fake model.
        tls: serve over TLS.
        config: configuration of the recognizer with a fake model.
        settings: fields of `ServerSettings`.
    """
    server_settings = ServerSettings(**{"close_timeout_s": 1.0, "grace_s": 20.0, **settings})
    served = recognizer or Recognizer(FakeModel(), config, detector=lambda: loud)
    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    server = make_server(served, server_settings, tls=tls, on_ready=ready.set)
    app: Any = server.config.app

    def stop() -> None:
        server.should_exit = True

    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    assert ready.wait(TIMEOUT_S)
    connections = ExitStack()
    try:
        with connections:
            yield RunningServer(listener.getsockname()[1], app.state.service, thread, stop, connections)
    finally:
        stop()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
        if recognizer is None:
            served.close()


@contextmanager
def server_process(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``stream-asr serve`` with the bundled model in a process.

    Yields:
        The process, and the server's address, ws://HOST:PORT.
    """
    command = [sys.executable, "-m", "stream_asr", "serve", "--port", "0", "--threads", "1", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if found := re.search(r"websocket (ws://\S+)/v1/stream", line):
                yield server, found[1]
                break
        else:
            pytest.fail("the server ended before it accepted connections")
    finally:
        server.kill()
        server.communicate()


def pcm(audio: FloatArray) -> bytes:
    """Encode samples as ``pcm_f32le``."""
    return np.asarray(audio, dtype="<f4").tobytes()


def pcm16(audio: FloatArray) -> bytes:
    """Encode samples as ``pcm_s16le``."""
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype("<i2").tobytes()


def blocked_model(event: threading.Event) -> FakeModel:
    """Fake model that returns no results before ``event`` is set."""

    def wait(windows: object) -> None:
        assert event.wait(TIMEOUT_S)

    return FakeModel(wait)


@contextmanager
def run_blocked_server(**settings: Any) -> Iterator[tuple[RunningServer, threading.Event]]:
    """Run a server whose model returns no results before the event is set, which happens at the end at the latest."""
    unblock = threading.Event()
    with (
        Recognizer(blocked_model(unblock), detector=lambda: loud) as recognizer,
        run_server(recognizer, **settings) as server,
    ):
        try:
            yield server, unblock
        finally:
            unblock.set()


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll ``condition`` until it is true; fail after `TIMEOUT_S`."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


class NativeClient:
    """Client of the native protocol, over one connection.

    Attributes:
        connection: the websocket.
        messages: all messages received so far.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[dict[str, Any]] = []

    def send_message(self, kind: str, **keys: Any) -> None:
        """Send a text message of type ``kind``."""
        self.connection.send(json.dumps({"type": kind, **keys}))

    def start(self, **keys: Any) -> dict[str, Any]:
        """Start a session; return the ``ready`` message."""
        self.send_message("start", **{"sample_rate": 16_000, "encoding": "pcm_f32le", **keys})
        return self.receive_until("ready")

    def receive(self) -> dict[str, Any]:
        """Receive the next message."""
        message: dict[str, Any] = json.loads(self.connection.recv(TIMEOUT_S))
        self.messages.append(message)
        return message

    def receive_until(self, kind: str) -> dict[str, Any]:
        """Receive messages until the first of type ``kind``, and return it. Fail at the end of the session."""
        while True:
            message = self.receive()
            if message["type"] == kind:
                return message
            assert message["type"] not in ("done", "error"), message

    def send(self, audio: FloatArray, block_samples: int = 16_000) -> None:
        """Send audio in blocks."""
        for start in range(0, len(audio), block_samples):
            self.connection.send(pcm(audio[start : start + block_samples]))

    def receive_close(self) -> tuple[dict[str, Any], int, str]:
        """Receive all remaining messages; return the last message, the close code and the close reason."""
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
        """Events received so far."""
        return [message for message in self.messages if message["type"] not in CONTROL_TYPES]

    @property
    def finals(self) -> list[str]:
        """Texts of the finals received so far."""
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
