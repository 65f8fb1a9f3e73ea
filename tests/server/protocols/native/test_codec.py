"""The native protocol's codec: what it takes, and how it says no."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_asr.audio.pcm import ENCODINGS
from stream_asr.events import AudioDropped, Final, Overload, Partial, SpeechStarted, Word
from stream_asr.server.errors import CloseCode, SessionError
from stream_asr.server.protocols.native import codec as native
from stream_asr.server.sessions.outbox import MarkReached

FINAL = Final(0, 0.42, 4.31, "ask", 0.93, (Word("ask", 0.5, 0.71, 0.97),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"start","sample_rate":48000}', native.Start(48_000)),
        (
            '{"type":"start","sample_rate":8000,"encoding":"mulaw","channels":2,"partials":false,"words":false}',
            native.Start(8000, "mulaw", 2, partials=False, words=False),
        ),
        ('{"type":"start","sample_rate":8000,"endpoint_ms":300}', native.Start(8000, endpoint_ms=300)),
        *(
            (json.dumps({"type": "start", "sample_rate": 8000, "encoding": name}), native.Start(8000, name))
            for name in ENCODINGS
        ),
        ('{"type":"resume","session":"abc"}', native.Resume("abc")),
        ('{"type":"resume","session":"abc","events":7}', native.Resume("abc", 7)),
        ('{"type":"flush"}', native.Flush()),
        ('{"type":"ping","id":"x"}', native.Ping("x")),
        ('{"type":"ping","id":3}', native.Ping(3)),
        ('{"type":"finish"}', native.Finish()),
    ],
)
def test_messages_of_clients(text: str, message: native.ClientMessage) -> None:
    assert native.decode(text) == message


BAD = [
    ("", "invalid_json", "not JSON"),
    ("{", "invalid_json", "not JSON"),
    ("[" * 100_000, "invalid_json", "nested too deeply"),
    ('{"type":"ping","id":NaN}', "invalid_json", "NaN is no JSON value"),
    ("[]", "bad_message", "a JSON object"),
    ("{}", "bad_message", "accepted are start, resume, flush, ping, finish"),
    ('{"type":"stop"}', "bad_message", '"stop"; accepted are start'),
    ('{"type":["start"]}', "bad_message", "accepted are start"),
    ('{"type":"start"}', "bad_message", "start lacks sample_rate, an integer"),
    (
        '{"type":"start","sample_rate":1,"rate":2}',
        "bad_message",
        'unknown key "rate" in start; accepted are type, sample_rate, encoding, channels, partials, words, endpoint_ms',
    ),
    ('{"type":"start","sample_rate":"16000"}', "bad_message", 'sample_rate is "16000"; it takes an integer'),
    ('{"type":"start","sample_rate":true}', "bad_message", "sample_rate is true; it takes an integer"),
    ('{"type":"start","sample_rate":16000.0}', "bad_message", "it takes an integer"),
    ('{"type":"start","sample_rate":16000,"partials":1}', "bad_message", "partials is 1; it takes true or false"),
    (
        '{"type":"start","sample_rate":16000,"endpoint_ms":null}',
        "bad_message",
        "endpoint_ms is null; it takes an int",
    ),
    (
        '{"type":"start","sample_rate":16000,"encoding":"mp3"}',
        "bad_message",
        f'encoding "mp3"; accepted are {", ".join(ENCODINGS)}',
    ),
    ('{"type":"resume"}', "bad_message", "resume lacks session, a string"),
    ('{"type":"resume","session":"a","events":-1}', "bad_message", "cannot be negative"),
    ('{"type":"ping"}', "bad_message", "ping lacks id, a string or an integer"),
    ('{"type":"ping","id":null}', "bad_message", "id is null"),
    ('{"type":"ping","id":"' + "x" * 101 + '"}', "bad_message", "has 101 characters; 100 are accepted"),
    ('{"type":"finish","now":true}', "bad_message", 'unknown key "now" in finish; accepted are type'),
]


@pytest.mark.parametrize(("text", "code", "says"), BAD)
def test_what_is_wrong_is_named(text: str, code: str, says: str) -> None:
    with pytest.raises(SessionError) as caught:
        native.decode(text)
    assert caught.value.code == code
    assert says in caught.value.message
    expected = CloseCode.INVALID_DATA if code == "invalid_json" else CloseCode.POLICY_VIOLATION
    assert caught.value.close_code == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["sample_rate", "encoding", "channels", "partials", "words", "endpoint_ms", "session", "events", "id", "x"]
)
kinds = st.sampled_from(["start", "resume", "flush", "ping", "finish"]) | json_values
objects = st.builds(lambda kind, rest: {"type": kind, **rest}, kinds, st.dictionaries(keys, json_values, max_size=4))


@settings(max_examples=500)
@given(st.text(max_size=60) | objects.map(json.dumps))
@example('{"type":"ping","id":"\\ud800"}')
@example('{"type":"ping","id":' + "1" * 5000 + "}")
def test_anything_is_understood_or_refused(text: str) -> None:
    """And every refusal can be told to the client."""
    try:
        message = native.decode(text)
    except SessionError as error:
        native.encode(native.Error(error.code, error.message)).encode()
    else:
        assert isinstance(message, native.ClientMessage)
        if isinstance(message, native.Ping):
            assert json.loads(native.encode_event(MarkReached(message.id), words=True).encode())["id"] == message.id


def test_events_are_those_of_the_command_line() -> None:
    for event in (
        SpeechStarted(0, 0.42),
        Partial(0, 0.42, 1.9, "ask not", "ask not what your"),
        FINAL,
        Overload(2350),
        AudioDropped(1.0, 2.0),
    ):
        assert json.loads(native.encode_event(event, words=True)) == event.to_json()


def test_words_can_be_left_out() -> None:
    assert "words" not in json.loads(native.encode_event(FINAL, words=False))


def test_messages_to_clients() -> None:
    assert native.encode(native.Ready("s", "m", 16_000)) == (
        '{"type":"ready","session":"s","model":"m","sample_rate":16000}'
    )
    resumed = json.loads(native.encode(native.Ready("s", "m", 16_000, 0, 0)))
    assert (resumed["received"], resumed["events"]) == (0, 0)
    assert native.encode(native.Ack(5)) == '{"type":"ack","received":5}'
    assert native.encode(native.Done(8, 0.5)) == '{"type":"done","received":8,"seconds":0.5}'
    assert json.loads(native.encode(native.Done(8, 0.5, 1)))["trailing_bytes"] == 1
    assert native.encode_event(MarkReached("é"), words=True) == '{"type":"pong","id":"\\u00e9"}'
