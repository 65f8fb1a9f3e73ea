"""The codec of the native protocol."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_asr.audio.pcm import ENCODINGS
from stream_asr.events import AudioDropped, Final, Overload, Partial, SpeechStarted, Word
from stream_asr.server.errors import CloseCode, SessionError
from stream_asr.server.protocols.native import codec
from stream_asr.server.sessions.outbox import MarkReached

FINAL = Final(0, 0.42, 4.31, "ask", 0.93, (Word("ask", 0.5, 0.71, 0.97),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"start","sample_rate":48000}', codec.Start(48_000)),
        (
            '{"type":"start","sample_rate":8000,"encoding":"mulaw","channels":2,"partials":false,"words":false}',
            codec.Start(8000, "mulaw", 2, partials=False, words=False),
        ),
        ('{"type":"start","sample_rate":8000,"endpoint_ms":300}', codec.Start(8000, endpoint_ms=300)),
        (
            '{"type":"start","sample_rate":8000,"hotwords":["Anneke Visser","GitHub"]}',
            codec.Start(8000, hotwords={"Anneke Visser": 1.0, "GitHub": 1.0}),
        ),
        (
            '{"type":"start","sample_rate":8000,"hotwords":{"GitHub":2,"Visser":1.5}}',
            codec.Start(8000, hotwords={"GitHub": 2.0, "Visser": 1.5}),
        ),
        ('{"type":"start","sample_rate":8000,"hotwords":[]}', codec.Start(8000, hotwords={})),
        *(
            (json.dumps({"type": "start", "sample_rate": 8000, "encoding": name}), codec.Start(8000, name))
            for name in ENCODINGS
        ),
        ('{"type":"resume","session":"abc"}', codec.Resume("abc")),
        ('{"type":"resume","session":"abc","events":7}', codec.Resume("abc", 7)),
        ('{"type":"flush"}', codec.Flush()),
        ('{"type":"ping","id":"x"}', codec.Ping("x")),
        ('{"type":"ping","id":3}', codec.Ping(3)),
        ('{"type":"finish"}', codec.Finish()),
    ],
)
def test_client_messages_are_decoded(text: str, message: codec.ClientMessage) -> None:
    assert codec.decode(text) == message


INVALID_MESSAGES = [
    ("", "invalid_json", "not JSON"),
    ("{", "invalid_json", "not JSON"),
    ("[" * 100_000, "invalid_json", "nested too deeply"),
    ('{"type":"ping","id":NaN}', "invalid_json", "NaN is not a JSON value"),
    ("[]", "bad_message", "a JSON object"),
    ("{}", "bad_message", "accepted: start, resume, flush, ping, finish"),
    ('{"type":"stop"}', "bad_message", 'unknown type "stop"; accepted: start'),
    ('{"type":["start"]}', "bad_message", "accepted: start"),
    ('{"type":"start"}', "bad_message", "start requires sample_rate, an integer"),
    (
        '{"type":"start","sample_rate":1,"rate":2}',
        "bad_message",
        'unknown key "rate" in start; accepted: type, sample_rate, encoding, channels, partials, words, endpoint_ms, '
        "hotwords",
    ),
    ('{"type":"start","sample_rate":"16000"}', "bad_message", 'sample_rate is "16000"; it must be an integer'),
    ('{"type":"start","sample_rate":true}', "bad_message", "sample_rate is true; it must be an integer"),
    ('{"type":"start","sample_rate":16000.0}', "bad_message", "it must be an integer"),
    ('{"type":"start","sample_rate":16000,"partials":1}', "bad_message", "partials is 1; it must be true or false"),
    (
        '{"type":"start","sample_rate":16000,"endpoint_ms":null}',
        "bad_message",
        "endpoint_ms is null; it must be an integer",
    ),
    (
        '{"type":"start","sample_rate":16000,"encoding":"mp3"}',
        "bad_message",
        f'unknown encoding "mp3"; accepted: {", ".join(ENCODINGS)}',
    ),
    *(
        (f'{{"type":"start","sample_rate":16000,"hotwords":{hotwords}}}', "bad_message", expected_text)
        for hotwords, expected_text in [
            ('"GitHub"', 'hotwords is "GitHub"; it must be a list of strings, or an object'),
            ('["GitHub",1]', "hotwords contains 1; a hotword must be a string"),
            ('{"GitHub":true}', 'the weight of "GitHub" is true; it must be a number'),
            ('{"GitHub":"2"}', 'the weight of "GitHub" is "2"; it must be a number'),
            ('{"GitHub":1' + "0" * 400 + "}", 'the weight of "GitHub" is 10000'),
        ]
    ),
    ('{"type":"resume"}', "bad_message", "resume requires session, a string"),
    ('{"type":"resume","session":"a","events":-1}', "bad_message", "must not be negative"),
    ('{"type":"ping"}', "bad_message", "ping requires id, a string or an integer"),
    ('{"type":"ping","id":null}', "bad_message", "id is null"),
    ('{"type":"ping","id":"' + "x" * 101 + '"}', "bad_message", "has 101 characters; at most 100 are accepted"),
    ('{"type":"finish","now":true}', "bad_message", 'unknown key "now" in finish; accepted: type'),
]


@pytest.mark.parametrize(("text", "code", "expected_text"), INVALID_MESSAGES)
def test_invalid_messages_are_rejected_with_the_fault(text: str, code: str, expected_text: str) -> None:
    with pytest.raises(SessionError) as caught:
        codec.decode(text)
    assert caught.value.code == code
    assert expected_text in caught.value.message
    close_code = CloseCode.INVALID_DATA if code == "invalid_json" else CloseCode.POLICY_VIOLATION
    assert caught.value.close_code == close_code


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["sample_rate", "encoding", "channels", "partials", "words", "endpoint_ms", "session", "events", "id", "x"]
)
message_types = st.sampled_from(["start", "resume", "flush", "ping", "finish"]) | json_values
objects = st.builds(
    lambda message_type, rest: {"type": message_type, **rest},
    message_types,
    st.dictionaries(keys, json_values, max_size=4),
)


@settings(max_examples=500)
@given(st.text(max_size=60) | objects.map(json.dumps))
@example('{"type":"ping","id":"\\ud800"}')
@example('{"type":"ping","id":' + "1" * 5000 + "}")
def test_any_text_is_decoded_or_rejected(text: str) -> None:
    """Errors and echoed ids can be encoded, whatever the text."""
    try:
        message = codec.decode(text)
    except SessionError as error:
        codec.encode(codec.Error(error.code, error.message)).encode()
    else:
        assert isinstance(message, codec.ClientMessage)
        if isinstance(message, codec.Ping):
            pong = codec.encode_event(MarkReached(message.id), words=True)
            assert json.loads(pong.encode())["id"] == message.id


def test_events_have_the_format_of_the_command_line() -> None:
    for event in (
        SpeechStarted(0, 0.42),
        Partial(0, 0.42, 1.9, "ask not", "ask not what your"),
        FINAL,
        Overload(2350),
        AudioDropped(1.0, 2.0),
    ):
        assert json.loads(codec.encode_event(event, words=True)) == event.to_json()


def test_words_of_finals_are_optional() -> None:
    assert "words" not in json.loads(codec.encode_event(FINAL, words=False))


def test_server_messages_are_encoded() -> None:
    assert codec.encode(codec.Ready("s", "m", 16_000)) == (
        '{"type":"ready","session":"s","model":"m","sample_rate":16000}'
    )
    assert json.loads(codec.encode(codec.Ready("s", "m", 16_000, "p")))["second_pass"] == "p"
    resumed = json.loads(codec.encode(codec.Ready("s", "m", 16_000, received=0, events=0)))
    assert (resumed["received"], resumed["events"]) == (0, 0)
    assert codec.encode(codec.Ack(5)) == '{"type":"ack","received":5}'
    assert codec.encode(codec.Done(8, 0.5)) == '{"type":"done","received":8,"seconds":0.5}'
    assert json.loads(codec.encode(codec.Done(8, 0.5, 1)))["trailing_bytes"] == 1
    assert codec.encode_event(MarkReached("é"), words=True) == '{"type":"pong","id":"\\u00e9"}'
