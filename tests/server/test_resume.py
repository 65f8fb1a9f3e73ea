"""Connections that are lost, and sessions that are not."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.server.errors import SessionError
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.registry import SessionRegistry
from stream_asr.server.sessions.request import AudioFormat, SessionRequest
from stream_asr.server.settings import ServerSettings
from tests.support.fakes import FakeModel, conversation, loud
from tests.support.serving import NativeClient, RunningServer, run_server, wait_until

SAID = ["hello world", "how are you", "fine thanks", "and you too"]
AUDIO = conversation(*SAID)
CLIENTS = Path(__file__).parents[2] / "clients"


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module to copy from."""
    monkeypatch.syspath_prepend(str(CLIENTS))
    return importlib.import_module("captions")


def cut(client: NativeClient) -> None:
    """As a network does; what was on its way to the client is lost, or not."""
    client.connection.socket.shutdown(socket.SHUT_RDWR)
    with suppress(ConnectionClosed):
        while True:
            client.receive()


def resume(
    server: RunningServer, key: str, seen: list[dict[str, Any]], *, counted: bool = True
) -> tuple[NativeClient, int]:
    """The same client on a new connection, and the samples that the server has."""
    client = NativeClient(server.open())
    client.messages = seen
    client.send_message("resume", session=key, **({"events": len(client.events)} if counted else {}))
    return client, client.receive_until("ready")["received"]


def finals(recognizer: Recognizer, audio: FloatArray) -> list[dict[str, Any]]:
    return [final.to_json() for final in recognizer.iter_finals(audio)]


def test_a_session_outlives_its_connections(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        position = 0
        for end in (16_001, 30_000, 52_345, 90_000):
            client.send(AUDIO[position:end], 1600)
            cut(client)
            client, position = resume(server, key, client.messages)
            assert position <= end
            assert client.messages[-1]["events"] == len(client.events), "what the server sends next is what comes next"
        client.send(AUDIO[position:])
        client.send_message("finish")
        assert client.receive_until("done")["received"] == len(AUDIO)
        assert [event for event in client.events if event["type"] == "final"] == finals(fake_recognizer, AUDIO)
        started = [event["utterance"] for event in client.events if event["type"] == "speech_started"]
        assert started == list(range(len(SAID))), "each told once"
        assert server.metric("stream_asr_sessions_resumed_total") == 4


def test_what_happens_meanwhile_is_told_afterwards(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.send(AUDIO)
        client.send_message("ping", id=1)
        client.receive_until("pong")
        told = client.events
        cut(client)
        # As though nothing had arrived on that connection: all is sent once more.
        client, position = resume(server, key, [])
        assert position == len(AUDIO)
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == SAID
        assert {"type": "pong", "id": 1} in client.events
        assert len(client.events) <= len(told) + 1, "partials that were overtaken need not come again"


def test_done_can_be_lost_too(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer, max_sessions=1) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.send(AUDIO)
        client.send_message("finish")
        done = client.receive_until("done")
        client.connection.close()
        again, position = resume(server, key, [])
        assert position == len(AUDIO)
        again.send_message("finish")
        assert again.receive_until("done") == done
        assert again.finals == SAID


def test_a_client_that_does_not_count_goes_on_behind_what_was_sent(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.send(AUDIO[:60_000])
        client.send_message("ping", id=1)
        client.receive_until("pong")
        cut(client)
        client, position = resume(server, key, client.messages, counted=False)
        client.send(AUDIO[position:])
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == SAID


def test_a_new_connection_takes_over_from_one_that_is_half_open(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.send(AUDIO[:40_000])
        client.send_message("ping", id=1)
        client.receive_until("pong")
        successor, position = resume(server, key, list(client.messages))
        error, closed, _ = client.receive_close()
        assert (error["code"], closed) == ("taken_over", 1008)
        successor.send(AUDIO[position:])
        successor.send_message("finish")
        successor.receive_until("done")
        assert successor.finals == SAID


def test_a_session_that_ends_while_it_is_taken_over_is_gone(fake_recognizer: Recognizer) -> None:
    async def talk() -> SessionError:
        sessions = SessionRegistry(fake_recognizer, ServerSettings(), Metrics(lambda: fake_recognizer.stats))
        session = sessions.open(SessionRequest("native", AudioFormat(16_000)))
        taking_over = asyncio.create_task(sessions.resume(session.key, None))
        with suppress(SessionError), sessions.manage(session, resumable=True):
            await asyncio.sleep(0)
            raise SessionError("bad_message", "said just before")
        with pytest.raises(SessionError) as caught:
            await taking_over
        return caught.value

    assert asyncio.run(talk()).code == "unknown_session"


def test_a_client_that_says_goodbye_is_not_waited_for(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.connection.close()
        wait_until(lambda: server.service.sessions.open_count == 0)
        stranger = NativeClient(server.open())
        stranger.send_message("resume", session=key)
        assert stranger.receive_close()[0]["code"] == "unknown_session"


def test_nobody_is_waited_for_for_ever(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer, resume_window_s=0.05) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        cut(client)
        wait_until(lambda: server.metric('stream_asr_sessions_closed_total{ended_by="lost",protocol="native"}') == 1)
        late = NativeClient(server.open())
        late.send_message("resume", session=key)
        error, closed, _ = late.receive_close()
        assert (error["code"], closed) == ("unknown_session", 1008)
        assert "0.05 s" in error["message"]


def test_a_count_that_cannot_be_is_refused(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        cut(client)
        wrong = NativeClient(server.open())
        wrong.send_message("resume", session=key, events=5)
        error, closed, _ = wrong.receive_close()
        assert (error["code"], closed) == ("bad_resume", 1008)
        assert "the client cannot have received 5 events; 0 were sent" in error["message"]
        assert server.service.sessions.open_count == 0


class CuttingProxy:
    """Passes connections on to a server and cuts each of them after a random number of bytes from the client.

    A cut resets the connection, so that bytes under way are lost in both directions.
    """

    def __init__(self, port: int, cuts: int, seed: int) -> None:
        self._target, self._cuts, self._random = port, cuts, random.Random(seed)
        self.made = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                limit = self._random.randint(400, 60_000) if self.made < self._cuts else None
                threading.Thread(target=self._pass, args=(client, server, limit), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, None), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
                if limit is not None:
                    limit -= len(data)
                    if limit < 0:
                        self.made += 1
                        for end in (source, sink):
                            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def cutting(port: int, cuts: int, seed: int) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(port, cuts, seed)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_client_to_copy_from_comes_through_a_network_that_keeps_breaking(tmp_path: Path, seed: int) -> None:
    audio = np.tile(AUDIO, 3)
    path = tmp_path / "said.wav"
    soundfile.write(path, audio, 16_000, subtype="PCM_16")
    with (
        Recognizer(FakeModel(), detector=lambda: loud) as recognizer,
        run_server(recognizer, max_speed=1e6) as server,
        cutting(server.port, 12, seed) as proxy,
    ):
        options = ["--url", f"ws://127.0.0.1:{proxy.port}", "--pace", "max", "--text", "--srt", tmp_path / "said.srt"]
        result = subprocess.run(
            [sys.executable, CLIENTS / "stream_file.py", path, *options],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines() == SAID * 3
        assert proxy.made > 3
        assert (tmp_path / "said.srt").read_text().count("-->") == len(SAID) * 3


def stream_file(port: int, path: Path, *options: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program to copy from, on a recording; it would hang rather than take as long as this."""
    command = [sys.executable, CLIENTS / "stream_file.py", path, "--url", f"ws://127.0.0.1:{port}", "--text", *options]
    environment = {**os.environ, **environment}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, env=environment)


def test_the_token_of_a_client_can_come_from_the_environment(tmp_path: Path, fake_recognizer: Recognizer) -> None:
    path = tmp_path / "said.wav"
    soundfile.write(path, AUDIO, 16_000, subtype="PCM_16")
    with run_server(fake_recognizer, tokens=("secret",), max_speed=1e6) as server:
        assert "401" in stream_file(server.port, path, "--pace", "max").stderr
        assert stream_file(server.port, path, "--pace", "max", STREAM_ASR_TOKEN="secret").stdout.splitlines() == SAID


def test_a_damaged_recording_is_captioned_as_far_as_it_goes(tmp_path: Path, fake_recognizer: Recognizer) -> None:
    path = tmp_path / "said.flac"
    soundfile.write(path, AUDIO, 16_000, subtype="PCM_16")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))
    with run_server(fake_recognizer, max_speed=1e6) as server:
        result = stream_file(server.port, path, "--pace", "max", "--srt", tmp_path / "said.srt")
    assert result.returncode == 1
    assert result.stderr.startswith("stream_file: ")
    assert "Traceback" not in result.stderr
    assert result.stdout.splitlines()[0] == SAID[0]
    assert SAID[0] in (tmp_path / "said.srt").read_text()


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("ws://there:1", "ws://there:1/v1/stream"),
        ("wss://there/", "wss://there/v1/stream"),
        ("http://there:1/", "ws://there:1/v1/stream"),
        ("https://there/captions", "wss://there/captions/v1/stream"),
        ("there:1", "ws://there:1/v1/stream"),
        ("ws://there:1/v1/stream", "ws://there:1/v1/stream"),
    ],
)
def test_addresses_as_people_copy_them(captions: Any, url: str, asked: str) -> None:
    assert captions._websocket(url) == asked


def test_an_address_that_is_none_is_told(captions: Any) -> None:
    async def listen() -> None:
        async for _ in captions.Captions("ftp://there", 16_000):
            raise AssertionError("it says nothing")

    with pytest.raises(captions.ServerError, match="no connection to the server: ftp://there"):
        asyncio.run(listen())


@pytest.mark.parametrize("code", [1000, 1001])
def test_a_server_that_hangs_up_on_every_attempt_is_given_up(captions: Any, code: int) -> None:
    async def hang_up(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "ready", "session": "s"}))
        await connection.close(code)

    async def listen() -> None:
        async with serve(hang_up, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            session = captions.Captions(f"ws://127.0.0.1:{port}", 16_000, give_up_s=0.3)
            async for _ in session:
                raise AssertionError("it says nothing")

    with pytest.raises(captions.ServerError, match="closes every connection"):
        asyncio.run(asyncio.wait_for(listen(), 30))


def test_who_waits_for_room_hears_that_the_session_is_over(captions: Any) -> None:
    async def refuse(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "ready", "session": "s"}))
        await connection.recv()
        await connection.send(json.dumps({"type": "error", "message": "too fast"}))
        await connection.wait_closed()

    async def listen() -> list[BaseException | None]:
        async with serve(refuse, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            session = captions.Captions(f"ws://127.0.0.1:{port}", 16_000, window_s=0.1)

            async def feed() -> None:
                while True:
                    await session.send(bytes(1000))

            async def hear() -> None:
                async for _ in session:
                    raise AssertionError("it says nothing")

            return await asyncio.gather(feed(), hear(), return_exceptions=True)

    fed, heard = asyncio.run(asyncio.wait_for(listen(), 30))
    assert isinstance(fed, captions.ServerError)
    assert str(heard) == "too fast"
