"""``stream-asr serve`` in a process, with the bundled model."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from tests.support.serving import NativeClient, server_process


def test_eight_concurrent_clients_get_the_finals_of_transcribe(recognizer: Recognizer, speech: FloatArray) -> None:
    pcm = np.rint(speech * 32767).astype("<i2")
    expected = [final.to_json() for final in recognizer.iter_finals(pcm)]
    finals: dict[int, list[dict[str, Any]]] = {}

    def stream_audio(address: str, number: int) -> None:
        with connect(f"{address}/v1/stream", proxy=None, ping_interval=None) as connection:
            client = NativeClient(connection)
            assert client.start(encoding="pcm_s16le")["second_pass"] == "embedded-en"
            block_samples = 1000 * (number + 1)
            for start in range(0, len(pcm), block_samples):
                connection.send(pcm[start : start + block_samples].tobytes())
            client.send_message("finish")
            client.receive_until("done")
            finals[number] = [message for message in client.messages if message["type"] == "final"]

    with server_process() as (server, address):
        threads = [threading.Thread(target=stream_audio, args=(address, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.send_signal(signal.SIGTERM)
        out, _ = server.communicate(timeout=60)
        assert server.returncode == 0
    assert expected
    for number in range(8):
        assert finals[number] == expected
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["ended_by"] for line in lines] == ["done"] * 8
    assert {line["finals"] for line in lines} == {len(expected)}


def test_sigterm_during_speech_sends_the_last_final(speech: FloatArray) -> None:
    pcm = np.rint(speech * 32767).astype("<i2")[: 5 * 16_000]
    with server_process() as (server, address):
        with connect(f"{address}/v1/stream", proxy=None) as connection:
            client = NativeClient(connection)
            client.start(encoding="pcm_s16le")
            connection.send(pcm.tobytes())
            client.send_message("ping", id=1)
            client.receive_until("pong")
            finals_before = len(client.finals)
            server.send_signal(signal.SIGTERM)
            error, closed, _ = client.receive_close()
            assert len(client.finals) > finals_before, "the utterance in progress has a final"
            assert (error["code"], closed) == ("shutting_down", 1001)
        assert server.wait(60) == 0


def run_serve(*options: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["-c", code] if code else ["-m", "stream_asr"]
    return subprocess.run([sys.executable, *command, "serve", *options], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-sessions", "0"], "max_sessions is 0; it must be at least 1"),
        (["--token", ""], "a token is empty"),
        (["--token-file", "missing.txt"], "cannot read --token-file missing.txt"),
        (["--keyfile", "key.pem"], "--keyfile requires --certfile"),
        (["--certfile", "missing.pem"], "the certificate or key file missing.pem does not exist"),
        (["--host", "no.such.host.invalid"], "cannot listen on 'no.such.host.invalid'"),
    ],
)
def test_invalid_options_are_rejected(options: list[str], message: str) -> None:
    result = run_serve(*options)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_refused_websocket_is_logged_without_error() -> None:
    with server_process("--token", "right") as (server, address):
        with pytest.raises(InvalidStatus):
            connect(f"{address}/v1/stream?token=wr0ng", proxy=None)
        server.send_signal(signal.SIGTERM)
        stdout, stderr = server.communicate(timeout=60)
    [line] = map(json.loads, stdout.splitlines())
    assert (line["message"], line["path"]) == ("refused: this token is not accepted", "/v1/stream")
    assert "wr0ng" not in stdout + stderr
    assert "handshake" not in stderr


def test_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = run_serve("--port", str(listener.getsockname()[1]))
    assert result.returncode == 1
    assert "Address already in use; choose another port with --port" in result.stderr
    assert "Traceback" not in result.stderr


def test_public_server_without_token_prints_a_warning(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("one\ntwo\n")
    options = ["--port", "0", "--host", "0.0.0.0", "--model", str(tmp_path)]  # fails to load after the warning
    assert "no token is set, so anyone who can reach this machine may connect" in run_serve(*options).stderr
    assert "anyone" not in run_serve(*options, "--token-file", str(tmp_path / "tokens")).stderr
    assert "anyone" not in run_serve(*options[:2], *options[4:]).stderr


def test_missing_package_is_named() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.argv[0] = 'stream-asr'\n"
        "from stream_asr.cli.main import main\nmain()"
    )
    result = run_serve(code=code)
    assert result.returncode == 2
    assert 'pip install "stream-asr[server]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_help_imports_no_heavy_packages() -> None:
    code = (
        "import sys\nfrom stream_asr.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'fastapi', 'uvicorn', 'starlette') if name in sys.modules])"
    )
    result = run_serve("--help", code=code)
    assert "--max-sessions" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"
