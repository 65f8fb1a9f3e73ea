"""The codecs of OpenAI's Realtime API."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr import Recognizer
from stream_asr.config import SegmenterConfig
from stream_asr.events import AudioDropped, Event, Final, Marked, Overload, Partial, SpeechStarted, Word
from stream_asr.server.protocols.openai.realtime_client_codec import (
    INPUT_FORMATS,
    Append,
    Clear,
    ClientEvent,
    Commit,
    EventError,
    SessionSettings,
    SessionUpdate,
    decode,
)
from stream_asr.server.protocols.openai.realtime_server_codec import Conversation
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent
from tests.support.fakes import FakeModel, loud, silence, sound

# --- client events --------------------------------------------------------------------------------------------

PCM16, ULAW, ALAW = INPUT_FORMATS


def make_update(**settings: Any) -> dict[str, Any]:
    """Make an update with the given keys of ``audio.input``."""
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": settings}}}


def make_beta_update(**settings: Any) -> dict[str, Any]:
    """Make an update in the format of the beta version, with the given keys of the session."""
    return {"type": "transcription_session.update", "session": settings}


@pytest.mark.parametrize(
    ("event", "decoded"),
    [
        ({"type": "input_audio_buffer.append", "audio": "AAEC"}, Append(b"\0\1\2")),
        ({"type": "input_audio_buffer.append", "audio": ""}, Append(b"")),
        ({"type": "input_audio_buffer.commit", "event_id": "x"}, Commit()),
        ({"type": "input_audio_buffer.clear"}, Clear()),
        ({"type": "session.update", "session": {"type": "transcription"}}, SessionUpdate(False, transcription={})),
        (make_update(format={"type": "audio/pcm", "rate": 24000}), SessionUpdate(False, PCM16, transcription={})),
        (make_update(format={"type": "audio/pcmu"}), SessionUpdate(False, ULAW, transcription={})),
        (make_update(turn_detection=None), SessionUpdate(False, turn_detection=False, transcription={})),
        (
            make_update(turn_detection={"type": "server_vad"}),
            SessionUpdate(False, turn_detection=True, transcription={}),
        ),
        (
            make_update(turn_detection={"type": "server_vad", "silence_duration_ms": 800}),
            SessionUpdate(False, turn_detection=True, transcription={}, endpoint_ms=800),
        ),
        (
            make_beta_update(turn_detection={"silence_duration_ms": None}),
            SessionUpdate(True, turn_detection=True, transcription={}),
        ),
        (
            make_update(transcription={"model": "x", "newer": "y"}, noise_reduction={"type": "near_field"}, new=1),
            SessionUpdate(False, transcription={"model": "x"}),
        ),
        (make_beta_update(), SessionUpdate(True, transcription={})),
        (
            make_beta_update(
                input_audio_format="g711_alaw",
                turn_detection={"threshold": 0.3},
                input_audio_transcription={"language": "en"},
                include=["x"],
            ),
            SessionUpdate(True, ALAW, turn_detection=True, transcription={"language": "en"}),
        ),
    ],
)
def test_client_events_are_decoded(event: dict[str, Any], decoded: ClientEvent) -> None:
    assert decode(json.dumps(event)) == decoded


@pytest.mark.parametrize(
    ("message", "code", "param", "expected_text"),
    [
        (b"\0\1", "invalid_event", None, "base64 in input_audio_buffer.append"),
        ("{", "invalid_json", None, "not JSON"),
        ("[" * 100_000, "invalid_json", None, "nested too deeply"),
        ("[]", "bad_message", None, "a JSON object"),
        ('{"x": NaN}', "invalid_json", None, "NaN is not a JSON value"),
        ("{}", "invalid_value", "type", "type is null"),
        ({"type": "response.create"}, "invalid_value", "type", "transcription sessions only; accepted: session.update"),
        ({"type": "input_audio_buffer.append"}, "invalid_type", "audio", "audio is null; it must be a base64 string"),
        ({"type": "input_audio_buffer.append", "audio": "A?=="}, "invalid_value", "audio", "audio is not base64"),
        ({"type": "input_audio_buffer.append", "audio": "ä"}, "invalid_value", "audio", "audio is not base64"),
        (
            {"type": "session.update", "session": {"type": "realtime"}},
            "invalid_value",
            "session.type",
            '"realtime"; this server has sessions of type transcription only',
        ),
        ({"type": "session.update", "session": 1}, "invalid_type", "session", "session is 1; it must be an object"),
        (
            make_update(format={"type": "audio/mp3"}),
            "invalid_value",
            "session.audio.input.format.type",
            '"audio/mp3"; accepted: audio/pcm, audio/pcmu, audio/pcma',
        ),
        (
            make_update(format={"type": "audio/pcm", "rate": 16000}),
            "invalid_value",
            "session.audio.input.format.rate",
            "rate is 16000; audio/pcm requires 24000",
        ),
        (
            make_update(turn_detection={"type": "semantic_vad"}),
            "invalid_value",
            "session.audio.input.turn_detection.type",
            '"semantic_vad"; accepted: server_vad, or turn_detection null',
        ),
        (
            make_beta_update(input_audio_format="mp3"),
            "invalid_value",
            "session.input_audio_format",
            'input_audio_format is "mp3"; accepted: pcm16, g711_ulaw, g711_alaw',
        ),
        (
            make_update(transcription={"prompt": 4097 * "x"}),
            "invalid_value",
            "session.audio.input.transcription.prompt",
            "prompt has 4097 characters; at most 4096 are accepted",
        ),
        (
            make_beta_update(input_audio_transcription={"language": 1}),
            "invalid_type",
            "session.input_audio_transcription.language",
            "language is 1; it must be a string",
        ),
        (
            make_beta_update(turn_detection=False),
            "invalid_type",
            "session.turn_detection",
            "turn_detection is false",
        ),
        (
            make_beta_update(turn_detection={"silence_duration_ms": True}),
            "invalid_type",
            "session.turn_detection.silence_duration_ms",
            "silence_duration_ms is true; it must be an integer",
        ),
    ],
)
def test_invalid_events_are_rejected_with_the_fault(
    message: Any, code: str, param: str | None, expected_text: str
) -> None:
    event_id = None
    if isinstance(message, dict):
        event_id = "some id"
        message = json.dumps({**message, "event_id": event_id})
    with pytest.raises(EventError) as caught:
        decode(message)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert expected_text in caught.value.message
    assert caught.value.event_id == event_id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "audio", "input", "format", "rate", "turn_detection"),
                    *("silence_duration_ms", "transcription", "x"),
                ]
            ),
            inner,
        )
    ),
    max_leaves=8,
)
event_types = st.sampled_from(
    ["session.update", "transcription_session.update", "input_audio_buffer.append", "input_audio_buffer.commit"]
)


@given(st.fixed_dictionaries({"type": event_types}, optional={"session": json_values, "audio": json_values}))
def test_any_event_is_decoded_or_rejected(event: dict[str, Any]) -> None:
    with suppress(EventError):
        assert isinstance(decode(json.dumps(event)), SessionUpdate | Append | Commit)


@given(st.binary())
def test_audio_is_decoded_from_base64(audio: bytes) -> None:
    event = {"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()}
    assert decode(json.dumps(event)) == Append(audio)


# --- server events --------------------------------------------------------------------------------------------

SEGMENTER = SegmenterConfig()
DELTA, COMPLETED = (f"conversation.item.input_audio_transcription.{kind}" for kind in ("delta", "completed"))
HELLO_WORLD = Final(0, 0.5, 2.2, "hello world", 0.9, (Word("hello", 0.8, 1.18, 0.8), Word("world", 1.28, 1.66, 1.0)))
AGAIN = Final(2, 3.0, 4.25, "again", 0.0, (Word("again", 3.1, 4.0, 0.0),))
SPEECH: tuple[Event, ...] = (
    SpeechStarted(0, 0.5),
    Partial(0, 0.5, 1.0, "", "hel"),
    Partial(0, 0.5, 1.5, "hello", "hello wor"),
    Overload(5000),
    Partial(0, 0.5, 2.0, "hello", "hello world"),
    AudioDropped(1.0, 1.1),
    HELLO_WORLD,
)


def make_conversation(*, turn_detection: bool = True, beta: bool = False) -> Conversation:
    conversation = Conversation("n", "m", SEGMENTER, beta=beta)
    conversation.settings = SessionSettings(turn_detection=turn_detection)
    return conversation


class Transcripts:
    """Collects the messages of a conversation, and checks rules that hold for every conversation.

    Attributes:
        types: Types of all messages, in order.
        items: Transcripts of the completed items by their id, in order.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self.types: list[str] = []
        self.items: dict[str, str] = {}
        self._deltas: dict[str, str] = {}
        self._committed_ids: list[str] = []

    def add_event(self, event: SessionEvent) -> None:
        """Pass a stream event to the conversation."""
        for text in self._conversation.on_event(event):
            self._add_message(json.loads(text))

    def _add_message(self, message: dict[str, Any]) -> None:
        message_type, item_id = message["type"], message.get("item_id", "")
        self.types.append(message_type)
        if message_type == DELTA:
            assert message["delta"]
            assert item_id not in self.items, "completed items do not change"
            self._deltas[item_id] = self._deltas.get(item_id, "") + message["delta"]
        elif message_type == "input_audio_buffer.committed":
            assert message["previous_item_id"] == (self._committed_ids[-1] if self._committed_ids else None)
            assert item_id not in self._committed_ids
            self._committed_ids.append(item_id)
        elif message_type == COMPLETED:
            assert item_id == self._committed_ids[-1]
            assert message["transcript"] == self._deltas.get(item_id, "")
            self.items[item_id] = message["transcript"]

    @property
    def texts(self) -> list[str]:
        return list(self.items.values())


def test_messages_of_a_turn() -> None:
    transcripts = Transcripts(make_conversation())
    for event in SPEECH:
        transcripts.add_event(event)
    buffer, item = "input_audio_buffer", "conversation.item"
    completion = [f"{buffer}.committed", f"{item}.added", f"{item}.done", COMPLETED]
    assert transcripts.types == [f"{buffer}.speech_started", DELTA, f"{buffer}.speech_stopped", DELTA, *completion]
    assert transcripts.texts == ["hello world"]


def test_beta_version_has_created_items() -> None:
    transcripts = Transcripts(make_conversation(beta=True))
    for event in SPEECH:
        transcripts.add_event(event)
    assert "conversation.item.created" in transcripts.types
    assert "conversation.item.added" not in transcripts.types


def test_times_and_ids_of_a_turn() -> None:
    conversation = make_conversation()
    messages = [json.loads(text) for event in SPEECH for text in conversation.on_event(event)]
    assert messages[0]["audio_start_ms"] == 500
    assert messages[2]["audio_end_ms"] == 2200
    assert messages[-1]["usage"] == {"type": "duration", "seconds": 3}
    assert len({message["event_id"] for message in messages}) == len(messages)
    assert len({message["item_id"] for message in messages if "item_id" in message}) == 1


def test_without_turn_detection_an_item_ends_at_a_commit() -> None:
    conversation = make_conversation(turn_detection=False)
    transcripts = Transcripts(conversation)
    for event in (*SPEECH, SpeechStarted(1, 3.0), AGAIN):
        transcripts.add_event(event)
    assert set(transcripts.types) == {DELTA}
    conversation.on_client_event(Append(b"x"))
    transcripts.add_event(MarkReached(conversation.add_boundary(Commit(), 4.5)))
    assert transcripts.texts == ["hello world again"]


@pytest.mark.parametrize("turn_detection", [True, False])
def test_speech_before_the_mark_of_a_commit_belongs_to_the_next_item(turn_detection: bool) -> None:
    """Silence is committed, and speech begins at once. Its pre-roll starts before the commit."""
    conversation = make_conversation(turn_detection=turn_detection)
    transcripts = Transcripts(conversation)
    tag = conversation.add_boundary(Commit(), 0.7)
    for event in (*SPEECH[:4], MarkReached(tag), *SPEECH[4:]):
        transcripts.add_event(event)
    assert transcripts.texts == (["", "hello world"] if turn_detection else [""])
    transcripts.add_event(MarkReached(conversation.add_boundary(Commit(), 2.2)))
    assert transcripts.texts[1] == "hello world"


@pytest.mark.parametrize("turn_detection", [True, False])
def test_clear_discards_the_current_utterance_but_not_earlier_turns(turn_detection: bool) -> None:
    conversation = make_conversation(turn_detection=turn_detection)
    transcripts = Transcripts(conversation)
    tag = conversation.add_boundary(Clear(), 4.3)
    for event in (*SPEECH, SpeechStarted(1, 3.0), AGAIN, MarkReached(tag)):
        transcripts.add_event(event)
    assert transcripts.types[-1] == "input_audio_buffer.cleared"
    assert transcripts.texts == (["hello world"] if turn_detection else [])
    transcripts.add_event(MarkReached(conversation.add_boundary(Commit(), 5.0)))
    assert transcripts.texts[-1] == ""


def test_commit_without_audio_is_an_error_and_clear_is_not() -> None:
    conversation = make_conversation()
    with pytest.raises(EventError, match="no audio"):
        conversation.on_client_event(Commit())
    assert json.loads(conversation.on_client_event(Clear()) or "")["type"] == "input_audio_buffer.cleared"
    assert conversation.on_client_event(Append(b"")) is None
    with pytest.raises(EventError, match="no audio"):
        conversation.on_client_event(Commit())
    assert conversation.on_client_event(Append(b"x")) is None
    assert conversation.on_client_event(Commit()) is None


HALF_PAIR = "\ud800"
"""Half of a surrogate pair, which has an escape in JSON but no encoding in UTF-8."""


@pytest.mark.parametrize(
    "event", [make_update(transcription={"prompt": HALF_PAIR}), {"type": HALF_PAIR, "event_id": HALF_PAIR}]
)
def test_text_of_a_client_is_echoed_unchanged(event: dict[str, Any]) -> None:
    conversation = make_conversation()
    try:
        answer = conversation.on_client_event(decode(json.dumps(event))) or ""
    except EventError as error:
        answer = conversation.encode_error(error)
    message = json.loads(answer.encode())
    if message["type"] == "error":
        assert message["error"]["event_id"] == HALF_PAIR
    else:
        assert message["session"]["audio"]["input"]["transcription"]["prompt"] == HALF_PAIR


def test_settings_are_echoed_in_the_version_that_the_client_uses() -> None:
    conversation = make_conversation()
    created = json.loads(conversation.encode_created())
    assert created["type"] == "session.created"
    assert created["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert created["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == SEGMENTER.endpoint_ms
    updated = json.loads(conversation.on_client_event(SessionUpdate(True, ULAW, False, {"model": "x"})) or "")
    assert updated["type"] == "transcription_session.updated"
    assert updated["session"]["input_audio_format"] == "g711_ulaw"
    assert updated["session"]["turn_detection"] is None
    assert updated["session"]["input_audio_transcription"] == {"model": "x"}
    conversation.on_client_event(Append(b"x"))
    updated = json.loads(conversation.on_client_event(SessionUpdate(False, ULAW, True, {"language": "en"})) or "")
    assert updated["type"] == "session.updated"
    assert conversation.settings == SessionSettings(ULAW, True, {"model": "x", "language": "en"})
    with pytest.raises(EventError, match="cannot be changed after the first audio"):
        conversation.on_client_event(SessionUpdate(False, PCM16))


def test_silence_duration_is_echoed_and_fixed_after_the_first_audio() -> None:
    conversation = make_conversation()
    for invalid_ms in (-1, SEGMENTER.min_pause_ms - 1, 9_701, 10**30):
        with pytest.raises(EventError, match="accepted: 80 to 9700"):
            conversation.on_client_event(SessionUpdate(False, endpoint_ms=invalid_ms))
    updates = (
        SessionUpdate(False, endpoint_ms=9_700),
        SessionUpdate(False, turn_detection=True),
        SessionUpdate(False, PCM16),
    )
    for update in updates:
        message = json.loads(conversation.on_client_event(update) or "")
        silence_ms = message["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"]
        assert silence_ms == conversation.settings.endpoint_ms == 9_700
    conversation.on_client_event(Append(b"x"))
    conversation.on_client_event(SessionUpdate(False, endpoint_ms=9_700))
    with pytest.raises(EventError, match="silence_duration_ms cannot be changed after the first audio"):
        conversation.on_client_event(SessionUpdate(False, endpoint_ms=500))


def test_default_silence_duration_may_be_set_explicitly_after_the_first_audio() -> None:
    conversation = make_conversation()
    conversation.on_client_event(Append(b"x"))
    assert conversation.on_client_event(SessionUpdate(False, endpoint_ms=SEGMENTER.endpoint_ms))


steps = st.lists(
    st.tuples(st.sampled_from(["hello", "ab cd", "", "pause"]), st.sampled_from([None, Commit(), Clear()])), max_size=6
)


@settings(max_examples=60)
@given(steps, st.booleans())
def test_items_contain_every_word_once_for_any_commits_and_clears(
    steps: list[tuple[str, Commit | Clear | None]], turn_detection: bool
) -> None:
    """Each word is in the item to which it belongs, and the rules of `Transcripts` hold."""
    conversation = make_conversation(turn_detection=turn_detection)
    transcripts = Transcripts(conversation)
    expected = [""]
    tags = {}
    with Recognizer(FakeModel(), detector=lambda: loud) as recognizer, recognizer.stream() as stream:
        stream.source_waits = True
        for text, request in [*steps, ("", Commit())]:
            # The fake model garbles letters next to a cut, so there is silence around them.
            blocks = [silence(1.0)] if text == "pause" else [silence(0.2), sound(text), silence(0.2)]
            for block in blocks:
                stream.feed(block)
                conversation.on_client_event(Append(b"x"))
            if text != "pause":
                expected[-1] += text.replace(" ", "")
            if request is None:
                continue
            stream.flush()
            tag = conversation.add_boundary(request, stream.received_s)
            tags[stream.mark()] = tag
            if isinstance(request, Commit):
                expected.append("")
            else:
                expected[-1] = ""
        stream.finish()
        for event in stream:
            transcripts.add_event(MarkReached(tags[event.mark]) if isinstance(event, Marked) else event)
    texts = [text.replace(" ", "") for text in transcripts.texts]
    clear_count = sum(isinstance(request, Clear) for _, request in steps)
    assert transcripts.types.count("input_audio_buffer.cleared") == clear_count
    if not turn_detection:
        assert texts == expected[:-1]
    elif not clear_count:
        assert "".join(texts) == "".join(expected)
