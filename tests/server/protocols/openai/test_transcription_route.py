"""OpenAI's transcriptions of recordings, spoken by OpenAI's own client, over real sockets."""

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
from concurrent.futures import ThreadPoolExecutor
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
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.openai import transcription_route as openai_audio
from stream_asr.server.responses import EventStream
from tests.support.fakes import FakeModel, conversation, loud
from tests.support.serving import (
    TIMEOUT_S,
    NativeClient,
    RunningServer,
    blocked_model,
    run_server,
    server_process,
    wait_until,
)

SAID = ["hello world", "and again", "ab abc"]
TEXT = " ".join(SAID)


def recording(audio: FloatArray | None = None, kind: str = "WAV", rate: int = 16_000, channels: int = 1) -> bytes:
    audio = conversation(*SAID) if audio is None else audio
    file = io.BytesIO()
    soundfile.write(file, np.stack([audio] * channels, axis=1), rate, format=kind)
    return file.getvalue()


WAV = recording()


def client(server: RunningServer, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{server.address}/v1", api_key=key, max_retries=0, timeout=TIMEOUT_S)


def transcribe(server: RunningServer, audio: bytes = WAV, **settings: Any) -> Any:
    with client(server) as asking:
        return asking.audio.transcriptions.create(file=("talk.wav", audio), model="whisper-1", **settings)


def transcribe_live(server: RunningServer) -> Iterator[Any]:
    with client(server) as asking:
        yield from asking.audio.transcriptions.create(file=("talk.wav", WAV), model="whisper-1", stream=True)


def post(server: RunningServer, **settings: Any) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as asking:
        return asking.post(f"http://{server.address}/v1/audio/transcriptions", **settings)


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_server() as server:
        yield server


# --- what comes back ------------------------------------------------------------------------------------------


def test_every_format(served: RunningServer) -> None:
    assert transcribe(served).text == TEXT
    assert transcribe(served, response_format="text") == f"{TEXT}\n"
    assert transcribe(served, response_format="srt").startswith("1\n00:00:00,800 --> 00:00:04,460\nhello")
    assert transcribe(served, response_format="vtt").startswith("WEBVTT\n\n00:00:00.800 --> 00:00:04.460\nhello")


def test_times_of_words_and_segments(served: RunningServer) -> None:
    with Recognizer(FakeModel(), detector=lambda: loud) as recognizer:
        expected = recognizer.transcribe(conversation(*SAID))
    answer = transcribe(served, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert answer.text == expected.text == TEXT
    assert answer.duration == round(expected.duration_s, 3)
    assert [(word.word, word.start, word.end) for word in answer.words] == [
        (word.word, round(word.start, 3), round(word.end, 3)) for word in expected.words
    ]
    assert [(part.text, part.start, part.end) for part in answer.segments] == [
        (final.text, round(final.start, 3), round(final.end, 3)) for final in expected.utterances
    ]


def test_what_changes_nothing_is_accepted(served: RunningServer) -> None:
    answer = transcribe(
        served, response_format="verbose_json", language="en", prompt="ab", temperature=0.3, chunking_strategy="auto"
    )
    assert (answer.text, answer.language, answer.words) == (TEXT, "en", None)


def test_as_server_sent_events(served: RunningServer) -> None:
    *deltas, done = list(transcribe_live(served))
    assert [event.type for event in deltas] == ["transcript.text.delta"] * 3
    assert "".join(event.delta for event in deltas) == done.text == TEXT
    assert done.type == "transcript.text.done"
    shown = post(served, files={"file": ("a.wav", WAV)}, data={"stream": "true"})
    assert shown.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    ("kind", "channels"), [("WAV", 1), ("WAV", 2), ("FLAC", 1), ("AIFF", 1)], ids=lambda value: str(value)
)
def test_any_format_of_files(served: RunningServer, kind: str, channels: int) -> None:
    assert transcribe(served, recording(kind=kind, channels=channels)).text == TEXT


def test_models(served: RunningServer) -> None:
    with client(served) as asking:
        (model,) = asking.models.list().data
        assert (model.id, model.object) == ("fake", "model")
        assert asking.models.retrieve("fake") == model
        with pytest.raises(openai.NotFoundError) as caught:
            asking.models.retrieve("someone/else")
    assert caught.value.code == "model_not_found"
    assert "there is no model 'someone/else' here, only 'fake'" in caught.value.message


def test_there_are_no_translations(served: RunningServer) -> None:
    with (
        client(served) as asking,
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.BadRequestError) as caught,
    ):
        asking.audio.translations.create(file=("a.wav", WAV), model="whisper-1")
    assert caught.value.code == "unsupported_endpoint"
    assert "does not translate" in caught.value.message


# --- what is refused ------------------------------------------------------------------------------------------

FILE = {"files": {"file": ("a.wav", WAV)}}


@pytest.mark.parametrize(
    ("request_", "code", "param", "says"),
    [
        ({"files": {"file": ("a.wav", b"")}}, "bad_audio", None, "the file is empty (0 bytes)"),
        ({"files": {"file": ("a.wav", b"no sound")}}, "bad_audio", None, "a.wav is not audio that can be decoded"),
        ({"files": {"file": ("../etc/x", b"no sound")}}, "bad_audio", None, "x is not audio that can be decoded"),
        ({"files": {"file": (None, WAV.decode("latin-1"))}}, "missing_file", "file", "the form lacks file"),
        ({"files": {"audio": ("a.wav", WAV)}}, "missing_file", "file", "the form lacks file"),
        ({"files": [("file", ("a", WAV)), ("file", ("b", WAV))]}, "bad_request", None, "Maximum number of files is 1"),
        ({"json": {"file": "x"}}, "bad_request", None, "not multipart/form-data"),
        ({"content": b""}, "bad_request", None, "send multipart/form-data"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, "bad_request", None, "not"),
        ({**FILE, "data": {"response_format": "mp3"}}, "invalid_value", "response_format", "accepted are json, text"),
    ],
)
def test_what_is_wrong_is_named(served: RunningServer, request_: Any, code: str, param: str | None, says: str) -> None:
    answer = post(served, **request_)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert says in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": param, "code": code}
    assert served.metric(f'stream_asr_errors_total{{code="{code}"}}') >= 1


def form(field: bytes, name: bytes, audio: bytes, charset: bytes) -> dict[str, Any]:
    fields = {b"language": field, b"prompt": field, b"response_format": b"verbose_json"}
    parts = [b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % pair for pair in fields.items()]
    parts.append(b'Content-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b' % (name, audio))
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
def test_fields_and_names_in_any_charset(
    served: RunningServer, charset: bytes, field: bytes, language: str | None
) -> None:
    """Halves of surrogate pairs included, which some charsets can say and UTF-8 cannot."""
    answer = post(served, **form(field, b"a.wav", WAV, charset))
    if language is None:
        assert answer.status_code == 400
        assert "use UTF-8" in answer.json()["error"]["message"]
    else:
        assert answer.json()["language"] == language
    refused = post(served, **form(field, field, b"no sound", charset))
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == ("bad_request" if language is None else "bad_audio")


@pytest.mark.parametrize("announced", [True, False])
def test_too_big(announced: bool) -> None:
    boundary = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = boundary + bytes(300_000)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with run_server(max_upload_bytes=100_000) as server:
        sent: Any = body if announced else (body[at : at + 10_000] for at in range(0, len(body), 10_000))
        answer = post(server, content=sent, headers=headers)
        assert answer.status_code == 413
        error = answer.json()["error"]
        assert error["code"] == "file_too_big"
        assert "100000 are accepted (--max-upload-bytes)" in error["message"]
        with pytest.raises(openai.APIStatusError) as caught:
            transcribe(server, bytes(5_000_000))
        assert caught.value.status_code == 413


def test_too_long() -> None:
    with run_server(max_duration_s=5.0) as server:
        with pytest.raises(openai.BadRequestError) as caught:
            transcribe(server, recording(conversation(*SAID * 3)))
        assert caught.value.code == "too_long"
        assert transcribe(server, recording(conversation("hello"))).text == "hello"


def test_a_key_is_needed_where_there_is_one() -> None:
    with run_server(tokens=("secret",)) as server:
        with client(server, "wrong") as asking, pytest.raises(openai.AuthenticationError) as caught:
            asking.models.list()
        assert caught.value.body == {
            "message": "this token is not accepted",
            "type": "invalid_request_error",
            "param": None,
            "code": "unauthorized",
        }
        with client(server, "secret") as asking:
            assert asking.models.list().data
            assert asking.audio.transcriptions.create(file=("a.wav", WAV), model="x").text == TEXT


def damage(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Files break off after so many blocks."""
    whole = AudioFile.__iter__

    def blocks(file: AudioFile) -> Iterator[FloatArray]:
        for number, block in enumerate(whole(file)):
            if number == after:
                raise InputError(f"{file.path} cannot be decoded from here on")
            yield block

    monkeypatch.setattr(AudioFile, "__iter__", blocks)


def test_a_damaged_file(served: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(monkeypatch, after=7)
    with pytest.raises(openai.BadRequestError, match=r"talk\.wav cannot be decoded from here on"):
        transcribe(served)
    events = transcribe_live(served)
    assert next(events).delta == SAID[0]
    with pytest.raises(openai.APIError, match=r"talk\.wav cannot be decoded"):
        list(events)


def test_the_model_fails() -> None:
    def fail(windows: object) -> None:
        raise RuntimeError("out of memory")

    with Recognizer(FakeModel(fail), detector=lambda: loud) as recognizer, run_server(recognizer) as server:
        with pytest.raises(openai.InternalServerError, match="out of memory"):
            transcribe(server)
        assert server.service.sessions.open_count == 0


def test_what_nobody_foresaw(
    served: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(file: AudioFile) -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(AudioFile, "__iter__", fail)
    with pytest.raises(openai.InternalServerError) as caught:
        transcribe(served)
    assert caught.value.message.endswith("internal server error; see the server's log")
    assert "a secret of ours" in caplog.text
    assert served.service.sessions.open_count == 0


# --- room, time and disk --------------------------------------------------------------------------------------


class Stuck:
    """A server whose model does not answer before `go_on` is set, and threads that ask it."""

    def __init__(self, server: RunningServer, go_on: threading.Event, pool: ThreadPoolExecutor) -> None:
        self.server, self.go_on, self._pool = server, go_on, pool

    def ask(self, **settings: Any) -> Any:
        """Returns once the request is a session."""
        before = self.server.service.sessions.open_count
        answer = self._pool.submit(transcribe, self.server, **settings)
        wait_until(lambda: self.server.service.sessions.open_count == before + 1)
        return answer


@pytest.fixture
def stuck(request: pytest.FixtureRequest) -> Iterator[Stuck]:
    go_on = threading.Event()
    limits = getattr(request, "param", {})
    with (
        Recognizer(blocked_model(go_on), detector=lambda: loud) as recognizer,
        run_server(recognizer, **limits) as server,
        ThreadPoolExecutor() as pool,
    ):
        try:
            yield Stuck(server, go_on, pool)
        finally:
            go_on.set()


@pytest.mark.parametrize("stuck", [{"max_sessions": 1}], indirect=True)
def test_a_request_is_one_of_the_sessions(stuck: Stuck) -> None:
    answer = stuck.ask()
    with pytest.raises(openai.InternalServerError) as caught:
        transcribe(stuck.server)
    assert (caught.value.status_code, caught.value.code) == (503, "too_many_sessions")
    with pytest.raises(InvalidStatus) as refused, stuck.server.connect():
        pass
    assert refused.value.response.status_code == 503
    stuck.go_on.set()
    assert answer.result().text == TEXT
    assert transcribe(stuck.server).text == TEXT


def test_a_client_that_leaves_stops_the_work(stuck: Stuck, caplog: pytest.LogCaptureFixture) -> None:
    request = httpx.Request("POST", "http://x/v1/audio/transcriptions", files={"file": ("a.wav", WAV)})
    lines = [f"POST {request.url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    sent = "\r\n".join([*lines, "", ""]).encode() + request.read()
    with caplog.at_level(logging.INFO, "stream_asr.server.sessions.registry"):
        for part in (len(sent) // 2, len(sent)):
            with socket.create_connection(("127.0.0.1", stuck.server.port)) as leaving:
                leaving.sendall(sent[:part])
                if part == len(sent):
                    wait_until(lambda: stuck.server.service.sessions.open_count == 1)
            wait_until(lambda: stuck.server.service.sessions.open_count == 0)
        wait_until(lambda: len(caplog.records) == 1)
    assert vars(caplog.records[0])["ended_by"] == "client_left"
    assert vars(caplog.records[0])["protocol"] == "openai_audio"
    wait_until(lambda: stuck.server.service.sessions.unavailable_reason() is None)


def test_an_upload_that_stops_halfway_is_given_up() -> None:
    head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
    with (
        run_server(idle_timeout_s=0.2, max_sessions=1) as server,
        socket.create_connection(("127.0.0.1", server.port)) as slow,
    ):
        slow.sendall(head + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
        slow.settimeout(TIMEOUT_S)
        answer = b""
        while b"no message received within 0.2 s" not in answer and (
            more := slow.recv(65536)
        ):  # head and body may come apart
            answer += more
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"no message received within 0.2 s" in answer
        assert transcribe(server).text == TEXT


@pytest.mark.skipif(sys.platform != "linux", reason="looks at open files by name")
def test_the_recording_waits_on_disk_and_goes_when_it_is_done(
    stuck: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def temporary_files() -> int:
        names = []
        for fd in Path("/proc/self/fd").iterdir():
            try:
                names.append(os.readlink(fd))
            except OSError:  # closed meanwhile
                continue
        return sum(name.startswith(str(tmp_path)) for name in names) + len(list(tmp_path.iterdir()))

    answer = stuck.ask(audio=recording(conversation(*SAID * 10)))
    assert temporary_files() == 1
    stuck.go_on.set()
    assert answer.result().text == " ".join(SAID * 10)
    assert temporary_files() == 0


def test_a_file_that_takes_long_to_decode_keeps_nobody_waiting(
    served: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, go_on = threading.Event(), threading.Event()
    whole = AudioFile.__iter__

    def blocks(file: AudioFile) -> Iterator[FloatArray]:
        decoding.set()
        assert go_on.wait(TIMEOUT_S)
        yield from whole(file)

    monkeypatch.setattr(AudioFile, "__iter__", blocks)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(transcribe, served)
        assert decoding.wait(TIMEOUT_S)
        with served.connect() as connection:
            live = NativeClient(connection)
            live.start()
            live.send(conversation("hello"))
            live.send_message("finish")
            live.receive_until("done")
        assert live.finals == ["hello"]
        go_on.set()
        assert answer.result().text == TEXT


def test_more_finals_than_may_wait_are_read_as_they_come() -> None:
    said = ["ab"] * 40
    with run_server(max_unsent_events=16, max_speed=1e6) as server:
        assert transcribe(server, recording(conversation(*said))).text == " ".join(said)


def test_a_farewell_that_nobody_reads_comes_to_an_end(served: RunningServer) -> None:
    async def part() -> None:
        is_full = False

        async def send(message: object) -> None:
            if is_full:
                await asyncio.Event().wait()

        events = EventStream(send)
        await events.send("data: {}\n\n")
        is_full = True
        await asyncio.wait_for(
            openai_audio._fail(served.service, SessionError("slow_reader", ""), events), TIMEOUT_S / 6
        )

    asyncio.run(part())


def test_a_server_that_stops_says_so(stuck: Stuck) -> None:
    answer = stuck.ask(audio=recording(conversation(*SAID * 10)))
    stuck.server.stop()
    wait_until(lambda: stuck.server.service.sessions.draining)
    stuck.go_on.set()
    with pytest.raises(openai.InternalServerError) as caught:
        answer.result()
    assert (caught.value.status_code, caught.value.code) == (503, "shutting_down")


# --- the real thing -------------------------------------------------------------------------------------------


def test_the_text_is_that_of_transcribe(recognizer: Recognizer, demo_path: Path) -> None:
    expected = recognizer.transcribe(demo_path)
    assert expected.text
    with server_process("--token", "secret") as (_, address):
        asking = openai.OpenAI(base_url=f"{address.replace('ws', 'http', 1)}/v1", api_key="secret", max_retries=0)
        with asking, demo_path.open("rb") as file:
            answer = asking.audio.transcriptions.create(
                file=file, model="whisper-1", response_format="verbose_json", timestamp_granularities=["word"]
            )
            file.seek(0)
            *deltas, done = list(asking.audio.transcriptions.create(file=file, model="whisper-1", stream=True))
    assert answer.text == "".join(event.delta for event in deltas) == done.text == expected.text
    assert [word.word for word in answer.words] == [word.word for word in expected.words]
