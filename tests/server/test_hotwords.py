"""Hotwords that clients send for their own session, over real connections of all protocols."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from hotwords import BUNDLED_NAMES
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stream_asr import Recognizer, RecognizerConfig
from stream_asr.config import BeamConfig
from stream_asr.server.settings import MAX_HOTWORD_CHARACTERS, MAX_HOTWORD_LENGTH, MAX_HOTWORDS
from tests.support.fakes import FakeModel, conversation, loud
from tests.support.serving import (
    TIMEOUT_S,
    NativeClient,
    RunningServer,
    assert_serves_new_client,
    pcm16,
    run_server,
    wait_until,
)

SPOKEN, HOTWORD = "please call anne", "boof"
"""The doubtful fake model gives each letter of ``boof`` almost the probability of that letter of ``anne``."""

CONFIG = RecognizerConfig(beam=BeamConfig(hotword_bonus=2.0))
AUDIO = pcm16(conversation(SPOKEN))
RAW_PATH = "/v1/listen?encoding=linear16&sample_rate=16000"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Server whose model hesitates between two letters everywhere."""
    with (
        Recognizer(FakeModel(doubtful=True), CONFIG, detector=lambda: loud) as recognizer,
        run_server(recognizer) as running,
    ):
        yield running


# --- one client for each protocol -----------------------------------------------------------------------------


def native_text(server: RunningServer, audio: bytes, hotwords: Any) -> str:
    with server.connect() as connection:
        client = NativeClient(connection)
        client.start(encoding="pcm_s16le", **({} if hotwords is None else {"hotwords": hotwords}))
        connection.send(audio)
        client.send_message("finish")
        client.receive_until("done")
        return " ".join(client.finals)


def vosk_text(server: RunningServer, audio: bytes, phrases: list[str] | None) -> str:
    config = {"sample_rate": 16_000, **({} if phrases is None else {"phrase_list": phrases})}
    with server.connect("/vosk") as connection:
        connection.send(json.dumps({"config": config}))
        replies = []
        for message in (audio, '{"eof" : 1}'):
            connection.send(message)
            replies.append(json.loads(connection.recv(TIMEOUT_S)).get("text", ""))
        return " ".join(filter(None, replies))


def deepgram_text(server: RunningServer, audio: bytes, query: str | None) -> str:
    texts = []
    with server.connect(f"{RAW_PATH}&{query or ''}") as connection:
        connection.send(audio)
        connection.send('{"type":"CloseStream"}')
        while (message := json.loads(connection.recv(TIMEOUT_S)))["type"] != "Metadata":
            texts.append(message["channel"]["alternatives"][0]["transcript"])
    return " ".join(texts)


def deepgram_recording_text(server: RunningServer, audio: bytes, query: str | None) -> str:
    response = server.post(f"{RAW_PATH}&{query or ''}", content=audio)
    text: str = response.json()["results"]["channels"][0]["alternatives"][0]["transcript"]
    return text


Recognize = Callable[[RunningServer, bytes, Any], str]


@pytest.mark.parametrize(
    ("recognize", "hotwords"),
    [
        (native_text, [HOTWORD]),
        (native_text, {HOTWORD: 1.5}),
        (vosk_text, [HOTWORD, "[unk]"]),
        (deepgram_text, f"keyterm=another%20name&keyterm={HOTWORD}"),
        (deepgram_text, f"keywords={HOTWORD}"),
        (deepgram_text, f"keywords={HOTWORD}:2"),
        (deepgram_text, f"keywords={HOTWORD}:50"),
        (deepgram_recording_text, f"keyterm={HOTWORD}"),
    ],
)
def test_hotwords_change_the_text_of_their_session_only(
    server: RunningServer, recognize: Recognize, hotwords: Any
) -> None:
    """Intensifiers above the largest weight count as the largest weight."""
    assert recognize(server, AUDIO, hotwords).split()[-1] == HOTWORD
    assert HOTWORD not in recognize(server, AUDIO, None)


def test_weight_changes_the_effect(server: RunningServer) -> None:
    assert HOTWORD not in native_text(server, AUDIO, {HOTWORD: 0})
    assert HOTWORD not in deepgram_text(server, AUDIO, f"keywords={HOTWORD}:0")
    assert native_text(server, AUDIO, {HOTWORD: 1.0, "anne": 2.0}).split()[-1] == "anne"


def test_hotwords_of_a_session_replace_those_of_the_server() -> None:
    with (
        Recognizer(FakeModel(doubtful=True), CONFIG, detector=lambda: loud, hotwords=[HOTWORD]) as recognizer,
        run_server(recognizer) as server,
    ):
        assert native_text(server, AUDIO, None).split()[-1] == HOTWORD
        assert HOTWORD not in native_text(server, AUDIO, [])


def test_hotword_changes_the_text_of_the_bundled_model(recognizer: Recognizer) -> None:
    samples, rate = soundfile.read(BUNDLED_NAMES / "audio" / "03.ogg", dtype="float32")
    assert rate == 16_000
    audio = pcm16(np.asarray(samples, dtype=np.float32))
    with run_server(recognizer) as server:
        assert "metoprolol" not in native_text(server, audio, None).lower()
        assert "Metoprolol" in native_text(server, audio, ["Metoprolol", "Zolpidem"])


# --- errors ---------------------------------------------------------------------------------------------------

INVALID_HOTWORDS = [
    (["route 66"], "hotword 'route 66': the model does not write 6"),
    (["дом"], "the model does not write д м о"),
    (["hello", ""], "hotword '': it has no letters"),
    (["a\ud800b"], r"hotword 'a\ud800b' has a character that cannot be displayed"),
    (["a\0b"], r"hotword 'a\x00b' has a character that cannot be displayed"),
    (["a" * (MAX_HOTWORD_LENGTH + 1)], "has 101 characters; at most 100 are accepted"),
    ([f"name {'a' * index}" for index in range(MAX_HOTWORDS + 1)], "501 hotwords; at most 500 are accepted"),
    (
        [f"{index:0100d}" for index in range(MAX_HOTWORD_CHARACTERS // 100 + 1)],
        "the hotwords have 20100 characters; at most 20000 are accepted",
    ),
]


@pytest.mark.parametrize(("hotwords", "expected_text"), INVALID_HOTWORDS)
def test_invalid_hotwords_are_errors_of_the_native_protocol(
    server: RunningServer, hotwords: list[str], expected_text: str
) -> None:
    client = NativeClient(server.open())
    client.send_message("start", sample_rate=16_000, hotwords=hotwords)
    error, closed, reason = client.receive_close()
    assert (error["code"], closed) == ("bad_hotwords", 1008)
    assert expected_text in error["message"]
    assert reason.startswith("bad_hotwords: ")
    assert server.service.sessions.open_count == 0


@pytest.mark.parametrize("weight", [-1, 10.5])
def test_weight_out_of_range_is_an_error(server: RunningServer, weight: float) -> None:
    client = NativeClient(server.open())
    client.send_message("start", sample_rate=16_000, hotwords={"hello": weight})
    error, _, _ = client.receive_close()
    assert error["code"] == "bad_hotwords"
    assert f"hotword 'hello' has weight {float(weight)}; it must be between 0 and 10" in error["message"]


def test_as_many_hotwords_as_the_limit_are_accepted(server: RunningServer) -> None:
    names = ["".join(chr(97 + int(digit)) for digit in f"{index:040d}") for index in range(MAX_HOTWORDS)]
    assert native_text(server, AUDIO, names)


@pytest.mark.parametrize(("phrases", "expected_text"), INVALID_HOTWORDS)
def test_invalid_phrase_list_is_reported_in_the_close_frame(
    server: RunningServer, phrases: list[str], expected_text: str
) -> None:
    with server.connect("/vosk") as connection:
        connection.send(json.dumps({"config": {"phrase_list": phrases}}))
        connection.send(AUDIO)
        with pytest.raises(ConnectionClosed):
            connection.recv(TIMEOUT_S)
        assert connection.close_code == 1008
        assert (connection.close_reason or "").startswith("bad_hotwords: ")
        assert expected_text in (connection.close_reason or "")


def test_phrase_list_cannot_be_changed_after_the_first_audio(server: RunningServer) -> None:
    config = {"sample_rate": 16_000, "phrase_list": [HOTWORD]}
    with server.connect("/vosk") as connection:
        connection.send(json.dumps({"config": config}))
        connection.send(AUDIO)
        connection.recv(TIMEOUT_S)
        connection.send(json.dumps({"config": config}))
        connection.send(AUDIO)
        connection.recv(TIMEOUT_S)
        connection.send('{"config" : {"phrase_list" : ["anne"]}}')
        with pytest.raises(ConnectionClosed):
            connection.recv(TIMEOUT_S)
        assert connection.close_reason == "bad_message: phrase_list cannot be changed after the first audio"


@pytest.mark.parametrize(
    ("query", "expected_text"),
    [
        ("keyterm=route%2066", "hotword 'route 66': the model does not write 6"),
        (f"keyterm={quote('дом')}", "the model does not write"),
        (f"keyterm={'a' * 101}", "has 101 characters; at most 100 are accepted"),
        ("keywords=um:-5", "a negative intensifier is not supported"),
    ],
)
def test_invalid_keyterms_are_refused_by_deepgram(server: RunningServer, query: str, expected_text: str) -> None:
    response = server.post(f"{RAW_PATH}&{query}", content=AUDIO)
    assert (response.status_code, response.json()["err_code"]) == (400, "Bad Request")
    assert expected_text in response.json()["err_msg"]
    with pytest.raises(InvalidStatus) as refused:
        server.connect(f"{RAW_PATH}&{query}")
    assert refused.value.response.status_code == 400
    assert expected_text in json.loads(refused.value.response.body or b"")["err_msg"]


# --- compiling ------------------------------------------------------------------------------------------------


class SlowRecognizer(Recognizer):
    """Recognizer that does not open streams with hotwords before ``unblock`` is set."""

    def __init__(self) -> None:
        super().__init__(FakeModel(), detector=lambda: loud)
        self.unblock = threading.Event()

    def stream(self, *args: Any, hotwords: Any = None, **settings: Any) -> Any:
        assert hotwords is None or self.unblock.wait(TIMEOUT_S)
        return super().stream(*args, hotwords=hotwords, **settings)


@pytest.fixture
def slow_recognizer() -> Iterator[SlowRecognizer]:
    recognizer = SlowRecognizer()
    with recognizer:
        yield recognizer
        recognizer.unblock.set()


def start_slowly(server: RunningServer) -> NativeClient:
    client = NativeClient(server.open())
    client.send_message("start", sample_rate=16_000, hotwords=["hello"])
    return client


def test_other_clients_are_served_while_hotwords_are_compiled(slow_recognizer: SlowRecognizer) -> None:
    with run_server(slow_recognizer) as server:
        client = start_slowly(server)
        assert_serves_new_client(server)
        assert not client.messages
        slow_recognizer.unblock.set()
        client.receive_until("ready")


def test_session_whose_hotwords_are_compiled_counts_as_open(slow_recognizer: SlowRecognizer) -> None:
    with run_server(slow_recognizer, max_sessions=1) as server:
        client = start_slowly(server)
        wait_until(lambda: server.get("/v1/stream").status_code == 503)
        with pytest.raises(InvalidStatus):
            server.connect(f"{RAW_PATH}&keyterm=hello")
        slow_recognizer.unblock.set()
        client.receive_until("ready")
        client.send_message("finish")
        client.receive_until("done")
        assert_serves_new_client(server)


def test_upload_whose_hotwords_are_compiled_counts_once(slow_recognizer: SlowRecognizer) -> None:
    file = (BUNDLED_NAMES / "audio" / "01.ogg").read_bytes()
    with run_server(slow_recognizer, max_sessions=2) as server, ThreadPoolExecutor() as pool:
        upload = pool.submit(server.post, "/v1/listen?keyterm=hello", content=file)
        wait_until(lambda: server.service.sessions._opening_sessions == 1)
        assert_serves_new_client(server)
        slow_recognizer.unblock.set()
        assert upload.result().status_code == 200


def test_shutdown_while_hotwords_are_compiled_ends_the_session(slow_recognizer: SlowRecognizer) -> None:
    with run_server(slow_recognizer) as server:
        client = start_slowly(server)
        wait_until(lambda: server.service.sessions._opening_sessions == 1)
        server.stop()
        wait_until(lambda: server.service.sessions.draining)
        slow_recognizer.unblock.set()
        assert client.receive_close()[1] == 1001
        server.join()
