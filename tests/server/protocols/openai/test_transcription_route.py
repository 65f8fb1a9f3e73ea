"""OpenAI's transcriptions of recordings, with OpenAI's published SDK over real connections."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
from websockets.exceptions import InvalidStatus

from stream_asr import InputError, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.audio.files import AudioFile
from stream_asr.events import strip_punctuation
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.openai import transcription_route
from stream_asr.server.responses import EventStream
from tests.support.fakes import FakeModel, conversation, loud
from tests.support.serving import (
    TIMEOUT_S,
    NativeClient,
    RunningServer,
    run_blocked_server,
    run_server,
    server_process,
    wait_until,
)

SENTENCES = ["hello world", "and again", "ab abc"]
TEXT = " ".join(SENTENCES)


def encode_audio(audio: FloatArray, file_format: str = "WAV", sample_rate: int = 16_000, channels: int = 1) -> bytes:
    """Encode a recording with the same samples in all channels."""
    file = io.BytesIO()
    soundfile.write(file, np.stack([audio] * channels, axis=1), sample_rate, format=file_format)
    return file.getvalue()


WAV = encode_audio(conversation(*SENTENCES))


def open_client(server: RunningServer, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{server.address}/v1", api_key=key, max_retries=0, timeout=TIMEOUT_S)


def transcribe(server: RunningServer, audio: bytes = WAV, **parameters: Any) -> Any:
    """Transcribe a recording; the type of the result depends on the parameters."""
    with open_client(server) as client:
        return client.audio.transcriptions.create(file=("talk.wav", audio), model="whisper-1", **parameters)


def stream_transcription(server: RunningServer) -> Iterator[Any]:
    with open_client(server) as client:
        yield from client.audio.transcriptions.create(file=("talk.wav", WAV), model="whisper-1", stream=True)


def post_transcription(server: RunningServer, **content: Any) -> httpx.Response:
    return server.post("/v1/audio/transcriptions", **content)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_server() as running_server:
        yield running_server


# --- responses ------------------------------------------------------------------------------------------------


def test_json_and_plain_text_responses(server: RunningServer) -> None:
    assert transcribe(server).text == TEXT
    assert transcribe(server, response_format="text") == f"{TEXT}\n"
    assert transcribe(server, response_format="srt").startswith("1\n00:00:00,800 --> 00:00:04,460\nhello")
    assert transcribe(server, response_format="vtt").startswith("WEBVTT\n\n00:00:00.800 --> 00:00:04.460\nhello")


def test_verbose_response_has_times_of_words_and_segments(server: RunningServer) -> None:
    with Recognizer(FakeModel(), detector=lambda: loud) as recognizer:
        expected = recognizer.transcribe(conversation(*SENTENCES))
    response = transcribe(server, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert response.text == expected.text == TEXT
    assert response.duration == round(expected.duration_s, 3)
    assert [(word.word, word.start, word.end) for word in response.words] == [
        (word.word, round(word.start, 3), round(word.end, 3)) for word in expected.words
    ]
    assert [(segment.text, segment.start, segment.end) for segment in response.segments] == [
        (final.text, round(final.start, 3), round(final.end, 3)) for final in expected.utterances
    ]


def test_parameters_without_an_effect_are_accepted(server: RunningServer) -> None:
    response = transcribe(
        server, response_format="verbose_json", language="en", prompt="ab", temperature=0.3, chunking_strategy="auto"
    )
    assert (response.text, response.language, response.words) == (TEXT, "en", None)


def test_server_sent_events(server: RunningServer) -> None:
    *deltas, done = list(stream_transcription(server))
    assert [event.type for event in deltas] == ["transcript.text.delta"] * 3
    assert "".join(event.delta for event in deltas) == done.text == TEXT
    assert done.type == "transcript.text.done"
    response = post_transcription(server, files={"file": ("a.wav", WAV)}, data={"stream": "true"})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(("file_format", "channels"), [("WAV", 1), ("WAV", 2), ("FLAC", 1), ("AIFF", 1)])
def test_file_formats(server: RunningServer, file_format: str, channels: int) -> None:
    audio = encode_audio(conversation(*SENTENCES), file_format, channels=channels)
    assert transcribe(server, audio).text == TEXT


def test_models(server: RunningServer) -> None:
    with open_client(server) as client:
        (model,) = client.models.list().data
        assert (model.id, model.object) == ("fake", "model")
        assert client.models.retrieve("fake") == model
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("someone/else")
    assert caught.value.code == "model_not_found"
    assert "there is no model 'someone/else' on this server, only 'fake'" in caught.value.message


def test_translations_are_rejected(server: RunningServer) -> None:
    with (
        open_client(server) as client,
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.BadRequestError) as caught,
    ):
        client.audio.translations.create(file=("a.wav", WAV), model="whisper-1")
    assert caught.value.code == "unsupported_endpoint"
    assert "does not translate" in caught.value.message


# --- errors ---------------------------------------------------------------------------------------------------

FILE = {"files": {"file": ("a.wav", WAV)}}


@pytest.mark.parametrize(
    ("content", "code", "param", "expected_text"),
    [
        ({"files": {"file": ("a.wav", b"")}}, "bad_audio", None, "the file is empty (0 bytes)"),
        ({"files": {"file": ("a.wav", b"no sound")}}, "bad_audio", None, "a.wav is not audio that can be decoded"),
        ({"files": {"file": ("../etc/x", b"no sound")}}, "bad_audio", None, "x is not audio that can be decoded"),
        ({"files": {"file": (None, WAV.decode("latin-1"))}}, "missing_file", "file", "the form requires file"),
        ({"files": {"audio": ("a.wav", WAV)}}, "missing_file", "file", "the form requires file"),
        ({"files": [("file", ("a", WAV)), ("file", ("b", WAV))]}, "bad_request", None, "Maximum number of files is 1"),
        ({"json": {"file": "x"}}, "bad_request", None, "multipart/form-data"),
        ({"content": b""}, "bad_request", None, "multipart/form-data"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}},
            "bad_request",
            None,
            "not multipart/form-data",
        ),
        ({**FILE, "data": {"response_format": "mp3"}}, "invalid_value", "response_format", "accepted: json, text"),
    ],
)
def test_invalid_requests_are_rejected_with_the_fault(
    server: RunningServer, content: dict[str, Any], code: str, param: str | None, expected_text: str
) -> None:
    response = post_transcription(server, **content)
    assert response.status_code == 400
    error = response.json()["error"]
    assert expected_text in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": param, "code": code}
    assert server.metric(f'stream_asr_errors_total{{code="{code}"}}') >= 1


def make_form(field: bytes, file_name: bytes, audio: bytes, charset: bytes) -> dict[str, Any]:
    """Make a form with raw bytes in two fields and in the file name."""
    fields = {b"language": field, b"prompt": field, b"response_format": b"verbose_json"}
    parts = [b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % pair for pair in fields.items()]
    parts.append(b'Content-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b' % (file_name, audio))
    content = b"".join(b"--x\r\n%b\r\n" % part for part in parts) + b"--x--\r\n"
    return {"content": content, "headers": {b"Content-Type": b"multipart/form-data; boundary=x" + charset}}


@pytest.mark.parametrize(
    ("charset", "field", "language"),
    [
        (b"", b"\xff\xfe\x80", "\xff\xfe\x80"),
        (b"", "dé".encode(), "dé"),
        (b"; charset=unicode_escape", rb"\ud800", "\ud800"),
        (b"; charset=utf-7", b"+2AA-", "\ud800"),
        (b"; charset=punycode", b"\xff", None),
        (b"; charset=undefined", b"de", None),
        (b"; charset=nonsense", b"de", "de"),
        (b"; charset=\xff", b"de", "de"),
    ],
)
def test_form_fields_and_file_names_in_any_charset(
    server: RunningServer, charset: bytes, field: bytes, language: str | None
) -> None:
    """Some charsets can encode halves of surrogate pairs, which UTF-8 cannot."""
    response = post_transcription(server, **make_form(field, b"a.wav", WAV, charset))
    if language is None:
        assert response.status_code == 400
        assert "UTF-8" in response.json()["error"]["message"]
    else:
        assert response.json()["language"] == language
    rejected = post_transcription(server, **make_form(field, field, b"no sound", charset))
    assert rejected.status_code == 400
    assert rejected.json()["error"]["code"] == ("bad_request" if language is None else "bad_audio")


@pytest.mark.parametrize("has_content_length", [True, False])
def test_too_big_upload_is_rejected(has_content_length: bool) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(300_000)
    blocks = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
    content = body if has_content_length else blocks
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with run_server(max_upload_bytes=100_000) as server:
        response = post_transcription(server, content=content, headers=headers)
        assert response.status_code == 413
        error = response.json()["error"]
        assert error["code"] == "file_too_big"
        assert "100000" in error["message"]
        assert "--max-upload-bytes" in error["message"]
        with pytest.raises(openai.APIStatusError) as caught:
            transcribe(server, bytes(5_000_000))
        assert caught.value.status_code == 413


def test_too_long_recording_is_rejected() -> None:
    with run_server(max_duration_s=5.0) as server:
        with pytest.raises(openai.BadRequestError) as caught:
            transcribe(server, encode_audio(conversation(*SENTENCES * 3)))
        assert caught.value.code == "too_long"
        assert transcribe(server, encode_audio(conversation("hello"))).text == "hello"


def test_api_key_is_a_token_of_the_server() -> None:
    with run_server(tokens=("secret",)) as server:
        with open_client(server, "wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["type"] == "invalid_request_error"
        assert caught.value.body["code"] == "unauthorized"
        with open_client(server, "secret") as client:
            assert client.models.list().data
            assert client.audio.transcriptions.create(file=("a.wav", WAV), model="x").text == TEXT


def damage_files(monkeypatch: pytest.MonkeyPatch, good_blocks: int) -> None:
    """Let files be undecodable after some blocks."""
    iterate = AudioFile.__iter__

    def iterate_damaged(file: AudioFile) -> Iterator[FloatArray]:
        for number, block in enumerate(iterate(file)):
            if number == good_blocks:
                raise InputError(f"{file.path} cannot be decoded from here on")
            yield block

    monkeypatch.setattr(AudioFile, "__iter__", iterate_damaged)


def test_damaged_file_is_an_error_after_the_text_before_the_damage(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_files(monkeypatch, good_blocks=7)
    with pytest.raises(openai.BadRequestError, match=r"talk\.wav cannot be decoded from here on"):
        transcribe(server)
    events = stream_transcription(server)
    assert next(events).delta == SENTENCES[0]
    with pytest.raises(openai.APIError, match=r"talk\.wav cannot be decoded"):
        list(events)


def test_model_failure_is_reported_to_the_client() -> None:
    def fail(windows: object) -> None:
        raise RuntimeError("out of memory")

    with Recognizer(FakeModel(fail), detector=lambda: loud) as recognizer, run_server(recognizer) as server:
        with pytest.raises(openai.InternalServerError, match="out of memory"):
            transcribe(server)
        assert server.service.sessions.open_count == 0


def test_unexpected_exception_is_logged_but_not_shown_to_the_client(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(file: AudioFile) -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr(AudioFile, "__iter__", fail)
    with pytest.raises(openai.InternalServerError) as caught:
        transcribe(server)
    assert "internal detail" not in caught.value.message
    assert "internal detail" in caplog.text
    assert server.service.sessions.open_count == 0


# --- sessions, timeouts and files -----------------------------------------------------------------------------


class BlockedServer:
    """A server whose model does not answer until `unblock` is set, and threads that send requests."""

    def __init__(self, server: RunningServer, unblock: threading.Event, pool: ThreadPoolExecutor) -> None:
        self.server, self.unblock, self._pool = server, unblock, pool

    def submit(self, **parameters: Any) -> Future[Any]:
        """Send a request in a thread; return once it has a session."""
        open_count = self.server.service.sessions.open_count
        response = self._pool.submit(transcribe, self.server, **parameters)
        wait_until(lambda: self.server.service.sessions.open_count == open_count + 1)
        return response


@pytest.fixture
def blocked(request: pytest.FixtureRequest) -> Iterator[BlockedServer]:
    limits = getattr(request, "param", {})
    with ThreadPoolExecutor() as pool, run_blocked_server(**limits) as (server, unblock):
        yield BlockedServer(server, unblock, pool)


@pytest.mark.parametrize("blocked", [{"max_sessions": 1}], indirect=True)
def test_request_counts_as_a_session(blocked: BlockedServer) -> None:
    response = blocked.submit()
    with pytest.raises(openai.InternalServerError) as caught:
        transcribe(blocked.server)
    assert (caught.value.status_code, caught.value.code) == (503, "too_many_sessions")
    with pytest.raises(InvalidStatus) as refused, blocked.server.connect():
        pass
    assert refused.value.response.status_code == 503
    blocked.unblock.set()
    assert response.result().text == TEXT
    assert transcribe(blocked.server).text == TEXT


def test_work_stops_when_the_client_disconnects(blocked: BlockedServer, caplog: pytest.LogCaptureFixture) -> None:
    """During the upload there is no session yet; after it, the session ends."""
    request = httpx.Request("POST", "http://x/v1/audio/transcriptions", files={"file": ("a.wav", WAV)})
    lines = [f"POST {request.url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    data = "\r\n".join([*lines, "", ""]).encode() + request.read()
    sessions = blocked.server.service.sessions
    with caplog.at_level(logging.INFO, "stream_asr.server.sessions.registry"):
        for size in (len(data) // 2, len(data)):
            with socket.create_connection(("127.0.0.1", blocked.server.port)) as client_socket:
                client_socket.sendall(data[:size])
                if size == len(data):
                    wait_until(lambda: sessions.open_count == 1)
            wait_until(lambda: sessions.open_count == 0)
        wait_until(lambda: len(caplog.records) == 1)
    fields = vars(caplog.records[0])
    assert (fields["ended_by"], fields["protocol"]) == ("client_left", "openai_audio")
    wait_until(lambda: sessions.unavailable_reason() is None)


def test_incomplete_upload_ends_after_idle_timeout() -> None:
    head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
    with (
        run_server(idle_timeout_s=0.2, max_sessions=1) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client_socket,
    ):
        client_socket.sendall(head + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
        client_socket.settimeout(TIMEOUT_S)
        response = b""
        while b"idle_timeout" not in response and (data := client_socket.recv(65536)):
            response += data
        assert response.startswith(b"HTTP/1.1 400")
        assert b"idle_timeout" in response
        assert transcribe(server).text == TEXT


@pytest.mark.skipif(sys.platform != "linux", reason="lists open files in /proc")
def test_recording_is_stored_on_disk_and_removed_at_the_end(
    blocked: BlockedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def count_files() -> int:
        names = []
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                names.append(os.readlink(descriptor))
            except OSError:  # closed in the meantime
                continue
        return sum(name.startswith(str(tmp_path)) for name in names) + len(list(tmp_path.iterdir()))

    response = blocked.submit(audio=encode_audio(conversation(*SENTENCES * 10)))
    assert count_files() == 1
    blocked.unblock.set()
    assert response.result().text == " ".join(SENTENCES * 10)
    assert count_files() == 0


def test_slow_decoding_does_not_delay_other_sessions(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    is_decoding, unblock = threading.Event(), threading.Event()
    iterate = AudioFile.__iter__

    def iterate_slowly(file: AudioFile) -> Iterator[FloatArray]:
        is_decoding.set()
        assert unblock.wait(TIMEOUT_S)
        yield from iterate(file)

    monkeypatch.setattr(AudioFile, "__iter__", iterate_slowly)
    with ThreadPoolExecutor() as pool:
        response = pool.submit(transcribe, server)
        assert is_decoding.wait(TIMEOUT_S)
        with server.connect() as connection:
            client = NativeClient(connection)
            client.start()
            client.send(conversation("hello"))
            client.send_message("finish")
            client.receive_until("done")
        assert client.finals == ["hello"]
        unblock.set()
        assert response.result().text == TEXT


def test_recording_may_have_more_finals_than_the_limit_of_unsent_events() -> None:
    """The finals are collected as they come, so none is unsent."""
    sentences = ["ab"] * 40
    with run_server(max_unsent_events=16, max_speed=1e6) as server:
        assert transcribe(server, encode_audio(conversation(*sentences))).text == " ".join(sentences)


def test_error_for_a_client_that_does_not_read_is_dropped_after_close_timeout(server: RunningServer) -> None:
    async def report_error() -> None:
        is_blocked = False

        async def send(message: object) -> None:
            if is_blocked:
                await asyncio.Event().wait()

        event_stream = EventStream(send)
        await event_stream.send("data: {}\n\n")
        is_blocked = True
        error = SessionError("slow_reader", "")
        report = transcription_route._report_error(server.service, error, event_stream)
        await asyncio.wait_for(report, TIMEOUT_S / 6)

    asyncio.run(report_error())


def test_shutdown_is_reported_to_the_client(blocked: BlockedServer) -> None:
    response = blocked.submit(audio=encode_audio(conversation(*SENTENCES * 10)))
    blocked.server.stop()
    wait_until(lambda: blocked.server.service.sessions.draining)
    blocked.unblock.set()
    with pytest.raises(openai.InternalServerError) as caught:
        response.result()
    assert (caught.value.status_code, caught.value.code) == (503, "shutting_down")


# --- bundled model --------------------------------------------------------------------------------------------


def test_text_equals_that_of_transcribe(recognizer: Recognizer, demo_path: Path) -> None:
    expected = recognizer.transcribe(demo_path)
    assert expected.text
    with server_process("--token", "secret") as (_, address):
        client = openai.OpenAI(base_url=f"{address.replace('ws', 'http', 1)}/v1", api_key="secret", max_retries=0)
        with client, demo_path.open("rb") as file:
            response = client.audio.transcriptions.create(
                file=file, model="whisper-1", response_format="verbose_json", timestamp_granularities=["word"]
            )
            file.seek(0)
            events = list(client.audio.transcriptions.create(file=file, model="whisper-1", stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    (done,) = [event.text for event in events if event.type == "transcript.text.done"]
    assert response.text == "".join(deltas) == done == expected.text
    assert [word.word for word in response.words or ()] == [strip_punctuation(word.word) for word in expected.words]
