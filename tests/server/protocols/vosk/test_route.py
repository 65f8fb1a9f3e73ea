"""Vosk's protocol: its codec, and a client written from the protocol's documentation over real sockets."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import Final, Partial, SpeechStarted, Word
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.vosk import codec as vosk
from stream_asr.server.protocols.vosk.codec import Command, Options, Replies
from tests.support.fakes import conversation, silence, sound
from tests.support.serving import TIMEOUT_S, run_server

SAID = ["hello world", "how are you", "fine thanks"]


def s16(audio: FloatArray) -> bytes:
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype("<i2").tobytes()


# --- the codec ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{ "config" : { "sample_rate" : 16000 } }', Options(16_000)),
        ('{"config": {"sample_rate": 44100.0, "words": 0}}', Options(44_100, words=False)),
        ('{"config": {"sample_rate": "8000", "words": true}}', Options()),
        ('{"config": {"max_alternatives": 3}}', Options(max_alternatives=3)),
        (
            '{"config": {"phrase_list": ["one"], "model": "en"}}',
            Options(ignored=('"phrase_list"', '"model"'), ignored_count=2),
        ),
        ('{"eof" : 1}', Command.EOF),
        ('{"eof":true}', Command.EOF),
        ('{"reset" : 1}', Command.RESET),
    ],
)
def test_messages_of_clients(text: str, expected: Options | Command) -> None:
    assert vosk.decode(text, Options()) == expected


def test_a_config_changes_what_it_names() -> None:
    before = Options(16_000, words=False)
    assert vosk.decode('{"config": {"max_alternatives": 1}}', before) == Options(16_000, False, 1)


def test_of_what_is_ignored_only_some_names_are_kept() -> None:
    options: Options | Command = Options()
    for number in range(100):
        config = {f"{number} {at} {200 * 'x'}": at for at in range(100)}
        assert isinstance(options, Options)
        options = vosk.decode(json.dumps({"config": config}), options)
    assert isinstance(options, Options)
    assert options.ignored_count == 10_000
    assert len("".join(options.ignored)) < 400
    assert options.ignored[0].startswith('"0 0 xx')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello", "not JSON"),
        ("[]", "a message is a JSON object"),
        ('{"oef": 1}', 'accepted are {"config": {...}}, {"eof": 1}, {"reset": 1}, and binary audio'),
        ('{"eof": 0}', "accepted are"),
        ('{"config": 16000}', "config is 16000; it takes an object"),
        ('{"config": {"sample_rate": "fast"}}', 'sample_rate is "fast"; it takes a whole number'),
        ('{"config": {"sample_rate": 16000.5}}', "sample_rate is 16000.5"),
        ('{"config": {"sample_rate": 1e999}}', "sample_rate is Infinity"),
        ('{"config": {"words": null}}', "words is null"),
        ('{"config": {"max_alternatives": -1}}', "max_alternatives is -1"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(SessionError) as caught:
        vosk.decode(text, Options())
    assert says in caught.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["sample_rate", "words", "max_alternatives", "phrase_list", "x"])
configs = st.dictionaries(keys, json_values, max_size=4) | json_values
objects = st.dictionaries(st.sampled_from(["config", "eof", "reset"]), configs, max_size=2)


@given(st.text(max_size=60) | objects.map(json.dumps))
def test_anything_is_understood_or_refused(text: str) -> None:
    try:
        decoded = vosk.decode(text, Options())
    except SessionError as error:
        error.message.encode()
    else:
        assert isinstance(decoded, Options | Command)


def final(number: int, *words: str) -> Final:
    made = tuple(Word(word, number + at / 8, number + at / 8 + 0.1, 0.5) for at, word in enumerate(words))
    return Final(number, number, number + 1, " ".join(words), 0.5 if words else 0.0, made)


def test_a_reply_is_a_partial_or_what_has_ended_since_the_last_one() -> None:
    replies = Replies(Options())
    assert replies.to_audio() == '{"partial":""}'
    replies.hear(SpeechStarted(0, 0.0))
    replies.hear(Partial(0, 0.0, 0.5, "", "ask"))
    assert replies.to_audio() == '{"partial":"ask"}'
    replies.hear(final(0, "ask", "not"))
    replies.hear(final(1))
    replies.hear(final(2, "what"))
    replies.hear(Partial(3, 3.0, 3.5, "", "your"))
    assert replies.pending
    assert json.loads(replies.to_audio()) == {
        "result": [
            {"conf": 0.5, "start": 0.0, "end": 0.1, "word": "ask"},
            {"conf": 0.5, "start": 0.125, "end": 0.225, "word": "not"},
            {"conf": 0.5, "start": 2.0, "end": 2.1, "word": "what"},
        ],
        "text": "ask not what",
    }
    assert not replies.pending
    assert replies.to_audio() == '{"partial":"your"}'
    assert replies.result() == '{"text":""}'


def test_results_without_words_and_with_alternatives() -> None:
    replies = Replies(Options(words=False))
    replies.hear(final(0, "ask"))
    assert replies.result() == '{"text":"ask"}'
    replies.options = Options(max_alternatives=2)
    replies.hear(final(1, "not"))
    told = {"confidence": 0.5, "result": [{"start": 1.0, "end": 1.1, "word": "not"}], "text": "not"}
    assert json.loads(replies.result()) == {"alternatives": [told]}
    assert json.loads(replies.result()) == {"alternatives": [{"confidence": 0.0, "text": ""}]}


# --- over a socket --------------------------------------------------------------------------------------------


class VoskClient:
    """Sends a message, waits for its reply, as Vosk's own clients do."""

    def __init__(self, connection: ClientConnection, **config: Any) -> None:
        self._connection = connection
        if config:
            connection.send(json.dumps({"config": config}))
        self.replies: list[dict[str, Any]] = []

    def ask(self, message: str | bytes) -> dict[str, Any]:
        self._connection.send(message)
        self.replies.append(json.loads(self._connection.recv(TIMEOUT_S)))
        return self.replies[-1]

    def say(self, audio: bytes, block: int = 6400) -> None:
        for at in range(0, len(audio), block):
            self.ask(audio[at : at + block])

    @property
    def texts(self) -> list[str]:
        return [reply["text"] for reply in self.replies if reply.get("text")]


def rest(connection: ClientConnection) -> Iterator[Any]:
    """The messages that are left, then the close."""
    try:
        while True:
            yield json.loads(connection.recv(TIMEOUT_S))
    except ConnectionClosed:
        yield connection.close_code, (connection.close_reason or "").partition(":")[0]


@pytest.mark.parametrize("path", ["/", "/vosk"])
def test_a_conversation(path: str) -> None:
    with run_server() as server, server.connect(path) as connection:
        client = VoskClient(connection, sample_rate=16_000.0, words=1, phrase_list=["hello"])
        client.say(s16(conversation(*SAID)))
        assert client.ask('{"eof" : 1}') == {"text": ""}
        assert client.texts == SAID
        assert {"partial": "hello"} in client.replies
        words = [word for reply in client.replies for word in reply.get("result", [])]
        assert [word["word"] for word in words] == " ".join(SAID).split()
        assert all(0.8 < word["conf"] <= 1 for word in words)
        assert all(first["end"] <= second["start"] for first, second in pairwise(words))
        assert list(rest(connection)) == [(1000, "")]


def test_a_reply_tells_of_all_audio_before_it() -> None:
    """Whatever the sizes of the messages: one that holds a whole conversation is answered with all of it."""
    with run_server() as server, server.connect("/vosk") as connection:
        client = VoskClient(connection, sample_rate=16_000)
        assert client.ask(s16(conversation(*SAID)))["text"] == " ".join(SAID)


def test_eof_ends_the_last_utterance_and_reset_one_in_between() -> None:
    talk = np.concatenate([silence(0.5), sound("hello world"), silence(0.2)])
    with run_server() as server, server.connect("/vosk") as connection:
        client = VoskClient(connection, sample_rate=16_000, words=False)
        client.say(s16(talk))
        assert client.ask('{"reset" : 1}') == {"text": "hello world"}
        client.say(s16(talk))
        connection.send('{"config" : {"words" : 1}}')
        last = client.ask('{"eof" : 1}')
        assert last["text"] == "hello world"
        assert last["result"][0]["start"] > len(talk) / 16_000


def test_without_a_config_the_rate_is_that_of_vosk(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stream_asr.server.sessions.registry")
    with run_server() as server, server.connect("/vosk") as connection:
        client = VoskClient(connection)
        client.say(bytes(8000))
        client.ask('{"eof" : 1}')
        list(rest(connection))
    (line,) = [record for record in caplog.records if record.getMessage() == "session"]
    assert (line.protocol, line.sample_rate, line.audio_s) == ("vosk", 8000, 0.5)  # type: ignore[attr-defined]


def test_clients_that_do_not_wait_get_every_reply() -> None:
    audio = s16(conversation(*SAID))
    with run_server() as server, server.connect("/vosk") as connection:
        connection.send('{"config":{"sample_rate":16000}}')
        blocks = [audio[at : at + 512] for at in range(0, len(audio), 512)]
        for block in blocks:
            connection.send(block)
        connection.send('{"eof":1}')
        *replies, closed = rest(connection)
        assert len(replies) == len(blocks) + 1
        assert [reply["text"] for reply in replies if reply.get("text")] == SAID
        assert closed == (1000, "")


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["hello"], "invalid_json"),
        (['{"end":1}'], "bad_message"),
        (['{"config":{"sample_rate":1}}', b"\0\0"], "bad_audio_format"),
        ([b"\0\0", '{"config":{"sample_rate":16000}}'], "bad_message"),
    ],
)
def test_mistakes_are_told_in_the_close(messages: list[str | bytes], code: str) -> None:
    with run_server() as server, server.connect("/vosk") as connection:
        for message in messages:
            connection.send(message)
        assert list(rest(connection))[-1][1] == code


def test_a_client_that_falls_silent_gets_its_words_first() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect("/vosk") as connection:
        client = VoskClient(connection, sample_rate=16_000)
        client.say(s16(np.concatenate([silence(0.5), sound("hello world"), silence(0.2)])))
        last, closed = rest(connection)
        assert last["text"] == "hello world"
        assert closed == (1008, "idle_timeout")


def test_who_configures_for_ever_is_sent_away() -> None:
    with run_server(idle_timeout_s=0.3) as server, server.connect("/vosk") as connection:

        def chat() -> None:
            for _ in range(100):
                connection.send('{"config":{"words":1}}')
                time.sleep(0.02)

        with pytest.raises(ConnectionClosed):
            chat()
        assert list(rest(connection)) == [(1008, "idle_timeout")]


def test_no_more_sessions_than_allowed() -> None:
    with run_server(max_sessions=1) as server, server.connect("/vosk") as connection:
        VoskClient(connection).ask(s16(silence(0.1)))
        with pytest.raises(InvalidStatus) as refused, server.connect("/vosk"):
            pass
        assert refused.value.response.status_code == 503


def test_the_text_is_that_of_transcribe(recognizer: Recognizer, speech: FloatArray) -> None:
    audio = s16(speech)
    expected = [final for final in recognizer.iter_finals(np.frombuffer(audio, dtype="<i2")) if final.text]
    with run_server(recognizer) as server, server.connect("/vosk") as connection:
        client = VoskClient(connection, sample_rate=16_000)
        client.say(audio, 8000)
        client.ask('{"eof" : 1}')
    assert " ".join(client.texts) == " ".join(final.text for final in expected)
    words = [word for reply in client.replies for word in reply.get("result", [])]
    told = [word.to_json() for final in expected for word in final.words]
    assert words == [{"conf" if key == "confidence" else key: word[key] for key in word} for word in told]
