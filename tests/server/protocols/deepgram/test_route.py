"""Deepgram's interface over real connections: what its SDK does not show."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.typing import Subprotocol

from stream_asr.array_types import FloatArray
from tests.support.deepgram import summarize
from tests.support.fakes import conversation, silence, sound
from tests.support.serving import TIMEOUT_S, RunningServer, pcm16, run_server

SENTENCES = ["hello world", "how are you", "fine thanks"]
RAW = "encoding=linear16&sample_rate=16000"
RAW_PATH = f"/v1/listen?{RAW}"

# --- live audio -----------------------------------------------------------------------------------------------


def receive_rest(connection: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """Return the remaining messages and the close code."""
    messages = []
    try:
        while True:
            messages.append(json.loads(connection.recv(TIMEOUT_S)))
    except ConnectionClosed:
        return messages, connection.close_code


def send_audio(connection: ClientConnection, audio: bytes, block_bytes: int = 6400) -> None:
    for start in range(0, len(audio), block_bytes):
        connection.send(audio[start : start + block_bytes])


@pytest.mark.parametrize("last_message", ['{"type":"CloseStream"}', b""])
def test_close_stream_and_empty_message_end_a_stream(last_message: str | bytes) -> None:
    audio = pcm16(conversation(*SENTENCES))
    with run_server() as server, server.connect(RAW_PATH) as connection:
        send_audio(connection, audio)
        connection.send(last_message)
        messages, closed = receive_rest(connection)
    *results, metadata = messages
    assert closed == 1000
    assert [summarize(message)[2:] for message in results] == [(text, "is") for text in SENTENCES]
    assert metadata["type"] == "Metadata"
    assert metadata["sha256"] == hashlib.sha256(audio).hexdigest()
    assert metadata["duration"] == len(audio) / 32_000


@pytest.mark.parametrize(
    ("query", "ends_s"),
    [
        ("", [2.18, 3.86, 5.54]),
        ("&endpointing=500", [2.18, 3.86, 5.54]),
        ("&endpointing=1500", [5.84]),
        ("&endpointing=10", [1.76, 3.44, 5.12]),
    ],
)
def test_endpointing_sets_the_silence_that_ends_an_utterance(query: str, ends_s: list[float]) -> None:
    """10 ms are raised to the minimum of 80 ms."""
    with run_server() as server, server.connect(RAW_PATH + query) as connection:
        send_audio(connection, pcm16(conversation(*SENTENCES)))
        connection.send('{"type":"CloseStream"}')
        *results, _ = receive_rest(connection)[0]
    actual_ends_s = [message["start"] + message["duration"] for message in results if message["speech_final"]]
    assert actual_ends_s == pytest.approx(ends_s, abs=0.03)


@pytest.mark.parametrize(
    ("message", "close_code"), [("hello", 1007), ('{"type":"Stop"}', 1008), (b"\0" * 10_001, 1009)]
)
def test_client_errors_are_reported_and_close_the_connection(message: str | bytes, close_code: int) -> None:
    with run_server(max_message_bytes=10_000) as server, server.connect(RAW_PATH) as connection:
        connection.send(message)
        messages, closed = receive_rest(connection)
    assert [message["type"] for message in messages] == ["Error"]
    assert closed == close_code


def test_running_stream_cannot_be_configured() -> None:
    with run_server() as server, server.connect(RAW_PATH) as connection:
        connection.send('{"type":"Configure","keyterms":["hello"]}')
        assert json.loads(connection.recv(TIMEOUT_S))["type"] == "ConfigureFailure"
        connection.send('{"type":"CloseStream"}')
        assert receive_rest(connection)[1] == 1000


def test_silent_client_gets_its_words_and_is_closed_after_idle_timeout() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect(RAW_PATH) as connection:
        send_audio(connection, pcm16(np.concatenate([silence(0.5), sound("hello world"), silence(0.2)])))
        messages, closed = receive_rest(connection)
        assert [message["type"] for message in messages] == ["Results", "Error"]
        assert summarize(messages[0])[2] == "hello world"
        assert closed == 1008


@pytest.mark.parametrize(
    ("query", "free_sessions", "status", "code"),
    [
        ("encoding=linear16", 1, 400, "Bad Request"),
        (f"{RAW}&channels=100", 1, 400, "Bad Request"),
        (f"{RAW}&endpointing=9701", 1, 400, "Bad Request"),
        (RAW, 0, 503, "too_many_sessions"),
    ],
)
def test_invalid_requests_are_refused_before_the_handshake(
    query: str, free_sessions: int, status: int, code: str
) -> None:
    with run_server(max_sessions=1 + free_sessions) as server, server.connect(RAW_PATH):
        with pytest.raises(InvalidStatus) as refused, server.connect(f"/v1/listen?{query}"):
            pass
        response = refused.value.response
        body = json.loads(response.body or b"")
        assert (response.status_code, body["err_code"]) == (status, code)
        assert body["err_msg"] == response.headers["dg-error"]
        assert body["request_id"] == response.headers["dg-request-id"]


def test_token_is_accepted_as_a_subprotocol() -> None:
    """Browsers send it in this way."""
    with run_server(tokens=("secret",)) as server:
        with server.connect(RAW_PATH, subprotocols=[Subprotocol("token"), Subprotocol("secret")]) as connection:
            assert connection.subprotocol == "token"
        for names in (["token", "wrong"], ["secret"], ["token"]):
            with pytest.raises(InvalidStatus) as refused:
                server.connect(RAW_PATH, subprotocols=[Subprotocol(name) for name in names])
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body or b"")["err_code"] == "INVALID_AUTH"


# --- recordings -----------------------------------------------------------------------------------------------


def encode_wav(audio: FloatArray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def post_recording(server: RunningServer, query: str = "", **content: Any) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the body of the response."""
    response = server.post(f"/v1/listen?{query}", **content)
    return response.status_code, response.json()


@pytest.mark.parametrize("is_raw", [False, True])
def test_recordings_are_transcribed(is_raw: bool) -> None:
    audio = conversation(*SENTENCES)
    content = pcm16(audio) if is_raw else encode_wav(audio)
    with run_server() as server:
        status, body = post_recording(server, f"{RAW if is_raw else ''}&utterances=true", content=content)
        assert status == 200
        assert body["metadata"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert body["metadata"]["duration"] == len(audio) / 16_000
        assert body["results"]["channels"][0]["alternatives"][0]["transcript"] == " ".join(SENTENCES)
        assert [utterance["transcript"] for utterance in body["results"]["utterances"]] == SENTENCES
        assert server.service.sessions.open_count == 0


@pytest.mark.parametrize(
    ("query", "content", "status", "expected_text"),
    [
        ("", {"json": {"url": "https://example.org/talk.mp3"}}, 400, "does not download from a url"),
        ("", {"content": b"not audio"}, 400, "not audio that can be decoded"),
        ("", {"content": b""}, 400, "empty"),
        ("", {"content": encode_wav(silence(2.0))[:100_001]}, 413, "--max-upload-bytes"),
        ("", {"content": encode_wav(silence(1.2))}, 400, "1 s"),
        (RAW, {"content": pcm16(silence(1.2))}, 400, "1 s of audio"),
        ("redact=pci", {"content": b"x"}, 400, "redact is not supported"),
    ],
)
def test_invalid_recordings_are_rejected_with_the_fault(
    query: str, content: dict[str, Any], status: int, expected_text: str
) -> None:
    with run_server(max_upload_bytes=100_000, max_duration_s=1.0) as server:
        actual_status, body = post_recording(server, query, **content)
        assert actual_status == status
        assert expected_text in body["err_msg"]
        assert status != 400 or body["err_code"] == "Bad Request"
        assert server.service.sessions.open_count == 0
