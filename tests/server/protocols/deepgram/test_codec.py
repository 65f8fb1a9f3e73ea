"""The codecs of Deepgram's interface."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.events import Final, Partial, SpeechStarted, Word
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.deepgram.client_codec import Control, Query, decode, parse_query
from stream_asr.server.protocols.deepgram.server_codec import (
    RequestInfo,
    ResultEncoder,
    encode_error,
    recording_response,
)
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent
from stream_asr.server.sessions.request import AudioFormat
from tests.support.deepgram import summarize

RAW = "encoding=linear16&sample_rate=16000"

# --- queries and client messages ------------------------------------------------------------------------------


def parse(query: str, live: bool = True) -> Query:
    return parse_query(parse_qsl(query, keep_blank_values=True), live=live)


def test_queries_are_parsed() -> None:
    assert parse(RAW) == Query(AudioFormat(16_000))
    assert parse("encoding=mulaw&sample_rate=8000&channels=2") == Query(AudioFormat(8000, "mulaw", 2))
    assert parse("encoding=linear32&sample_rate=48000").raw_format == AudioFormat(48_000, "pcm_f32le")
    full = f"{RAW}&interim_results=true&endpointing=300&utterance_end_ms=1000&vad_events=TRUE&smart_format=true"
    assert parse(full) == Query(
        AudioFormat(16_000),
        interim_results=True,
        endpointing=True,
        endpoint_ms=300,
        utterance_end_ms=1000,
        vad_events=True,
        formatted=True,
    )
    assert not parse(f"{RAW}&endpointing=false").endpointing
    ignored = "&model=nova-3&language=de&diarize=true&keyterm=&tag=x&multichannel=false&callback="
    assert parse(RAW + ignored) == Query(AudioFormat(16_000))
    assert parse("utterances=true", live=False) == Query(utterances=True)
    assert parse("endpointing=10") == Query(endpoint_ms=10), "a container declares its format"


def test_keyterms_and_keywords_are_hotwords() -> None:
    query = "keyterm=Anneke%20Visser&keywords=GitHub:2.5&keyterm=Visser&keywords=Zolpidem&keywords=talk:0"
    expected = {"Anneke Visser": 1.0, "GitHub": 2.5, "Visser": 1.0, "Zolpidem": 1.0, "talk": 0.0}
    assert parse(f"{RAW}&{query}").hotwords == expected
    assert parse(query, live=False).hotwords == expected
    assert parse("keyterm=&keywords=").hotwords is None


@pytest.mark.parametrize(
    ("query", "expected_text"),
    [
        ("encoding=linear16", "raw audio requires encoding and sample_rate"),
        ("sample_rate=16000", "requires neither; accepted encodings: linear16, linear32"),
        ("encoding=opus&sample_rate=48000", "encoding 'opus' is not supported; accepted: linear16, linear32"),
        ("encoding=linear16&sample_rate=0", "sample_rate is '0'; it must be a whole number above 0"),
        (f"{RAW}&channels=two", "channels is 'two'"),
        (f"{RAW}&utterance_end_ms=-1", "utterance_end_ms is '-1'"),
        (f"{RAW}&utterance_end_ms={'9' * 5000}", "utterance_end_ms is '9999"),
        (f"{RAW}&interim_results=yes", "interim_results is 'yes'; it must be true or false"),
        (f"{RAW}&endpointing=never", "endpointing is 'never'"),
        (f"{RAW}&endpointing={'9' * 5000}", "endpointing is '9999"),
        (f"{RAW}&endpointing=-1", "endpointing is '-1'"),
        (f"{RAW}&multichannel=true", "multichannel is not supported: all channels are mixed"),
        (f"{RAW}&callback=https://example.org", "callback is not supported"),
        (f"{RAW}&redact=pci", "redact is not supported"),
        (f"{RAW}&keywords=um:-5", "a negative intensifier is not supported: this server does not suppress words"),
        (f"{RAW}&keywords=um:much", "keywords is 'um:much'; the intensifier after the colon must be a number"),
        (f"{RAW}&keywords=um:nan", "must be a number"),
        (f"{RAW}&keywords=um:{'9' * 5000}", "must be a number"),
    ],
)
def test_invalid_queries_are_rejected_with_the_fault(query: str, expected_text: str) -> None:
    with pytest.raises(SessionError) as caught:
        parse(query)
    assert expected_text in caught.value.message


def test_client_messages_are_decoded() -> None:
    assert decode('{"type": "KeepAlive"}') is Control.KEEP_ALIVE
    assert decode('{"type": "Finalize", "channel": 0}') is Control.FINALIZE
    assert decode('{"type": "CloseStream"}') is Control.CLOSE_STREAM
    for text in ("CloseStream", "{}", '{"type":["Finalize"]}', '{"type":{}}', "[]"):
        with pytest.raises(SessionError):
            decode(text)


@given(st.text(max_size=60) | st.dictionaries(st.just("type"), st.text(max_size=20) | st.none()).map(json.dumps))
def test_any_text_is_decoded_or_rejected(text: str) -> None:
    """Errors can be encoded, whatever the text."""
    try:
        decoded = decode(text)
    except SessionError as error:
        encode_error(error).encode()
    else:
        assert json.loads(text)["type"] == decoded.value


# --- results --------------------------------------------------------------------------------------------------

REQUEST_INFO = RequestInfo("c1f2f7a8-3f0f-4a57-8f3c-3f6f5b6e7d10", "2026-01-01T00:00:00.000Z", "m", "1")


def make_words(text: str, start_s: float) -> tuple[Word, ...]:
    """Make words of 0.5 s, one per second."""
    return tuple(
        Word(word, start_s + index, start_s + index + 0.5, 0.25 * (1 + index % 4))
        for index, word in enumerate(text.split())
    )


def make_partial(stable: str, text: str, end_s: float) -> Partial:
    return Partial(0, 1.0, end_s, stable, text, make_words(text, 1.25))


def make_final(text: str, end_s: float) -> Final:
    return Final(0, 1.0, end_s, text, 0.5, make_words(text, 1.25))


def encode_all(results: ResultEncoder, *events: SessionEvent) -> list[dict[str, Any]]:
    return [json.loads(message) for event in events for message in results.on_event(event)]


def test_architecture_names_the_passes() -> None:
    two_pass = RequestInfo(REQUEST_INFO.request_id, REQUEST_INFO.created, "m", "1", two_pass=True)
    assert [info.model_info["arch"] for info in (REQUEST_INFO, two_pass)] == ["ctc", "ctc+attention"]


def test_stable_text_is_final_before_the_utterance_ends() -> None:
    results = ResultEncoder(Query(interim_results=True, vad_events=True), REQUEST_INFO)
    messages = encode_all(
        results,
        SpeechStarted(0, 1.0),
        make_partial("", "ask", 2.0),
        make_partial("ask not", "ask not what", 4.0),
        make_partial("ask not", "ask not what your", 5.0),
        make_final("ask not what you", 6.0),
    )
    assert messages[0] == {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 1.0}
    assert [summarize(message) for message in messages[1:]] == [
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
    assert messages[-1]["metadata"]["request_id"] == REQUEST_INFO.request_id


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=6), st.booleans(), st.integers(0, 8))
def test_final_results_join_up(steps: list[tuple[int, int]], interim_results: bool, word_count: int) -> None:
    """Their texts add up to the whole text, and their spans to the whole utterance, for any growth of stable text."""
    words = ["a", "b", "c", "d", "e", "f", "g", "h"][:word_count]
    results, stable_count = ResultEncoder(Query(interim_results=interim_results), REQUEST_INFO), 0
    events: list[SessionEvent] = [SpeechStarted(0, 1.0)]
    for new_stable, unstable in steps:
        stable_count = min(word_count, stable_count + new_stable)
        stable, text = " ".join(words[:stable_count]), " ".join(words[: stable_count + unstable])
        events.append(make_partial(stable, text, 10.0))
    messages = encode_all(results, *events, make_final(" ".join(words), 11.0))
    finals = [summarize(message) for message in messages if message["is_final"]]
    assert " ".join(text for _, _, text, _ in finals if text) == " ".join(words)
    assert finals[0][0] == 1.0
    assert finals[-1][1] == pytest.approx(11.0)
    assert all(first[1] == pytest.approx(second[0]) for first, second in pairwise(finals))
    assert [flags for *_, flags in finals] == ["i"] * (len(finals) - 1) + ["is"]
    assert interim_results or len(finals) == len(messages)


def test_interim_results_and_endpoints_are_optional() -> None:
    results = ResultEncoder(Query(endpointing=False), REQUEST_INFO)
    messages = encode_all(results, SpeechStarted(0, 1.0), make_partial("", "ask", 2.0), make_final("ask", 3.0))
    assert [summarize(message) for message in messages] == [(1.0, 3.0, "ask", "i")]


def test_last_final_before_the_mark_of_a_finalize_carries_from_finalize() -> None:
    results = ResultEncoder(Query(), REQUEST_INFO)
    results.expect_finalize()
    messages = encode_all(
        results,
        SpeechStarted(0, 1.0),
        make_final("ask", 3.0),
        SpeechStarted(1, 4.0),
        make_final("not", 5.0),
        MarkReached("Finalize"),
    )
    assert [summarize(message)[2:] for message in messages] == [("ask", "is"), ("not", "isf")]
    results.expect_finalize()
    messages = encode_all(results, MarkReached("Finalize"))
    assert [summarize(message) for message in messages] == [(5.0, 5.0, "", "if")]
    results.expect_finalize()
    assert encode_all(results, SpeechStarted(2, 6.0), make_final("what", 7.0)) == []
    assert [summarize(json.loads(message))[2:] for message in results.flush()] == [("what", "is")]


def test_utterance_end_is_sent_once_per_long_silence() -> None:
    results = ResultEncoder(Query(utterance_end_ms=1000), REQUEST_INFO)
    speech = SpeechStarted(0, 1.0), make_final("ask", 2.0)  # the word ends at 1.75

    def encode_types(*events: SessionEvent) -> list[str]:
        return [message["type"] for message in encode_all(results, *events)]

    messages = encode_all(results, MarkReached(900), *speech, MarkReached(2700))
    assert [summarize(message)[0] for message in messages] == [1.0]
    assert encode_all(results, MarkReached(2750), MarkReached(2850)) == [
        {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.75}
    ]
    assert encode_types(*speech, SpeechStarted(1, 2.5), MarkReached(4000)) == ["Results"]
    assert encode_types(make_final("", 4.5), MarkReached(5000)) == ["Results", "UtteranceEnd"]
    assert encode_types(*speech, SpeechStarted(1, 2.75), MarkReached(9000)) == ["Results", "UtteranceEnd"]


def test_recording_response_with_formatted_words_and_utterances() -> None:
    metadata = REQUEST_INFO.metadata_object("0" * 64, 6.0, 2)
    finals = [make_final("ask not", 3.0), make_final("what", 6.0)]
    response = recording_response(Query(formatted=True, utterances=True), metadata, finals)
    assert response["metadata"] == metadata
    (channel,) = response["results"]["channels"]
    assert channel["alternatives"][0]["transcript"] == "ask not what"
    assert channel["alternatives"][0]["words"][0]["punctuated_word"] == "ask"
    utterances = [
        (utterance["start"], utterance["end"], utterance["transcript"])
        for utterance in response["results"]["utterances"]
    ]
    assert utterances == [(1.25, 2.75, "ask not"), (1.25, 1.75, "what")]


PUNCTUATED = "“Titian, Holbein — and I.”"


@pytest.mark.parametrize(
    ("query", "transcript", "punctuated_words"),
    [
        ("", "titian holbein and i", [None] * 4),
        ("punctuate=true", PUNCTUATED, ["“Titian,", "Holbein", "and", "I.”"]),
        ("smart_format=true", PUNCTUATED, ["“Titian,", "Holbein", "and", "I.”"]),
    ],
)
def test_punctuation_and_capitals_are_written_on_request(
    query: str, transcript: str, punctuated_words: list[str | None]
) -> None:
    final, parsed = make_final(PUNCTUATED, 6.0), parse(query)
    partial = make_partial("", PUNCTUATED, 5.0)
    results = ResultEncoder(Query(interim_results=True, formatted=parsed.formatted), REQUEST_INFO)
    live = encode_all(results, SpeechStarted(0, 1.0), partial, final)
    recording = recording_response(
        parse(f"{query}&utterances=true", live=False), {"request_id": REQUEST_INFO.request_id}, [final]
    )
    alternatives = [message["channel"]["alternatives"][0] for message in live]
    alternatives += [recording["results"]["channels"][0]["alternatives"][0], *recording["results"]["utterances"]]
    assert len(alternatives) == 4
    for alternative in alternatives:
        assert alternative["transcript"] == transcript
        assert [word["word"] for word in alternative["words"]] == ["titian", "holbein", "and", "i"]
        assert [word.get("punctuated_word") for word in alternative["words"]] == punctuated_words
        assert alternative["confidence"] == 0.5, "the mean of the words that are spoken"


def test_stable_punctuation_without_a_word_waits_for_the_next_word() -> None:
    results = ResultEncoder(Query(interim_results=True), REQUEST_INFO)
    messages = encode_all(
        results, SpeechStarted(0, 1.0), make_partial("—", "—", 2.0), make_partial("— Yes,", "— Yes, I", 4.0)
    )
    assert [summarize(message) for message in messages] == [(1.0, 2.75, "yes", "i"), (2.75, 4.0, "i", "")]
