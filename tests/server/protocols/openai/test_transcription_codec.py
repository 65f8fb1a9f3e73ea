"""The codec of ``POST /v1/audio/transcriptions``."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.events import Final, Word
from stream_asr.server.protocols.openai.common_codec import RequestError
from stream_asr.server.protocols.openai.transcription_codec import (
    TranscriptionRequest,
    decode,
    encode_delta,
    encode_done,
    encode_response,
)

FINALS = [
    Final(0, 0.5, 2.2, "hello world", 0.9, (Word("hello", 0.8, 1.18, 0.8), Word("world", 1.28, 1.66, 1.0))),
    Final(2, 3.0, 4.25, "again", 0.0, (Word("again", 3.1, 4.0, 0.0),)),
]


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ([], TranscriptionRequest()),
        (
            [("model", "whisper-1"), ("language", "en"), ("prompt", "x"), ("temperature", "0.2"), ("include[]", "y")],
            TranscriptionRequest(language="en"),
        ),
        ([("response_format", "srt"), ("stream", "false")], TranscriptionRequest("srt")),
        ([("stream", "true"), ("response_format", "text")], TranscriptionRequest("text", stream=True)),
        (
            [
                ("timestamp_granularities[]", "word"),
                ("response_format", "verbose_json"),
                ("timestamp_granularities[]", "segment"),
            ],
            TranscriptionRequest("verbose_json", granularities=("word", "segment")),
        ),
        (
            [("response_format", "verbose_json"), ("timestamp_granularities", "word")],
            TranscriptionRequest("verbose_json", granularities=("word",)),
        ),
    ],
)
def test_forms_are_decoded(fields: list[tuple[str, str]], request_: TranscriptionRequest) -> None:
    assert decode(fields) == request_


@pytest.mark.parametrize(
    ("fields", "param", "expected_text"),
    [
        ({"response_format": "diarized_json"}, "response_format", "accepted: json, text, srt, vtt, verbose_json"),
        ({"stream": "perhaps"}, "stream", "'perhaps'; accepted: true, 1, false, 0"),
        ({"stream": "true", "response_format": "srt"}, "response_format", "accepted with stream: json, text"),
        (
            {"response_format": "verbose_json", "timestamp_granularities[]": "letter"},
            "timestamp_granularities",
            "accepted: word, segment",
        ),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "verbose_json, not json"),
    ],
)
def test_invalid_forms_are_rejected_with_the_fault(fields: dict[str, str], param: str, expected_text: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode(fields.items())
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)
    assert expected_text in caught.value.message


def test_json_response() -> None:
    body = encode_response(TranscriptionRequest(), FINALS, 4.3)
    assert body.media_type == "application/json"
    assert json.loads(body.text) == {"text": "hello world again", "usage": {"type": "duration", "seconds": 5}}


@pytest.mark.parametrize(
    ("response_format", "start"),
    [("text", "hello world again\n"), ("srt", "1\n00:00:00,800 --> "), ("vtt", "WEBVTT\n\n00:00:00.800 --> ")],
)
def test_plain_text_responses(response_format: str, start: str) -> None:
    body = encode_response(TranscriptionRequest(response_format), FINALS, 4.3)
    assert body.media_type == "text/plain"
    assert body.text.startswith(start)


def test_verbose_json_response() -> None:
    request = TranscriptionRequest("verbose_json", "en", ("word", "segment"))
    content = json.loads(encode_response(request, FINALS, 4.3004).text)
    assert (content["text"], content["language"], content["duration"]) == ("hello world again", "en", 4.3)
    assert content["words"][1] == {"word": "world", "start": 1.28, "end": 1.66}
    first, second = content["segments"]
    assert (first["id"], first["start"], first["end"], first["text"]) == (0, 0.5, 2.2, "hello world")
    assert first["avg_logprob"] == pytest.approx(-0.105)
    assert (second["id"], second["avg_logprob"]) == (1, pytest.approx(-11.513))


def test_verbose_json_response_contains_only_the_requested_granularities() -> None:
    segments_only = TranscriptionRequest("verbose_json")
    assert "words" not in json.loads(encode_response(segments_only, FINALS, 4.3).text)
    words_only = TranscriptionRequest("verbose_json", granularities=("word",))
    assert "segments" not in json.loads(encode_response(words_only, FINALS, 4.3).text)


def test_responses_without_speech() -> None:
    content = json.loads(encode_response(TranscriptionRequest("verbose_json"), [], 1.0).text)
    assert (content["text"], content["segments"], content["language"]) == ("", [], "unknown")
    assert encode_response(TranscriptionRequest("text"), [], 1.0).text == "\n"


@given(st.text())
def test_server_sent_events_are_one_line_of_json(text: str) -> None:
    for event in (encode_delta(text), encode_done(text)):
        assert event.startswith("data: ")
        assert event.endswith("\n\n")
        assert len(event[:-2].encode().splitlines()) == 1
        data = json.loads(event.removeprefix("data: "))
        assert text in (data.get("delta"), data.get("text"))


def test_text_is_punctuated_and_words_are_not() -> None:
    text = "Well, — I’m late."
    words = tuple(Word(word, float(index), index + 0.5, 0.9) for index, word in enumerate(text.split()))
    finals = [Final(0, 0.0, 4.0, text, 0.9, words)]
    request = TranscriptionRequest("verbose_json", "en", ("word", "segment"))
    content = json.loads(encode_response(request, finals, 4.0).text)
    assert content["text"] == content["segments"][0]["text"] == text
    assert [word["word"] for word in content["words"]] == ["Well", "I’m", "late"]
