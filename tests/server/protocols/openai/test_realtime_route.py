"""OpenAI's Realtime API, spoken by OpenAI's own client, over real sockets."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import openai
import pytest
import soxr
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.audio.pcm import ENCODINGS
from tests.support.fakes import FakeModel, conversation, loud, silence, sound
from tests.support.serving import TIMEOUT_S, NativeClient, RunningServer, run_server, server_process, wait_until

# The vendor's client opens its connections in a way that its own dependency has begun to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")

SAID = ["hello world", "and again", "ab abc"]
TRANSCRIPTION = "conversation.item.input_audio_transcription"
COMPLETED, DELTA = f"{TRANSCRIPTION}.completed", f"{TRANSCRIPTION}.delta"
MANUAL = {"turn_detection": None}


def pcm16(audio: FloatArray) -> bytes:
    """At 24 kHz, each sample held: the fake model reads amplitudes, and no filter may round them off."""
    held = np.repeat(audio.reshape(-1, 2), [2, 1], axis=1).ravel()
    return np.rint(held * 32767).astype("<i2").tobytes()


class Talk:
    """A connection of the vendor's client."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.seen: list[Any] = []

    def send(self, audio: bytes, block: int = 9_999) -> None:
        for at in range(0, len(audio), block):
            self.connection.input_audio_buffer.append(audio=base64.b64encode(audio[at : at + block]).decode())

    def until(self, kind: str, count: int = 1) -> Any:
        while True:
            event = self.connection.recv()
            self.seen.append(event)
            if event.type == kind:
                count -= 1
                if not count:
                    return event
            assert event.type != "error", event

    @property
    def transcripts(self) -> list[str]:
        """Of the items in their order; what was told bit by bit adds up to them."""
        items = {event.item_id: event.transcript for event in self.seen if event.type == COMPLETED}
        for item, transcript in items.items():
            pieces = [event.delta for event in self.seen if event.type == DELTA and event.item_id == item]
            assert "".join(pieces) == transcript
        return list(items.values())

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.seen]


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_server() as server:
        yield server


@pytest.fixture
def talk(served: RunningServer) -> Iterator[Callable[..., Talk]]:
    """Connects, and sets up what is given: keys of ``audio.input``, or in the older shape of the session itself."""
    with ExitStack() as stack:

        def connect(*, beta: bool = False, **settings: Any) -> Talk:
            client = stack.enter_context(
                openai.OpenAI(
                    base_url=f"http://{served.address}/v1",
                    websocket_base_url=f"ws://{served.address}/v1",
                    api_key="none",
                    max_retries=0,
                )
            )
            if beta:
                made = client.beta.realtime.connect(model="whisper-1", extra_query={"intent": "transcription"})
                talk = Talk(stack.enter_context(made))
                talk.connection.transcription_session.update(session=settings)
                talk.until("transcription_session.updated")
            else:
                made = client.realtime.connect(extra_query={"intent": "transcription"})
                talk = Talk(stack.enter_context(made))
                talk.connection.session.update(session={"type": "transcription", "audio": {"input": settings}})
                talk.until("session.updated")
            return talk

        yield connect


def test_turns_are_found_by_the_server(talk: Callable[..., Talk]) -> None:
    there = talk()
    there.send(pcm16(conversation(*SAID)))
    there.until(COMPLETED, 3)
    assert there.transcripts == SAID
    buffer = "input_audio_buffer"
    item = [f"{buffer}.committed", "conversation.item.added", "conversation.item.done"]
    turn = [f"{buffer}.speech_started", f"{buffer}.speech_stopped", DELTA, *item, COMPLETED]
    assert there.kinds == ["session.created", "session.updated", *turn * 3]
    started, stopped, _, committed, added, done, completed = there.seen[9:16]
    assert len({event.item_id for event in (started, stopped, committed, completed)}) == 1
    assert added.item.id == done.item.id == committed.item_id
    assert committed.previous_item_id == there.seen[8].item_id
    assert 1900 < started.audio_start_ms < stopped.audio_end_ms < 4000


def test_turns_end_after_the_silence_that_was_asked_for(talk: Callable[..., Talk]) -> None:
    there = talk(turn_detection={"type": "server_vad", "silence_duration_ms": 1500})
    assert there.seen[-1].session.audio.input.turn_detection.silence_duration_ms == 1500
    there.send(pcm16(np.concatenate([conversation(*SAID), silence(1.0)])))
    there.until(COMPLETED)
    assert there.transcripts == ["".join(SAID)]


def test_the_older_shape(talk: Callable[..., Talk]) -> None:
    there = talk(beta=True, input_audio_format="pcm16", input_audio_transcription={"model": "whisper-1"})
    there.send(pcm16(conversation(*SAID)))
    there.until(COMPLETED, 3)
    assert there.transcripts == SAID
    assert there.kinds[:2] == ["transcription_session.created", "transcription_session.updated"]
    assert there.kinds.count("conversation.item.created") == 3
    assert "conversation.item.added" not in there.kinds


def test_without_turn_detection_a_commit_ends_an_item(talk: Callable[..., Talk]) -> None:
    there = talk(**MANUAL)
    there.send(pcm16(conversation(*SAID)))
    there.connection.input_audio_buffer.commit()
    there.send(pcm16(conversation("again")))
    there.connection.input_audio_buffer.commit()
    there.until(COMPLETED, 2)
    assert there.transcripts == [" ".join(SAID), "again"]
    assert not any("speech" in kind for kind in there.kinds)


def test_text_comes_while_people_speak(talk: Callable[..., Talk]) -> None:
    long = "ab cd ef gh ij kl mn op qr st uv wx"
    there = talk()
    there.send(pcm16(np.concatenate([silence(0.5), sound(long)])))
    there.until(DELTA)
    assert COMPLETED not in there.kinds
    there.send(pcm16(silence(0.8)))
    there.until(COMPLETED)
    assert there.transcripts == [long]
    assert there.kinds.count(DELTA) > 1


def test_a_commit_in_mid_speech_and_one_in_silence(talk: Callable[..., Talk]) -> None:
    there = talk()
    there.send(pcm16(np.concatenate([silence(0.5), sound("hello"), silence(0.3)])))
    there.connection.input_audio_buffer.commit()
    there.until(COMPLETED)
    there.send(pcm16(silence(0.5)))
    there.connection.input_audio_buffer.commit()
    there.until(COMPLETED)
    assert there.transcripts == ["hello", ""]
    assert "input_audio_buffer.speech_stopped" not in there.kinds


@pytest.mark.parametrize("settings", [{}, MANUAL])
def test_what_is_cleared_is_forgotten(talk: Callable[..., Talk], settings: dict[str, Any]) -> None:
    there = talk(**settings)
    there.send(pcm16(np.concatenate([silence(0.5), sound("hello"), silence(0.3)])))
    there.connection.input_audio_buffer.clear()
    there.until("input_audio_buffer.cleared")
    there.send(pcm16(np.concatenate([silence(0.5), sound("again"), silence(0.3)])))
    there.connection.input_audio_buffer.commit()
    there.until(COMPLETED)
    assert there.transcripts == ["again"]


@pytest.mark.parametrize(("form", "encoding"), [("audio/pcmu", "mulaw"), ("audio/pcma", "alaw")])
def test_telephone_encodings(talk: Callable[..., Talk], form: str, encoding: str) -> None:
    _, decode = ENCODINGS[encoding]
    loudness = decode(np.arange(256, dtype=np.uint8))
    levels, level_of = np.unique(conversation("abc cab")[::2], return_inverse=True)
    nearest = np.abs(loudness[None, :] - levels[:, None]).argmin(axis=1).astype(np.uint8)
    there = talk(format={"type": form}, **MANUAL)
    there.send(nearest[level_of].tobytes())
    there.connection.input_audio_buffer.commit()
    there.until(COMPLETED)
    assert there.transcripts == ["abc cab"]
    shown = there.seen[1].session.audio.input.format
    assert (shown.type, shown.rate) == (form, 8000)


def test_mistakes_are_told_and_forgiven(talk: Callable[..., Talk]) -> None:
    there = talk()

    def told(event: Any) -> Any:
        there.connection.send(event)
        error = there.connection.recv()
        assert error.type == "error"
        return error.error

    error = told({"type": "response.create", "event_id": "mine"})
    assert (error.type, error.param, error.event_id) == ("invalid_request_error", "type", "mine")
    assert told({"type": "input_audio_buffer.commit"}).code == "input_audio_buffer_commit_empty"
    assert told({"type": "session.update", "session": {"type": "realtime"}}).param == "session.type"
    assert "base64" in told({"type": "input_audio_buffer.append", "audio": "?"}).message
    there.send(pcm16(conversation("hello")))
    there.until(COMPLETED)
    update = {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    assert "after the first audio" in told({"type": "session.update", "session": update}).message
    there.send(pcm16(conversation("again")))
    there.until(COMPLETED)
    assert there.transcripts == ["hello", "again"]


def test_they_are_not_forgiven_for_ever(served: RunningServer) -> None:
    with served.connect("/v1/realtime?intent=transcription") as connection:
        for _ in range(101):
            connection.send("{}")
        error, closed, _ = NativeClient(connection).receive_close()
    assert error["error"]["code"] == "too_many_mistakes"
    assert closed == 1008


def test_who_may_not_connect() -> None:
    with run_server(tokens=("secret",), max_sessions=1) as server:

        def refused(path: str, **settings: Any) -> tuple[int, str]:
            with pytest.raises(InvalidStatus) as caught, server.connect(path, **settings):
                pass
            response = caught.value.response
            return response.status_code, json.loads(response.body or b"")["error"]["code"]

        authorized = {"additional_headers": {"Authorization": "Bearer secret"}}
        assert refused("/v1/realtime") == (401, "unauthorized")
        assert refused("/v1/realtime?intent=conversation", **authorized) == (400, "invalid_value")
        browser: Any = ["realtime", "openai-insecure-api-key.secret"]
        with server.connect("/v1/realtime", subprotocols=browser) as connection:
            assert connection.subprotocol == "realtime"
            assert json.loads(connection.recv(TIMEOUT_S))["type"] == "session.created"
            assert refused("/v1/realtime", **authorized) == (503, "too_many_sessions")
            browser[1] += "x"
            assert refused("/v1/realtime", subprotocols=browser) == (401, "unauthorized")
        wait_until(lambda: server.service.sessions.unavailable_reason() is None)


def test_who_falls_silent_gets_what_was_said_and_then_the_reason() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect("/v1/realtime") as connection:
        audio = base64.b64encode(pcm16(np.concatenate([silence(0.5), sound("hello"), silence(0.2)]))).decode()
        connection.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        there = NativeClient(connection)
        error, closed, _ = there.receive_close()
        assert there.messages[-2]["transcript"] == "hello"
        assert (error["error"]["code"], closed) == ("idle_timeout", 1008)
        with server.connect("/v1/realtime") as silent:
            assert NativeClient(silent).receive_close()[0]["error"]["code"] == "idle_timeout"


def test_who_only_changes_settings_is_sent_away() -> None:
    update = {"type": "session.update", "session": {"type": "transcription"}}
    with run_server(idle_timeout_s=0.3) as server, server.connect("/v1/realtime") as connection:
        there = NativeClient(connection)

        def chat() -> None:
            for _ in range(100):
                connection.send(json.dumps(update))
                there.receive()
                time.sleep(0.02)

        with pytest.raises(ConnectionClosed):
            chat()
        error, closed, _ = there.receive_close()
        assert (error["error"]["code"], closed) == ("idle_timeout", 1008)


def test_the_model_fails() -> None:
    def fail(windows: object) -> None:
        raise RuntimeError("out of memory")

    with (
        Recognizer(FakeModel(fail), detector=lambda: loud) as recognizer,
        run_server(recognizer) as server,
        server.connect("/v1/realtime") as connection,
    ):
        audio = base64.b64encode(pcm16(conversation("hello"))).decode()
        connection.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        error, closed, _ = NativeClient(connection).receive_close()
        assert (error["error"]["type"], error["error"]["code"], closed) == ("server_error", "internal", 1011)
        assert "out of memory" in error["error"]["message"]


def test_the_text_is_that_of_transcribe(recognizer: Recognizer, speech: FloatArray) -> None:
    audio = np.rint(soxr.resample(speech, 16_000, 24_000) * 32767).astype("<i2")
    expected = recognizer.transcribe(audio, 24_000)
    heard: dict[bool, list[str]] = {}

    def ask(address: str, detects_turns: bool) -> None:
        urls = {"base_url": f"{address.replace('ws', 'http', 1)}/v1", "websocket_base_url": f"{address}/v1"}
        with (
            openai.OpenAI(**urls, api_key="none") as client,
            client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
        ):
            there = Talk(connection)
            settings: Any = {} if detects_turns else MANUAL
            connection.session.update(session={"type": "transcription", "audio": {"input": settings}})
            there.send(audio.tobytes())
            connection.input_audio_buffer.commit()
            count = len(expected.utterances) if detects_turns else 1
            while sum(map(bool, there.transcripts)) < count:
                there.until(COMPLETED)
            heard[detects_turns] = there.transcripts

    with server_process() as (_, address):
        threads = [threading.Thread(target=ask, args=(address, detects_turns)) for detects_turns in (True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [text for text in heard[True] if text] == [final.text for final in expected.utterances]
    assert heard[False] == [expected.text]
