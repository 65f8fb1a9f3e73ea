"""The codecs of OpenAI's interfaces: what they take, how they say no, and what they make of events."""

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
from stream_asr.server.errors import CloseCode, SessionError
from stream_asr.server.protocols.openai import transcription_codec as openai_audio
from stream_asr.server.protocols.openai import common_codec as openai
from stream_asr.server.protocols.openai import realtime_client_codec as openai_realtime
from stream_asr.server.protocols.openai.realtime_server_codec import Conversation
from stream_asr.server.protocols.openai.realtime_client_codec import Append, Clear, Commit, EventError, Setup, Update
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent
from tests.support.fakes import FakeModel, loud, silence, sound

FINALS = [
    Final(0, 0.5, 2.2, "hello world", 0.9, (Word("hello", 0.8, 1.18, 0.8), Word("world", 1.28, 1.66, 1.0))),
    Final(2, 3.0, 4.25, "again", 0.0, (Word("again", 3.1, 4.0, 0.0),)),
]

# --- transcripts and errors -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.text("ab ", max_size=8), st.lists(st.integers(0, 8), max_size=3))))
def test_a_transcript_only_grows_and_is_the_joined_finals(utterances: list[tuple[str, list[int]]]) -> None:
    transcript = openai.Transcript()
    pieces = []
    for final, cuts in utterances:
        pieces += [transcript.grow(final[:cut]) for cut in sorted(cuts)]
        pieces.append(transcript.end(final))
    assert "".join(pieces) == transcript.text == " ".join(final for final, _ in utterances if final)


@pytest.mark.parametrize(
    ("close_code", "status", "kind"),
    [
        (CloseCode.POLICY_VIOLATION, 400, "invalid_request_error"),
        (CloseCode.INVALID_DATA, 400, "invalid_request_error"),
        (CloseCode.TOO_BIG, 413, "invalid_request_error"),
        (CloseCode.TRY_AGAIN_LATER, 503, "server_error"),
        (CloseCode.GOING_AWAY, 503, "server_error"),
        (CloseCode.INTERNAL_ERROR, 500, "server_error"),
    ],
)
def test_errors(close_code: CloseCode, status: int, kind: str) -> None:
    error = SessionError("some_code", "what was wrong", close_code)
    assert error.http_status == status
    told = {"message": "what was wrong", "type": kind, "param": None, "code": "some_code"}
    assert openai.error_object(error) == told
    assert openai.error_body(status, "some_code", "what was wrong") == {"error": told}


# --- recordings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ([], openai_audio.Wanted()),
        (
            [("model", "whisper-1"), ("language", "en"), ("prompt", "x"), ("temperature", "0.2"), ("include[]", "y")],
            openai_audio.Wanted(language="en"),
        ),
        ([("response_format", "srt"), ("stream", "false")], openai_audio.Wanted("srt")),
        ([("stream", "true"), ("response_format", "text")], openai_audio.Wanted("text", stream=True)),
        (
            [
                ("timestamp_granularities[]", "word"),
                ("response_format", "verbose_json"),
                ("timestamp_granularities[]", "segment"),
            ],
            openai_audio.Wanted("verbose_json", granularities=("word", "segment")),
        ),
        (
            [("response_format", "verbose_json"), ("timestamp_granularities", "word")],
            openai_audio.Wanted("verbose_json", granularities=("word",)),
        ),
    ],
)
def test_forms(fields: list[tuple[str, str]], wanted: openai_audio.Wanted) -> None:
    assert openai_audio.decode(fields) == wanted


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"response_format": "diarized_json"}, "response_format", "accepted are json, text, srt, vtt, verbose_json"),
        ({"stream": "perhaps"}, "stream", "'perhaps'; accepted are true, 1, false, 0"),
        ({"stream": "true", "response_format": "srt"}, "response_format", "accepted with stream are json, text"),
        (
            {"response_format": "verbose_json", "timestamp_granularities[]": "letter"},
            "timestamp_granularities",
            "accepted are word, segment",
        ),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "verbose_json, which here is json"),
    ],
)
def test_what_is_wrong_with_a_form_is_named(fields: dict[str, str], param: str, says: str) -> None:
    with pytest.raises(openai.RequestError) as caught:
        openai_audio.decode(fields.items())
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)
    assert says in caught.value.message


def test_json() -> None:
    body = openai_audio.encode(openai_audio.Wanted(), FINALS, 4.3)
    assert body.media_type == "application/json"
    assert json.loads(body.text) == {"text": "hello world again", "usage": {"type": "duration", "seconds": 5}}


@pytest.mark.parametrize(
    ("response_format", "start"),
    [("text", "hello world again\n"), ("srt", "1\n00:00:00,800 --> "), ("vtt", "WEBVTT\n\n00:00:00.800 --> ")],
)
def test_plain_text(response_format: str, start: str) -> None:
    body = openai_audio.encode(openai_audio.Wanted(response_format), FINALS, 4.3)
    assert body.media_type == "text/plain"
    assert body.text.startswith(start)


def test_verbose_json() -> None:
    wanted = openai_audio.Wanted("verbose_json", "en", ("word", "segment"))
    answer = json.loads(openai_audio.encode(wanted, FINALS, 4.3004).text)
    assert (answer["text"], answer["language"], answer["duration"]) == ("hello world again", "en", 4.3)
    assert answer["words"][1] == {"word": "world", "start": 1.28, "end": 1.66}
    first, second = answer["segments"]
    assert (first["id"], first["start"], first["end"], first["text"]) == (0, 0.5, 2.2, "hello world")
    assert first["avg_logprob"] == pytest.approx(-0.105)
    assert (second["id"], second["avg_logprob"]) == (1, pytest.approx(-11.513))
    assert "words" not in json.loads(openai_audio.encode(openai_audio.Wanted("verbose_json"), FINALS, 4.3).text)
    words_only = openai_audio.Wanted("verbose_json", granularities=("word",))
    assert "segments" not in json.loads(openai_audio.encode(words_only, FINALS, 4.3).text)


def test_nothing_was_said() -> None:
    answer = json.loads(openai_audio.encode(openai_audio.Wanted("verbose_json"), [], 1.0).text)
    assert (answer["text"], answer["segments"], answer["language"]) == ("", [], "unknown")
    assert openai_audio.encode(openai_audio.Wanted("text"), [], 1.0).text == "\n"


@given(st.text())
def test_server_sent_events_are_one_line_of_json(text: str) -> None:
    for event in (openai_audio.encode_delta(text), openai_audio.encode_done(text)):
        assert event.startswith("data: ")
        assert event.endswith("\n\n")
        assert len(event[:-2].encode().splitlines()) == 1
        data = json.loads(event.removeprefix("data: "))
        assert text in (data.get("delta"), data.get("text"))


# --- what realtime clients send -------------------------------------------------------------------------------

PCM16, ULAW, ALAW = openai_realtime.FORMATS


def nested(**settings: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": settings}}}


def flat(**settings: Any) -> dict[str, Any]:
    return {"type": "transcription_session.update", "session": settings}


@pytest.mark.parametrize(
    ("event", "decoded"),
    [
        ({"type": "input_audio_buffer.append", "audio": "AAEC"}, Append(b"\0\1\2")),
        ({"type": "input_audio_buffer.append", "audio": ""}, Append(b"")),
        ({"type": "input_audio_buffer.commit", "event_id": "x"}, Commit()),
        ({"type": "input_audio_buffer.clear"}, Clear()),
        ({"type": "session.update", "session": {"type": "transcription"}}, Update(False, transcription={})),
        (nested(format={"type": "audio/pcm", "rate": 24000}), Update(False, PCM16, transcription={})),
        (nested(format={"type": "audio/pcmu"}), Update(False, ULAW, transcription={})),
        (nested(turn_detection=None), Update(False, detects_turns=False, transcription={})),
        (nested(turn_detection={"type": "server_vad"}), Update(False, detects_turns=True, transcription={})),
        (
            nested(turn_detection={"type": "server_vad", "silence_duration_ms": 800}),
            Update(False, detects_turns=True, transcription={}, endpoint_ms=800),
        ),
        (
            flat(turn_detection={"silence_duration_ms": None}),
            Update(True, detects_turns=True, transcription={}),
        ),
        (
            nested(transcription={"model": "x", "newer": "y"}, noise_reduction={"type": "near_field"}, new=1),
            Update(False, transcription={"model": "x"}),
        ),
        (flat(), Update(True, transcription={})),
        (
            flat(
                input_audio_format="g711_alaw",
                turn_detection={"threshold": 0.3},
                input_audio_transcription={"language": "en"},
                include=["x"],
            ),
            Update(True, ALAW, detects_turns=True, transcription={"language": "en"}),
        ),
    ],
)
def test_events_of_clients(event: dict[str, Any], decoded: openai_realtime.ClientEvent) -> None:
    assert openai_realtime.decode(json.dumps(event)) == decoded


@pytest.mark.parametrize(
    ("message", "code", "param", "says"),
    [
        (b"\0\1", "invalid_event", None, "base64 in input_audio_buffer.append"),
        ("{", "invalid_json", None, "not JSON"),
        ("[" * 100_000, "invalid_json", None, "nested too deeply"),
        ("[]", "bad_message", None, "a JSON object"),
        ('{"x": NaN}', "invalid_json", None, "NaN is no JSON value"),
        ("{}", "invalid_value", "type", "type is null"),
        ({"type": "response.create"}, "invalid_value", "type", "transcription sessions only, with session.update"),
        ({"type": "input_audio_buffer.append"}, "invalid_type", "audio", "audio is null; it takes a base64 string"),
        ({"type": "input_audio_buffer.append", "audio": "A?=="}, "invalid_value", "audio", "audio is not base64"),
        ({"type": "input_audio_buffer.append", "audio": "ä"}, "invalid_value", "audio", "audio is not base64"),
        (
            {"type": "session.update", "session": {"type": "realtime"}},
            "invalid_value",
            "session.type",
            '"realtime"; this server has sessions of type transcription only',
        ),
        ({"type": "session.update", "session": 1}, "invalid_type", "session", "session is 1; it takes an object"),
        (
            nested(format={"type": "audio/mp3"}),
            "invalid_value",
            "session.audio.input.format.type",
            '"audio/mp3"; accepted are audio/pcm, audio/pcmu, audio/pcma',
        ),
        (
            nested(format={"type": "audio/pcm", "rate": 16000}),
            "invalid_value",
            "session.audio.input.format.rate",
            "rate is 16000; 24000 is accepted for audio/pcm",
        ),
        (
            nested(turn_detection={"type": "semantic_vad"}),
            "invalid_value",
            "session.audio.input.turn_detection.type",
            '"semantic_vad"; accepted are server_vad, and null',
        ),
        (
            flat(input_audio_format="mp3"),
            "invalid_value",
            "session.input_audio_format",
            'input_audio_format is "mp3"; accepted are pcm16, g711_ulaw, g711_alaw',
        ),
        (
            nested(transcription={"prompt": 4097 * "x"}),
            "invalid_value",
            "session.audio.input.transcription.prompt",
            "prompt has 4097 characters; 4096 are accepted",
        ),
        (
            flat(input_audio_transcription={"language": 1}),
            "invalid_type",
            "session.input_audio_transcription.language",
            "language is 1; it takes a string",
        ),
        (flat(turn_detection=False), "invalid_type", "session.turn_detection", "turn_detection is false"),
        (
            flat(turn_detection={"silence_duration_ms": True}),
            "invalid_type",
            "session.turn_detection.silence_duration_ms",
            "silence_duration_ms is true; it takes an integer",
        ),
    ],
)
def test_what_is_wrong_with_an_event_is_named(message: Any, code: str, param: str | None, says: str) -> None:
    if isinstance(message, dict):
        message = json.dumps({**message, "event_id": "mine"})
    with pytest.raises(EventError) as caught:
        openai_realtime.decode(message)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert says in caught.value.message
    assert caught.value.event_id == ("mine" if "mine" in str(message) else None)


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
kinds = st.sampled_from(
    ["session.update", "transcription_session.update", "input_audio_buffer.append", "input_audio_buffer.commit"]
)


@given(st.fixed_dictionaries({"type": kinds}, optional={"session": json_values, "audio": json_values}))
def test_any_event_is_understood_or_refused(event: dict[str, Any]) -> None:
    with suppress(EventError):
        assert isinstance(openai_realtime.decode(json.dumps(event)), Update | Append | Commit)


@given(st.binary())
def test_audio_comes_through(audio: bytes) -> None:
    event = {"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()}
    assert openai_realtime.decode(json.dumps(event)) == Append(audio)


# --- what realtime clients hear -------------------------------------------------------------------------------

SEGMENTER = SegmenterConfig()
DELTA, COMPLETED = (f"conversation.item.input_audio_transcription.{kind}" for kind in ("delta", "completed"))


class Listener:
    """Reads a conversation's messages as a client does, and checks what must hold for all of them."""

    def __init__(self, said: Conversation) -> None:
        self.said = said
        self.kinds: list[str] = []
        self.items: dict[str, str] = {}
        self._deltas: dict[str, str] = {}
        self._committed: list[str] = []

    def hear(self, messages: list[str]) -> None:
        for text in messages:
            message = json.loads(text)
            self.kinds.append(message["type"])
            item = message.get("item_id")
            if message["type"] == DELTA:
                assert message["delta"]
                assert item not in self.items, "nothing is added to what is complete"
                self._deltas[item] = self._deltas.get(item, "") + message["delta"]
            elif message["type"] == "input_audio_buffer.committed":
                assert message["previous_item_id"] == (self._committed[-1] if self._committed else None)
                assert item not in self._committed
                self._committed.append(item)
            elif message["type"] == COMPLETED:
                assert item == self._committed[-1]
                assert message["transcript"] == self._deltas.get(item, "")
                self.items[item] = message["transcript"]


def listen(*events: SessionEvent, detects_turns: bool = True, beta: bool = False) -> Listener:
    said = Conversation("n", "m", SEGMENTER, beta=beta)
    said.setup = Setup(detects_turns=detects_turns)
    listener = Listener(said)
    for event in events:
        listener.hear(said.react(event))
    return listener


SPEECH: tuple[Event, ...] = (
    SpeechStarted(0, 0.5),
    Partial(0, 0.5, 1.0, "", "hel"),
    Partial(0, 0.5, 1.5, "hello", "hello wor"),
    Overload(5000),
    Partial(0, 0.5, 2.0, "hello", "hello world"),
    AudioDropped(1.0, 1.1),
    FINALS[0],
)


def test_a_turn() -> None:
    listener = listen(*SPEECH)
    buffer, item = "input_audio_buffer", "conversation.item"
    ending = [f"{buffer}.committed", f"{item}.added", f"{item}.done", COMPLETED]
    assert listener.kinds == [f"{buffer}.speech_started", DELTA, f"{buffer}.speech_stopped", DELTA, *ending]
    assert list(listener.items.values()) == ["hello world"]
    assert f"{item}.created" in listen(*SPEECH, beta=True).kinds


def test_times_of_a_turn() -> None:
    said = Conversation("n", "m", SEGMENTER)
    messages = [json.loads(text) for event in SPEECH for text in said.react(event)]
    assert messages[0]["audio_start_ms"] == 500
    assert messages[2]["audio_end_ms"] == 2200
    assert messages[-1]["usage"] == {"type": "duration", "seconds": 3}
    assert len({message["event_id"] for message in messages}) == len(messages)
    assert len({message["item_id"] for message in messages if "item_id" in message}) == 1


def test_without_turns_an_item_lasts_until_it_is_committed() -> None:
    listener = listen(*SPEECH, SpeechStarted(1, 3.0), FINALS[1], detects_turns=False)
    assert set(listener.kinds) == {DELTA}
    said = listener.said
    said.heard(Append(b"x"))
    tag = said.cut(Commit(), 4.5)
    listener.hear(said.react(MarkReached(tag)))
    assert list(listener.items.values()) == ["hello world again"]


@pytest.mark.parametrize("detects_turns", [True, False])
def test_speech_that_overtakes_the_mark_of_a_commit_belongs_to_the_next_item(detects_turns: bool) -> None:
    """Silence is committed; speech begins at once, with a pre-roll from before the commit."""
    said = Conversation("n", "m", SEGMENTER)
    said.setup = Setup(detects_turns=detects_turns)
    listener = Listener(said)
    tag = said.cut(Commit(), 0.7)
    for event in (*SPEECH[:4], MarkReached(tag), *SPEECH[4:]):
        listener.hear(said.react(event))
    assert list(listener.items.values()) == ([""] if not detects_turns else ["", "hello world"])
    listener.hear(said.react(MarkReached(said.cut(Commit(), 2.2))))
    assert list(listener.items.values())[1] == "hello world"


@pytest.mark.parametrize("detects_turns", [True, False])
def test_a_clear_forgets_what_it_cuts_off_but_no_turn_before(detects_turns: bool) -> None:
    said = Conversation("n", "m", SEGMENTER)
    said.setup = Setup(detects_turns=detects_turns)
    listener = Listener(said)
    tag = said.cut(Clear(), 4.3)
    for event in (*SPEECH, SpeechStarted(1, 3.0), FINALS[1], MarkReached(tag)):
        listener.hear(said.react(event))
    assert listener.kinds[-1] == "input_audio_buffer.cleared"
    assert list(listener.items.values()) == (["hello world"] if detects_turns else [])
    listener.hear(said.react(MarkReached(said.cut(Commit(), 5.0))))
    assert list(listener.items.values())[-1] == ""


def test_only_the_commit_of_nothing_is_a_mistake() -> None:
    said = Conversation("n", "m", SEGMENTER)
    with pytest.raises(EventError, match="no audio"):
        said.heard(Commit())
    assert json.loads(said.heard(Clear()) or "")["type"] == "input_audio_buffer.cleared"
    assert said.heard(Append(b"")) is None
    with pytest.raises(EventError, match="no audio"):
        said.heard(Commit())
    assert said.heard(Append(b"x")) is None
    assert said.heard(Commit()) is None


HALF = "\ud800"
"""Of a surrogate pair: JSON can say it, UTF-8 cannot."""


@pytest.mark.parametrize("event", [nested(transcription={"prompt": HALF}), {"type": HALF, "event_id": HALF}])
def test_what_a_client_said_comes_back_as_it_was(event: dict[str, Any]) -> None:
    said = Conversation("n", "m", SEGMENTER)
    try:
        answer = said.heard(openai_realtime.decode(json.dumps(event))) or ""
    except EventError as mistake:
        answer = said.failed(mistake)
    answer.encode()
    told = json.loads(answer)
    if told["type"] == "error":
        assert told["error"]["event_id"] == HALF
    else:
        assert told["session"]["audio"]["input"]["transcription"]["prompt"] == HALF


def test_settings_are_given_back_in_the_shape_that_the_client_speaks() -> None:
    said = Conversation("n", "m", SEGMENTER)
    created = json.loads(said.created())
    assert created["type"] == "session.created"
    assert created["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert created["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == SEGMENTER.endpoint_ms
    updated = json.loads(said.heard(Update(True, ULAW, False, {"model": "x"})) or "")
    assert updated["type"] == "transcription_session.updated"
    assert updated["session"]["input_audio_format"] == "g711_ulaw"
    assert updated["session"]["turn_detection"] is None
    assert updated["session"]["input_audio_transcription"] == {"model": "x"}
    said.heard(Append(b"x"))
    assert json.loads(said.heard(Update(False, ULAW, True, {"language": "en"})) or "")["type"] == "session.updated"
    assert said.setup == Setup(ULAW, True, {"model": "x", "language": "en"})
    with pytest.raises(EventError, match="cannot be changed after the first audio"):
        said.heard(Update(False, PCM16))


def test_the_silence_that_ends_a_turn_is_told_back_and_stays() -> None:
    said = Conversation("n", "m", SEGMENTER)
    for refused in (-1, SEGMENTER.min_pause_ms - 1, 9_701, 10**30):
        with pytest.raises(EventError, match="80 to 9700 are accepted"):
            said.heard(Update(False, endpoint_ms=refused))
    for update in (Update(False, endpoint_ms=9_700), Update(False, detects_turns=True), Update(False, PCM16)):
        told = json.loads(said.heard(update) or "")["session"]["audio"]["input"]["turn_detection"]
        assert told["silence_duration_ms"] == said.setup.endpoint_ms == 9_700
    said.heard(Append(b"x"))
    said.heard(Update(False, endpoint_ms=9_700))
    with pytest.raises(EventError, match="silence_duration_ms cannot be changed after the first audio"):
        said.heard(Update(False, endpoint_ms=500))
    usual = Conversation("n", "m", SEGMENTER)
    usual.heard(Append(b"x"))
    assert usual.heard(Update(False, endpoint_ms=SEGMENTER.endpoint_ms)), "it is what it was"


steps = st.lists(
    st.tuples(st.sampled_from(["hello", "ab cd", "", "pause"]), st.sampled_from([None, Commit(), Clear()])), max_size=6
)


@settings(max_examples=60)
@given(steps, st.booleans())
def test_whatever_is_cut_where_deltas_add_up(
    steps: list[tuple[str, Commit | Clear | None]], detects_turns: bool
) -> None:
    """Every word is in the item to which it belongs, and the rules of `Listener` hold."""
    said = Conversation("n", "m", SEGMENTER)
    said.setup = Setup(detects_turns=detects_turns)
    listener = Listener(said)
    expected = [""]
    tags = {}
    with Recognizer(FakeModel(), detector=lambda: loud) as recognizer, recognizer.stream() as stream:
        stream.source_waits = True
        for text, asked in [*steps, ("", Commit())]:
            # Letters next to a cut would come out garbled.
            pieces = [silence(1.0)] if text == "pause" else [silence(0.2), sound(text), silence(0.2)]
            for piece in pieces:
                stream.feed(piece)
                said.heard(Append(b"x"))
            if text != "pause":
                expected[-1] += text.replace(" ", "")
            if asked is None:
                continue
            stream.flush()
            tag = said.cut(asked, stream.received_s)
            tags[stream.mark()] = tag
            if isinstance(asked, Commit):
                expected.append("")
            else:
                expected[-1] = ""
        stream.finish()
        for event in stream:
            listener.hear(said.react(MarkReached(tags[event.mark]) if isinstance(event, Marked) else event))
    heard = [item.replace(" ", "") for item in listener.items.values()]
    clears = sum(isinstance(asked, Clear) for _, asked in steps)
    assert listener.kinds.count("input_audio_buffer.cleared") == clears
    if not detects_turns:
        assert heard == expected[:-1]
    elif not clears:
        assert "".join(heard) == "".join(expected)
