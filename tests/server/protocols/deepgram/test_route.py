"""Deepgram's interface: its codec, and what its own SDK does not show, over real sockets."""

from __future__ import annotations

import hashlib
import io
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.typing import Subprotocol

from stream_asr.array_types import FloatArray
from stream_asr.events import Final, Partial, SpeechStarted, Word
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.deepgram import client_codec as deepgram
from stream_asr.server.protocols.deepgram.client_codec import Control, Query
from stream_asr.server.protocols.deepgram.server_codec import Origin, Results, recording
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent
from stream_asr.server.sessions.request import AudioFormat
from tests.support.fakes import conversation, silence, sound
from tests.support.serving import TIMEOUT_S, RunningServer, run_server

SAID = ["hello world", "how are you", "fine thanks"]
RAW = "encoding=linear16&sample_rate=16000"
LIVE = f"/v1/listen?{RAW}"


def s16(audio: FloatArray) -> bytes:
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype("<i2").tobytes()


# --- the codec ------------------------------------------------------------------------------------------------


def parse(query: str, live: bool = True) -> Query:
    return deepgram.parse([tuple(pair.split("=", 1)) for pair in query.split("&") if pair], live=live)  # type: ignore[misc]


def test_queries() -> None:
    assert parse(RAW) == Query(AudioFormat(16_000))
    assert parse("encoding=mulaw&sample_rate=8000&channels=2") == Query(AudioFormat(8000, "mulaw", 2))
    assert parse("encoding=linear32&sample_rate=48000").raw == AudioFormat(48_000, "pcm_f32le")
    full = f"{RAW}&interim_results=true&endpointing=300&utterance_end_ms=1000&vad_events=TRUE&smart_format=true"
    assert parse(full) == Query(AudioFormat(16_000), True, True, 300, 1000, True, True)
    assert not parse(f"{RAW}&endpointing=false").endpointing
    ignored = "&model=nova-3&language=de&diarize=true&keyterm=a&tag=x&multichannel=false&callback="
    assert parse(RAW + ignored) == Query(AudioFormat(16_000))
    assert parse("utterances=true", live=False) == Query(utterances=True)
    assert parse("endpointing=10") == Query(endpoint_ms=10), "a container says its format itself"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("encoding=linear16", "raw audio needs encoding and sample_rate"),
        ("sample_rate=16000", "raw audio needs encoding and sample_rate; accepted are linear16, linear32"),
        ("encoding=opus&sample_rate=48000", "encoding 'opus' is not supported; accepted are linear16, linear32"),
        ("encoding=linear16&sample_rate=0", "sample_rate is '0'; it takes a whole number above 0"),
        (f"{RAW}&channels=two", "channels is 'two'"),
        (f"{RAW}&utterance_end_ms=-1", "utterance_end_ms is '-1'"),
        (f"{RAW}&utterance_end_ms={'9' * 5000}", "utterance_end_ms is '9999"),
        (f"{RAW}&interim_results=yes", "interim_results is 'yes'; it takes true or false"),
        (f"{RAW}&endpointing=never", "endpointing is 'never'"),
        (f"{RAW}&endpointing={'9' * 5000}", "endpointing is '9999"),
        (f"{RAW}&endpointing=-1", "endpointing is '-1'"),
        (f"{RAW}&multichannel=true", "multichannel is not supported: channels are mixed"),
        (f"{RAW}&callback=https://example.org", "callback is not supported"),
        (f"{RAW}&redact=pci", "redact is not supported"),
    ],
)
def test_impossible_queries(query: str, says: str) -> None:
    with pytest.raises(SessionError) as caught:
        parse(query)
    assert says in caught.value.message


def test_text_messages() -> None:
    assert deepgram.decode('{"type": "KeepAlive"}') is Control.KEEP_ALIVE
    assert deepgram.decode('{"type": "Finalize", "channel": 0}') is Control.FINALIZE
    assert deepgram.decode('{"type": "CloseStream"}') is Control.CLOSE_STREAM
    for text in ("CloseStream", "{}", '{"type":["Finalize"]}', '{"type":{}}', "[]"):
        with pytest.raises(SessionError):
            deepgram.decode(text)


@given(st.text(max_size=60) | st.dictionaries(st.just("type"), st.text(max_size=20) | st.none()).map(json.dumps))
def test_anything_is_understood_or_refused(text: str) -> None:
    """And every refusal can be told to the client."""
    try:
        decoded = deepgram.decode(text)
    except SessionError as error:
        deepgram.encode_error(error).encode()
    else:
        assert json.loads(text)["type"] == decoded.value


ORIGIN = Origin("c1f2f7a8-3f0f-4a57-8f3c-3f6f5b6e7d10", "2026-01-01T00:00:00.000Z", "m", "1")


def words(text: str, start: float) -> tuple[Word, ...]:
    return tuple(Word(word, start + at, start + at + 0.5, 0.25 * (1 + at % 4)) for at, word in enumerate(text.split()))


def partial(stable: str, text: str, end: float) -> Partial:
    return Partial(0, 1.0, end, stable, text, words(text, 1.25))


def final(text: str, end: float) -> Final:
    return Final(0, 1.0, end, text, 0.5, words(text, 1.25))


def told(results: Results, *events: SessionEvent) -> list[dict[str, Any]]:
    return [json.loads(message) for event in events for message in results.hear(event)]


def brief(message: dict[str, Any]) -> tuple[Any, ...]:
    if message["type"] != "Results":
        return (message["type"],)
    flags = "".join(name[0] for name in ("is_final", "speech_final", "from_finalize") if message[name])
    transcript = message["channel"]["alternatives"][0]["transcript"]
    return message["start"], message["start"] + message["duration"], transcript, flags


def test_stable_text_is_final_before_speech_is() -> None:
    results = Results(Query(interim_results=True, vad_events=True), ORIGIN)
    messages = told(
        results,
        SpeechStarted(0, 1.0),
        partial("", "ask", 2.0),
        partial("ask not", "ask not what", 4.0),
        partial("ask not", "ask not what your", 5.0),
        final("ask not what you", 6.0),
    )
    assert messages[0] == {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 1.0}
    assert [brief(message) for message in messages[1:]] == [
        (1.0, 2.0, "ask", ""),
        (1.0, 2.75, "ask not", "i"),
        (2.75, 4.0, "what", ""),
        (2.75, 5.0, "what your", ""),
        (2.75, 6.0, "what you", "is"),
    ]
    alternative = messages[-1]["channel"]["alternatives"][0]
    assert alternative["confidence"] == 0.875
    assert alternative["words"] == [
        {"word": "what", "start": 3.25, "end": 3.75, "confidence": 0.75},
        {"word": "you", "start": 4.25, "end": 4.75, "confidence": 1.0},
    ]
    assert messages[-1]["metadata"]["request_id"] == ORIGIN.request_id


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=6), st.booleans(), st.integers(0, 8))
def test_final_results_join_up(steps: list[tuple[int, int]], interim: bool, length: int) -> None:
    """To the whole text, and their stretches to the whole utterance, whatever was stable when."""
    text = ["a", "b", "c", "d", "e", "f", "g", "h"][:length]
    results, stable = Results(Query(interim_results=interim), ORIGIN), 0
    events: list[SessionEvent] = [SpeechStarted(0, 1.0)]
    for grown, more in steps:
        stable = min(length, stable + grown)
        events.append(partial(" ".join(text[:stable]), " ".join(text[: stable + more]), 10.0))
    messages = told(results, *events, final(" ".join(text), 11.0))
    finals = [brief(message) for message in messages if message["is_final"]]
    assert " ".join(part for _, _, part, _ in finals if part) == " ".join(text)
    assert finals[0][0] == 1.0
    assert finals[-1][1] == pytest.approx(11.0)
    assert all(first[1] == pytest.approx(second[0]) for first, second in pairwise(finals))
    assert [flags for *_, flags in finals] == ["i"] * (len(finals) - 1) + ["is"]
    assert interim or len(finals) == len(messages)


def test_interims_and_endpoints_only_if_wanted() -> None:
    results = Results(Query(endpointing=False), ORIGIN)
    messages = told(results, SpeechStarted(0, 1.0), partial("", "ask", 2.0), final("ask", 3.0))
    assert [brief(message) for message in messages] == [(1.0, 3.0, "ask", "i")]


def test_the_last_final_before_finalize_is_done_says_so() -> None:
    results = Results(Query(), ORIGIN)
    results.finalizing()
    events = (
        SpeechStarted(0, 1.0),
        final("ask", 3.0),
        SpeechStarted(1, 4.0),
        final("not", 5.0),
        MarkReached("Finalize"),
    )
    assert [brief(message)[2:] for message in told(results, *events)] == [("ask", "is"), ("not", "isf")]
    results.finalizing()
    assert [brief(message) for message in told(results, MarkReached("Finalize"))] == [(5.0, 5.0, "", "if")]
    results.finalizing()
    assert told(results, SpeechStarted(2, 6.0), final("what", 7.0)) == []
    assert [brief(json.loads(message))[2:] for message in results.end()] == [("what", "is")]


def test_utterances_end_once_in_every_long_pause() -> None:
    results = Results(Query(utterance_end_ms=1000), ORIGIN)
    speech = SpeechStarted(0, 1.0), final("ask", 2.0)  # the word ends at 1.75
    before = told(results, MarkReached(900), *speech, MarkReached(2700))
    assert [brief(message)[0] for message in before] == [1.0]
    assert told(results, MarkReached(2750), MarkReached(2850)) == [
        {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.75}
    ]
    assert [message["type"] for message in told(results, *speech, SpeechStarted(1, 2.5), MarkReached(4000))] == [
        "Results"
    ]
    assert [message["type"] for message in told(results, final("", 4.5), MarkReached(5000))] == [
        "Results",
        "UtteranceEnd",
    ]
    in_one_message = told(results, *speech, SpeechStarted(1, 2.75), MarkReached(9000))
    assert [message["type"] for message in in_one_message] == ["Results", "UtteranceEnd"]


def test_formatted_words_and_utterances() -> None:
    metadata = ORIGIN.metadata("0" * 64, 6.0, 2)
    answer = recording(Query(formatted=True, utterances=True), metadata, [final("ask not", 3.0), final("what", 6.0)])
    assert answer["metadata"] == metadata
    (channel,) = answer["results"]["channels"]
    assert channel["alternatives"][0]["transcript"] == "ask not what"
    assert channel["alternatives"][0]["words"][0]["punctuated_word"] == "ask"
    spoken = [(said["start"], said["end"], said["transcript"]) for said in answer["results"]["utterances"]]
    assert spoken == [(1.25, 2.75, "ask not"), (1.25, 1.75, "what")]


# --- over sockets ---------------------------------------------------------------------------------------------


def ending(connection: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    heard = []
    try:
        while True:
            heard.append(json.loads(connection.recv(TIMEOUT_S)))
    except ConnectionClosed:
        return heard, connection.close_code


def send(connection: ClientConnection, audio: bytes, block: int = 6400) -> None:
    for at in range(0, len(audio), block):
        connection.send(audio[at : at + block])


@pytest.mark.parametrize("last", ['{"type":"CloseStream"}', b""])
def test_a_conversation_and_its_two_ways_to_end(last: str | bytes) -> None:
    audio = s16(conversation(*SAID))
    with run_server() as server, server.connect(LIVE) as connection:
        send(connection, audio)
        connection.send(last)
        messages, closed = ending(connection)
    *results, metadata = messages
    assert closed == 1000
    assert [brief(message)[2:] for message in results] == [(text, "is") for text in SAID]
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
def test_the_silence_that_ends_an_utterance(query: str, ends_s: list[float]) -> None:
    """10 ms are less than the segmenter takes, and mean the 80 that it does."""
    with run_server() as server, server.connect(LIVE + query) as connection:
        send(connection, s16(conversation(*SAID)))
        connection.send('{"type":"CloseStream"}')
        *results, _ = ending(connection)[0]
    found = [message["start"] + message["duration"] for message in results if message["speech_final"]]
    assert found == pytest.approx(ends_s, abs=0.03)


@pytest.mark.parametrize(("message", "code"), [("hello", 1007), ('{"type":"Stop"}', 1008), (b"\0" * 10_001, 1009)])
def test_mistakes_are_told(message: str | bytes, code: int) -> None:
    with run_server(max_message_bytes=10_000) as server, server.connect(LIVE) as connection:
        connection.send(message)
        messages, closed = ending(connection)
    assert [told["type"] for told in messages] == ["Error"]
    assert closed == code


def test_a_stream_cannot_be_configured_while_it_runs() -> None:
    with run_server() as server, server.connect(LIVE) as connection:
        connection.send('{"type":"Configure","keyterms":["hello"]}')
        assert json.loads(connection.recv(TIMEOUT_S))["type"] == "ConfigureFailure"
        connection.send('{"type":"CloseStream"}')
        assert ending(connection)[1] == 1000


def test_a_client_that_falls_silent_gets_its_words_first() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect(LIVE) as connection:
        send(connection, s16(np.concatenate([silence(0.5), sound("hello world"), silence(0.2)])))
        messages, closed = ending(connection)
        assert [message["type"] for message in messages] == ["Results", "Error"]
        assert brief(messages[0])[2] == "hello world"
        assert closed == 1008


@pytest.mark.parametrize(
    ("query", "sessions", "status", "code"),
    [
        ("encoding=linear16", 1, 400, "Bad Request"),
        (f"{RAW}&channels=100", 1, 400, "Bad Request"),
        (f"{RAW}&endpointing=9701", 1, 400, "Bad Request"),
        (RAW, 0, 503, "too_many_sessions"),
    ],
)
def test_what_cannot_be_is_refused_before_the_upgrade(query: str, sessions: int, status: int, code: str) -> None:
    with run_server(max_sessions=1 + sessions) as server, server.connect(LIVE):
        with pytest.raises(InvalidStatus) as refused, server.connect(f"/v1/listen?{query}"):
            pass
        response = refused.value.response
        body = json.loads(response.body or b"")
        assert (response.status_code, body["err_code"]) == (status, code)
        assert body["err_msg"] == response.headers["dg-error"]
        assert body["request_id"] == response.headers["dg-request-id"]


def test_browsers_send_their_token_as_a_subprotocol() -> None:
    with run_server(tokens=("secret",)) as server:
        with server.connect(LIVE, subprotocols=[Subprotocol("token"), Subprotocol("secret")]) as connection:
            assert connection.subprotocol == "token"
        for offered in (["token", "wrong"], ["secret"], ["token"]):
            with pytest.raises(InvalidStatus) as refused:
                server.connect(LIVE, subprotocols=[Subprotocol(name) for name in offered])
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body or b"")["err_code"] == "INVALID_AUTH"


def wav(audio: FloatArray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def post(server: RunningServer, query: str = "", **content: Any) -> tuple[int, dict[str, Any]]:
    response = server.post(f"/v1/listen?{query}", **content)
    return response.status_code, response.json()


@pytest.mark.parametrize("raw", [False, True])
def test_recordings(raw: bool) -> None:
    audio = conversation(*SAID)
    content = s16(audio) if raw else wav(audio)
    with run_server() as server:
        status, answer = post(server, f"{RAW if raw else ''}&utterances=true", content=content)
        assert status == 200
        assert answer["metadata"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert answer["metadata"]["duration"] == len(audio) / 16_000
        assert answer["results"]["channels"][0]["alternatives"][0]["transcript"] == " ".join(SAID)
        assert [said["transcript"] for said in answer["results"]["utterances"]] == SAID
        assert server.service.sessions.open_count == 0


def test_recordings_that_are_refused() -> None:
    with run_server(max_upload_bytes=100_000, max_duration_s=1.0) as server:
        for content, status, says in (
            ({"json": {"url": "https://example.org/talk.mp3"}}, 400, "fetches nothing from a url"),
            ({"content": b"not audio"}, 400, "not audio that can be decoded"),
            ({"content": b""}, 400, "empty"),
            ({"content": wav(silence(2.0))[:100_001]}, 413, "--max-upload-bytes"),
            ({"content": wav(silence(1.2))}, 400, "1 s are accepted"),
        ):
            got, answer = post(server, **content)  # type: ignore[arg-type]
            assert got == status
            assert says in answer["err_msg"]
        status, answer = post(server, RAW, content=s16(silence(1.2)))
        assert (status, answer["err_code"]) == (400, "Bad Request")
        assert "takes 1 s of audio" in answer["err_msg"]
        status, answer = post(server, "redact=pci", content=b"x")
        assert (status, answer["err_code"]) == (400, "Bad Request")
        assert server.service.sessions.open_count == 0
