"""``stream-asr serve`` as a process of its own, with the embedded model."""

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


def test_the_finals_are_those_of_transcribe_for_eight_clients_at_once(
    recognizer: Recognizer, speech: FloatArray
) -> None:
    pcm = np.rint(speech * 32767).astype("<i2")
    expected = [final.to_json() for final in recognizer.iter_finals(pcm)]
    heard: dict[int, list[dict[str, Any]]] = {}

    def caption(address: str, number: int) -> None:
        with connect(f"{address}/v1/stream", proxy=None, ping_interval=None) as connection:
            client = NativeClient(connection)
            client.start(encoding="pcm_s16le")
            size = 1000 * (number + 1)
            for at in range(0, len(pcm), size):
                connection.send(pcm[at : at + size].tobytes())
            client.send_message("finish")
            client.receive_until("done")
            heard[number] = [message for message in client.messages if message["type"] == "final"]

    with server_process() as (server, address):
        threads = [threading.Thread(target=caption, args=(address, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.send_signal(signal.SIGTERM)
        out, _ = server.communicate(timeout=60)
        assert server.returncode == 0
    assert expected
    for number in range(8):
        assert heard[number] == expected
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["ended_by"] for line in lines] == ["done"] * 8
    assert {line["finals"] for line in lines} == {len(expected)}


def test_sigterm_in_mid_speech(speech: FloatArray) -> None:
    pcm = np.rint(speech * 32767).astype("<i2")[: 5 * 16_000]
    with server_process() as (server, address):
        with connect(f"{address}/v1/stream", proxy=None) as connection:
            client = NativeClient(connection)
            client.start(encoding="pcm_s16le")
            connection.send(pcm.tobytes())
            client.send_message("ping", id=1)
            client.receive_until("pong")
            before = len(client.finals)
            server.send_signal(signal.SIGTERM)
            error, closed, _ = client.receive_close()
            assert len(client.finals) > before, "the utterance that was going on got its final"
            assert (error["code"], closed) == ("shutting_down", 1001)
        assert server.wait(60) == 0


def run(*options: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["-c", code] if code else ["-m", "stream_asr"]
    return subprocess.run([sys.executable, *command, "serve", *options], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-sessions", "0"], "max_sessions is 0; it must be at least 1"),
        (["--token", ""], "a token is empty"),
        (["--token-file", "missing.txt"], "cannot read --token-file missing.txt"),
        (["--keyfile", "key.pem"], "--keyfile requires --certfile"),
        (["--certfile", "missing.pem"], "the certificate or key file missing.pem does not exist"),
        (["--host", "no.such.host.invalid"], "cannot listen on 'no.such.host.invalid'"),
    ],
)
def test_wrong_options_end_at_once(options: list[str], says: str) -> None:
    result = run(*options)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_refused_websocket_is_a_line_in_the_log_and_no_error() -> None:
    with server_process("--token", "right") as (server, address):
        with pytest.raises(InvalidStatus):
            connect(f"{address}/v1/stream?token=wr0ng", proxy=None)
        server.send_signal(signal.SIGTERM)
        said, complained = server.communicate(timeout=60)
    [line] = map(json.loads, said.splitlines())
    assert (line["message"], line["path"]) == ("refused: this token is not accepted", "/v1/stream")
    assert "wr0ng" not in said + complained
    assert "handshake" not in complained


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--port", str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert "Address already in use; choose another port with --port" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_public_server_without_a_token_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("one\ntwo\n")
    wrong_model = ["--port", "0", "--host", "0.0.0.0", "--model", str(tmp_path)]  # ends after the warning
    assert "no token is set, so anyone who can reach this machine may connect" in run(*wrong_model).stderr
    assert "anyone" not in run(*wrong_model, "--token-file", str(tmp_path / "tokens")).stderr
    assert "anyone" not in run(*wrong_model[:2], *wrong_model[4:]).stderr


def test_what_to_install_is_said() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.argv[0] = 'stream-asr'\n"
        "from stream_asr.cli.main import main\nmain()"
    )
    result = run(code=code)
    assert result.returncode == 2
    assert 'pip install "stream-asr[server]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_help_needs_none_of_it() -> None:
    code = (
        "import sys\nfrom stream_asr.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'fastapi', 'uvicorn', 'starlette') if name in sys.modules])"
    )
    result = run("--help", code=code)
    assert "--max-sessions" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"
