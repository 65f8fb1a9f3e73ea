"""OpenAI's Realtime API, with OpenAI's published SDK over real connections."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import openai
import pytest
import soxr
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.audio.pcm import ENCODINGS
from tests.support.fakes import FakeModel, conversation, loud, silence, sound
from tests.support.serving import TIMEOUT_S, NativeClient, RunningServer, run_server, server_process, wait_until

# The SDK opens connections in a way that the websockets package deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")

SENTENCES = ["hello world", "and again", "ab abc"]
TRANSCRIPTION = "conversation.item.input_audio_transcription"
COMPLETED, DELTA = f"{TRANSCRIPTION}.completed", f"{TRANSCRIPTION}.delta"
NO_TURN_DETECTION: dict[str, Any] = {"turn_detection": None}
QUERY = {"intent": "transcription"}


def encode_pcm16_24k(audio: FloatArray) -> bytes:
    """Encode 16 kHz audio at 24 kHz by repeating samples: the fake model reads amplitudes, a filter would change them.

    Args:
        audio: Shape (samples,), an even number of samples.
    """
    repeated = np.repeat(audio.reshape(-1, 2), [2, 1], axis=1).ravel()
    return np.rint(repeated * 32767).astype("<i2").tobytes()


class RealtimeClient:
    """A connection of the SDK, of either version of the API."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[Any] = []

    def send_audio(self, audio: bytes, block_bytes: int = 9_999) -> None:
        for start in range(0, len(audio), block_bytes):
            block = audio[start : start + block_bytes]
            self.connection.input_audio_buffer.append(audio=base64.b64encode(block).decode())

    def receive_until(self, event_type: str, count: int = 1) -> Any:
        """Receive events up to the ``count``-th of a type."""
        while True:
            event = self.connection.recv()
            self.events.append(event)
            if event.type == event_type:
                count -= 1
                if not count:
                    return event
            assert event.type != "error", event

    def send_invalid(self, event: dict[str, Any]) -> Any:
        """Send an event and return the error that answers it."""
        self.connection.send(event)
        answer = self.connection.recv()
        assert answer.type == "error"
        return answer.error

    @property
    def transcripts(self) -> list[str]:
        """Transcripts of the completed items, in order. Their deltas must add up to them."""
        items = {event.item_id: event.transcript for event in self.events if event.type == COMPLETED}
        for item_id, transcript in items.items():
            deltas = [event.delta for event in self.events if event.type == DELTA and event.item_id == item_id]
            assert "".join(deltas) == transcript
        return list(items.values())

    @property
    def event_types(self) -> list[str]:
        return [event.type for event in self.events]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_server() as running_server:
        yield running_server


def make_sdk_client(http_url: str, websocket_url: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{http_url}/v1", websocket_base_url=f"{websocket_url}/v1", api_key="none", max_retries=0
    )


class Connect(Protocol):
    """Connects, and sends settings: keys of ``audio.input``, or of the session in the beta version."""

    def __call__(self, *, beta: bool = False, **settings: Any) -> RealtimeClient: ...


@pytest.fixture
def connect(server: RunningServer) -> Iterator[Connect]:
    with ExitStack() as stack:

        def connect(*, beta: bool = False, **settings: Any) -> RealtimeClient:
            sdk = stack.enter_context(make_sdk_client(f"http://{server.address}", f"ws://{server.address}"))
            if beta:
                beta_manager = sdk.beta.realtime.connect(model="whisper-1", extra_query=QUERY)
                client = RealtimeClient(stack.enter_context(beta_manager))
                client.connection.transcription_session.update(session=settings)
                client.receive_until("transcription_session.updated")
            else:
                manager = sdk.realtime.connect(extra_query=QUERY)
                client = RealtimeClient(stack.enter_context(manager))
                client.connection.session.update(session={"type": "transcription", "audio": {"input": settings}})
                client.receive_until("session.updated")
            return client

        yield connect


# --- items ----------------------------------------------------------------------------------------------------


def test_turns_end_at_pauses(connect: Connect) -> None:
    client = connect()
    client.send_audio(encode_pcm16_24k(conversation(*SENTENCES)))
    client.receive_until(COMPLETED, 3)
    assert client.transcripts == SENTENCES
    buffer = "input_audio_buffer"
    item = [f"{buffer}.committed", "conversation.item.added", "conversation.item.done"]
    turn = [f"{buffer}.speech_started", f"{buffer}.speech_stopped", DELTA, *item, COMPLETED]
    assert client.event_types == ["session.created", "session.updated", *turn * 3]
    started, stopped, _, committed, added, done, completed = client.events[9:16]
    assert len({event.item_id for event in (started, stopped, committed, completed)}) == 1
    assert added.item.id == done.item.id == committed.item_id
    assert committed.previous_item_id == client.events[8].item_id
    assert 1900 < started.audio_start_ms < stopped.audio_end_ms < 4000


def test_turns_end_after_the_requested_silence(connect: Connect) -> None:
    client = connect(turn_detection={"type": "server_vad", "silence_duration_ms": 1500})
    assert client.events[-1].session.audio.input.turn_detection.silence_duration_ms == 1500
    client.send_audio(encode_pcm16_24k(np.concatenate([conversation(*SENTENCES), silence(1.0)])))
    client.receive_until(COMPLETED)
    assert client.transcripts == ["".join(SENTENCES)]


def test_beta_version(connect: Connect) -> None:
    client = connect(beta=True, input_audio_format="pcm16", input_audio_transcription={"model": "whisper-1"})
    client.send_audio(encode_pcm16_24k(conversation(*SENTENCES)))
    client.receive_until(COMPLETED, 3)
    assert client.transcripts == SENTENCES
    assert client.event_types[:2] == ["transcription_session.created", "transcription_session.updated"]
    assert client.event_types.count("conversation.item.created") == 3
    assert "conversation.item.added" not in client.event_types


def test_without_turn_detection_an_item_ends_at_a_commit(connect: Connect) -> None:
    client = connect(**NO_TURN_DETECTION)
    client.send_audio(encode_pcm16_24k(conversation(*SENTENCES)))
    client.connection.input_audio_buffer.commit()
    client.send_audio(encode_pcm16_24k(conversation("again")))
    client.connection.input_audio_buffer.commit()
    client.receive_until(COMPLETED, 2)
    assert client.transcripts == [" ".join(SENTENCES), "again"]
    assert not any("speech" in event_type for event_type in client.event_types)


def test_deltas_are_sent_during_an_utterance(connect: Connect) -> None:
    text = "ab cd ef gh ij kl mn op qr st uv wx"
    client = connect()
    client.send_audio(encode_pcm16_24k(np.concatenate([silence(0.5), sound(text)])))
    client.receive_until(DELTA)
    assert COMPLETED not in client.event_types
    client.send_audio(encode_pcm16_24k(silence(0.8)))
    client.receive_until(COMPLETED)
    assert client.transcripts == [text]
    assert client.event_types.count(DELTA) > 1


def test_commit_during_speech_and_commit_in_silence(connect: Connect) -> None:
    client = connect()
    client.send_audio(encode_pcm16_24k(np.concatenate([silence(0.5), sound("hello"), silence(0.3)])))
    client.connection.input_audio_buffer.commit()
    client.receive_until(COMPLETED)
    client.send_audio(encode_pcm16_24k(silence(0.5)))
    client.connection.input_audio_buffer.commit()
    client.receive_until(COMPLETED)
    assert client.transcripts == ["hello", ""]
    assert "input_audio_buffer.speech_stopped" not in client.event_types


@pytest.mark.parametrize("settings", [{}, NO_TURN_DETECTION])
def test_cleared_audio_is_in_no_item(connect: Connect, settings: dict[str, Any]) -> None:
    client = connect(**settings)
    client.send_audio(encode_pcm16_24k(np.concatenate([silence(0.5), sound("hello"), silence(0.3)])))
    client.connection.input_audio_buffer.clear()
    client.receive_until("input_audio_buffer.cleared")
    client.send_audio(encode_pcm16_24k(np.concatenate([silence(0.5), sound("again"), silence(0.3)])))
    client.connection.input_audio_buffer.commit()
    client.receive_until(COMPLETED)
    assert client.transcripts == ["again"]


@pytest.mark.parametrize(("name", "encoding"), [("audio/pcmu", "mulaw"), ("audio/pcma", "alaw")])
def test_telephone_encodings(connect: Connect, name: str, encoding: str) -> None:
    _, decode = ENCODINGS[encoding]
    amplitudes = decode(np.arange(256, dtype=np.uint8))
    levels, level_indices = np.unique(conversation("abc cab")[::2], return_inverse=True)
    codes = np.abs(amplitudes[None, :] - levels[:, None]).argmin(axis=1).astype(np.uint8)
    client = connect(format={"type": name}, **NO_TURN_DETECTION)
    client.send_audio(codes[level_indices].tobytes())
    client.connection.input_audio_buffer.commit()
    client.receive_until(COMPLETED)
    assert client.transcripts == ["abc cab"]
    input_format = client.events[1].session.audio.input.format
    assert (input_format.type, input_format.rate) == (name, 8000)


# --- errors and limits ----------------------------------------------------------------------------------------


def test_session_continues_after_invalid_events(connect: Connect) -> None:
    client = connect()
    error = client.send_invalid({"type": "response.create", "event_id": "some id"})
    assert (error.type, error.param, error.event_id) == ("invalid_request_error", "type", "some id")
    error = client.send_invalid({"type": "input_audio_buffer.commit"})
    assert error.code == "input_audio_buffer_commit_empty"
    error = client.send_invalid({"type": "session.update", "session": {"type": "realtime"}})
    assert error.param == "session.type"
    error = client.send_invalid({"type": "input_audio_buffer.append", "audio": "?"})
    assert "base64" in error.message
    client.send_audio(encode_pcm16_24k(conversation("hello")))
    client.receive_until(COMPLETED)
    session = {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    error = client.send_invalid({"type": "session.update", "session": session})
    assert "after the first audio" in error.message
    client.send_audio(encode_pcm16_24k(conversation("again")))
    client.receive_until(COMPLETED)
    assert client.transcripts == ["hello", "again"]


def test_invalid_events_are_limited(server: RunningServer) -> None:
    with server.connect("/v1/realtime?intent=transcription") as connection:
        for _ in range(101):
            connection.send("{}")
        message, closed, _ = NativeClient(connection).receive_close()
    assert message["error"]["code"] == "too_many_mistakes"
    assert closed == 1008


def test_connections_are_refused_before_the_handshake() -> None:
    with run_server(tokens=("secret",), max_sessions=1) as server:

        def connect_refused(path: str, **options: Any) -> tuple[int, str]:
            """Return the HTTP status and the error code."""
            with pytest.raises(InvalidStatus) as caught, server.connect(path, **options):
                pass
            response = caught.value.response
            return response.status_code, json.loads(response.body or b"")["error"]["code"]

        authorized = {"additional_headers": {"Authorization": "Bearer secret"}}
        assert connect_refused("/v1/realtime") == (401, "unauthorized")
        assert connect_refused("/v1/realtime?intent=conversation", **authorized) == (400, "invalid_value")
        protocols = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.secret")]
        with server.connect("/v1/realtime", subprotocols=protocols) as connection:
            assert connection.subprotocol == "realtime"
            assert json.loads(connection.recv(TIMEOUT_S))["type"] == "session.created"
            assert connect_refused("/v1/realtime", **authorized) == (503, "too_many_sessions")
            wrong_token = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.wrong")]
            assert connect_refused("/v1/realtime", subprotocols=wrong_token) == (401, "unauthorized")
        wait_until(lambda: server.service.sessions.unavailable_reason() is None)


def append_event(audio: FloatArray) -> str:
    encoded = base64.b64encode(encode_pcm16_24k(audio)).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": encoded})


def test_silent_client_gets_its_transcript_and_is_closed_after_idle_timeout() -> None:
    with run_server(idle_timeout_s=0.5) as server:
        with server.connect("/v1/realtime") as connection:
            connection.send(append_event(np.concatenate([silence(0.5), sound("hello"), silence(0.2)])))
            client = NativeClient(connection)
            message, closed, _ = client.receive_close()
            assert client.messages[-2]["transcript"] == "hello"
            assert (message["error"]["code"], closed) == ("idle_timeout", 1008)
        with server.connect("/v1/realtime") as connection:
            message, _, _ = NativeClient(connection).receive_close()
            assert message["error"]["code"] == "idle_timeout"


def test_client_that_only_sends_settings_is_closed_after_idle_timeout() -> None:
    update = {"type": "session.update", "session": {"type": "transcription"}}
    with run_server(idle_timeout_s=0.3) as server, server.connect("/v1/realtime") as connection:
        client = NativeClient(connection)

        def send_updates() -> None:
            for _ in range(100):
                connection.send(json.dumps(update))
                client.receive()
                time.sleep(0.02)

        with pytest.raises(ConnectionClosed):
            send_updates()
        message, closed, _ = client.receive_close()
        assert (message["error"]["code"], closed) == ("idle_timeout", 1008)


def test_model_failure_is_reported_to_the_client() -> None:
    def fail(windows: object) -> None:
        raise RuntimeError("out of memory")

    with (
        Recognizer(FakeModel(fail), detector=lambda: loud) as recognizer,
        run_server(recognizer) as server,
        server.connect("/v1/realtime") as connection,
    ):
        connection.send(append_event(conversation("hello")))
        message, closed, _ = NativeClient(connection).receive_close()
        error = message["error"]
        assert (error["type"], error["code"], closed) == ("server_error", "internal", 1011)
        assert "out of memory" in error["message"]


# --- bundled model --------------------------------------------------------------------------------------------


def test_text_equals_that_of_transcribe(recognizer: Recognizer, speech: FloatArray) -> None:
    audio = np.rint(soxr.resample(speech, 16_000, 24_000) * 32767).astype("<i2")
    expected = recognizer.transcribe(audio, 24_000)
    transcripts: dict[bool, list[str]] = {}

    def caption(address: str, turn_detection: bool) -> None:
        with (
            make_sdk_client(address.replace("ws", "http", 1), address) as sdk,
            sdk.realtime.connect(extra_query=QUERY) as connection,
        ):
            client = RealtimeClient(connection)
            settings = {} if turn_detection else NO_TURN_DETECTION
            client.connection.session.update(session={"type": "transcription", "audio": {"input": settings}})
            client.send_audio(audio.tobytes())
            client.connection.input_audio_buffer.commit()
            count = len(expected.utterances) if turn_detection else 1
            while sum(map(bool, client.transcripts)) < count:
                client.receive_until(COMPLETED)
            transcripts[turn_detection] = client.transcripts

    with server_process() as (_, address):
        threads = [threading.Thread(target=caption, args=(address, turn_detection)) for turn_detection in (True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [text for text in transcripts[True] if text] == [final.text for final in expected.utterances]
    assert transcripts[False] == [expected.text]
