"""The example clients in clients/."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.asyncio.server import ServerConnection, serve

from stream_asr import Recognizer
from tests.support.fakes import FakeModel, conversation, loud
from tests.support.proxy import resetting_proxy
from tests.support.serving import run_server

SENTENCES = ["hello world", "how are you", "fine thanks", "and you too"]
AUDIO = conversation(*SENTENCES)
CLIENTS = Path(__file__).parents[2] / "clients"


@pytest.fixture(scope="module")
def captions() -> Any:
    """The module clients/captions.py, which is not part of a package."""
    spec = importlib.util.spec_from_file_location("captions", CLIENTS / "captions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_stream_file(
    port: int, path: Path, *options: object, timeout_s: float = 60.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run clients/stream_file.py at maximum pace."""
    script = [sys.executable, CLIENTS / "stream_file.py", path]
    command = [*script, "--url", f"ws://127.0.0.1:{port}", "--pace", "max", "--text", *options]
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=timeout_s, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_stream_file_gets_all_captions_over_a_failing_network(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.tile(AUDIO, 3), 16_000, subtype="PCM_16")
    with (
        Recognizer(FakeModel(), detector=lambda: loud) as recognizer,
        run_server(recognizer, max_speed=1e6) as server,
        resetting_proxy(server.port, reset_limit=12, seed=seed) as proxy,
    ):
        result = run_stream_file(proxy.port, path, timeout_s=120)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines() == SENTENCES * 3
        assert proxy.resets > 3


def test_token_can_be_set_in_the_environment(tmp_path: Path, fake_recognizer: Recognizer) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, AUDIO, 16_000, subtype="PCM_16")
    with run_server(fake_recognizer, tokens=("secret",), max_speed=1e6) as server:
        assert "401" in run_stream_file(server.port, path).stderr
        assert run_stream_file(server.port, path, STREAM_ASR_TOKEN="secret").stdout.splitlines() == SENTENCES


def test_damaged_recording_is_captioned_up_to_the_damage(tmp_path: Path, fake_recognizer: Recognizer) -> None:
    path = tmp_path / "speech.flac"
    soundfile.write(path, AUDIO, 16_000, subtype="PCM_16")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    with run_server(fake_recognizer, max_speed=1e6) as server:
        result = run_stream_file(server.port, path)
    assert result.returncode == 1
    assert result.stderr.startswith("stream_file: ")
    assert "Traceback" not in result.stderr
    assert result.stdout.splitlines()[0] == SENTENCES[0]


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("ws://there:1", "ws://there:1/v1/stream"),
        ("wss://there/", "wss://there/v1/stream"),
        ("http://there:1/", "ws://there:1/v1/stream"),
        ("https://there/captions", "wss://there/captions/v1/stream"),
        ("there:1", "ws://there:1/v1/stream"),
        ("ws://there:1/v1/stream", "ws://there:1/v1/stream"),
    ],
)
def test_url_of_server_or_page_gives_the_endpoint(captions: Any, url: str, endpoint: str) -> None:
    assert captions._endpoint(url) == endpoint


def test_invalid_url_is_reported(captions: Any) -> None:
    async def receive() -> None:
        async for _ in captions.Captions("ftp://there", 16_000):
            raise AssertionError("no events are expected")

    with pytest.raises(captions.ServerError, match="no connection to the server: ftp://there"):
        asyncio.run(receive())


@pytest.mark.parametrize("code", [1000, 1001])
def test_client_gives_up_when_the_server_closes_every_connection(captions: Any, code: int) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "ready", "session": "s"}))
        await connection.close(code)

    async def receive() -> None:
        async with serve(close, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            session = captions.Captions(f"ws://127.0.0.1:{port}", 16_000, give_up_s=0.3)
            async for _ in session:
                raise AssertionError("no events are expected")

    with pytest.raises(captions.ServerError, match="closes every connection"):
        asyncio.run(asyncio.wait_for(receive(), 30))


def test_send_raises_when_the_session_ends_while_it_waits(captions: Any) -> None:
    async def report_error(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "ready", "session": "s"}))
        await connection.recv()
        await connection.send(json.dumps({"type": "error", "message": "too fast"}))
        await connection.wait_closed()

    async def send_and_receive() -> tuple[BaseException | None, BaseException | None]:
        async with serve(report_error, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            session = captions.Captions(f"ws://127.0.0.1:{port}", 16_000, window_s=0.1)

            async def send() -> None:
                while True:
                    await session.send(bytes(1000))

            async def receive() -> None:
                async for _ in session:
                    raise AssertionError("no events are expected")

            return await asyncio.gather(send(), receive(), return_exceptions=True)

    send_error, receive_error = asyncio.run(asyncio.wait_for(send_and_receive(), 30))
    assert isinstance(send_error, captions.ServerError)
    assert str(receive_error) == "too fast"
