"""The Vosk protocol over a real connection, with a client that follows the protocol's documentation."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import bare_text
from tests.support.fakes import conversation, silence, sound
from tests.support.serving import TIMEOUT_S, pcm16, run_server

SENTENCES = ["hello world", "how are you", "fine thanks"]


class VoskClient:
    """Sends a message and waits for its reply, as Vosk's clients do."""

    def __init__(self, connection: ClientConnection, **config: Any) -> None:
        self._connection = connection
        if config:
            connection.send(json.dumps({"config": config}))
        self.replies: list[dict[str, Any]] = []

    def request(self, message: str | bytes) -> dict[str, Any]:
        self._connection.send(message)
        self.replies.append(json.loads(self._connection.recv(TIMEOUT_S)))
        return self.replies[-1]

    def send_audio(self, audio: bytes, block_bytes: int = 6400) -> None:
        for start in range(0, len(audio), block_bytes):
            self.request(audio[start : start + block_bytes])

    @property
    def texts(self) -> list[str]:
        return [reply["text"] for reply in self.replies if reply.get("text")]


def receive_rest(connection: ClientConnection) -> Iterator[Any]:
    """Yield the remaining messages, then the close code and the error code of the close frame."""
    try:
        while True:
            yield json.loads(connection.recv(TIMEOUT_S))
    except ConnectionClosed:
        yield connection.close_code, (connection.close_reason or "").partition(":")[0]


@pytest.mark.parametrize("path", ["/", "/vosk"])
def test_session_from_config_to_eof(path: str) -> None:
    with run_server() as server, server.connect(path) as connection:
        client = VoskClient(connection, sample_rate=16_000.0, words=1, phrase_list=["hello"])
        client.send_audio(pcm16(conversation(*SENTENCES)))
        assert client.request('{"eof" : 1}') == {"text": ""}
        assert client.texts == SENTENCES
        assert {"partial": "hello"} in client.replies
        words = [word for reply in client.replies for word in reply.get("result", [])]
        assert [word["word"] for word in words] == " ".join(SENTENCES).split()
        assert all(0.8 < word["conf"] <= 1 for word in words)
        assert all(first["end"] <= second["start"] for first, second in pairwise(words))
        assert list(receive_rest(connection)) == [(1000, "")]


def test_reply_covers_all_audio_of_its_message() -> None:
    """A message may contain several utterances."""
    with run_server() as server, server.connect("/vosk") as connection:
        client = VoskClient(connection, sample_rate=16_000)
        assert client.request(pcm16(conversation(*SENTENCES)))["text"] == " ".join(SENTENCES)


def test_reset_and_eof_end_the_current_utterance() -> None:
    audio = np.concatenate([silence(0.5), sound("hello world"), silence(0.2)])
    with run_server() as server, server.connect("/vosk") as connection:
        client = VoskClient(connection, sample_rate=16_000, words=False)
        client.send_audio(pcm16(audio))
        assert client.request('{"reset" : 1}') == {"text": "hello world"}
        client.send_audio(pcm16(audio))
        connection.send('{"config" : {"words" : 1}}')
        last_reply = client.request('{"eof" : 1}')
        assert last_reply["text"] == "hello world"
        assert last_reply["result"][0]["start"] > len(audio) / 16_000


def test_default_sample_rate_is_that_of_vosk(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stream_asr.server.sessions.registry")
    with run_server() as server, server.connect("/vosk") as connection:
        client = VoskClient(connection)
        client.send_audio(bytes(8000))
        client.request('{"eof" : 1}')
        list(receive_rest(connection))
    (fields,) = [vars(record) for record in caplog.records if record.getMessage() == "session"]
    assert (fields["protocol"], fields["sample_rate"], fields["audio_s"]) == ("vosk", 8000, 0.5)


def test_client_that_does_not_wait_for_replies_gets_all_of_them() -> None:
    audio = pcm16(conversation(*SENTENCES))
    with run_server() as server, server.connect("/vosk") as connection:
        connection.send('{"config":{"sample_rate":16000}}')
        blocks = [audio[start : start + 512] for start in range(0, len(audio), 512)]
        for block in blocks:
            connection.send(block)
        connection.send('{"eof":1}')
        *replies, closed = receive_rest(connection)
        assert len(replies) == len(blocks) + 1
        assert [reply["text"] for reply in replies if reply.get("text")] == SENTENCES
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
def test_errors_are_reported_in_the_close_frame(messages: list[str | bytes], code: str) -> None:
    with run_server() as server, server.connect("/vosk") as connection:
        for message in messages:
            connection.send(message)
        assert list(receive_rest(connection))[-1][1] == code


def test_silent_client_gets_its_words_and_is_closed_after_idle_timeout() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect("/vosk") as connection:
        client = VoskClient(connection, sample_rate=16_000)
        client.send_audio(pcm16(np.concatenate([silence(0.5), sound("hello world"), silence(0.2)])))
        last_reply, closed = receive_rest(connection)
        assert last_reply["text"] == "hello world"
        assert closed == (1008, "idle_timeout")


def test_client_that_only_sends_config_is_closed_after_idle_timeout() -> None:
    with run_server(idle_timeout_s=0.3) as server, server.connect("/vosk") as connection:

        def send_configs() -> None:
            for _ in range(100):
                connection.send('{"config":{"words":1}}')
                time.sleep(0.02)

        with pytest.raises(ConnectionClosed):
            send_configs()
        assert list(receive_rest(connection)) == [(1008, "idle_timeout")]


def test_connection_is_refused_when_all_sessions_are_taken() -> None:
    with run_server(max_sessions=1) as server, server.connect("/vosk") as connection:
        VoskClient(connection).request(pcm16(silence(0.1)))
        with pytest.raises(InvalidStatus) as refused, server.connect("/vosk"):
            pass
        assert refused.value.response.status_code == 503


def test_text_equals_that_of_transcribe(recognizer: Recognizer, speech: FloatArray) -> None:
    audio = pcm16(speech)
    expected = [final for final in recognizer.iter_finals(np.frombuffer(audio, dtype="<i2")) if final.text]
    with run_server(recognizer) as server, server.connect("/vosk") as connection:
        client = VoskClient(connection, sample_rate=16_000)
        client.send_audio(audio, 8000)
        client.request('{"eof" : 1}')
    assert " ".join(client.texts) == bare_text(" ".join(final.text for final in expected))
    words = [word for reply in client.replies for word in reply.get("result", [])]
    expected_words = [{**word.to_json(), "word": word.bare} for final in expected for word in final.words]
    assert words == [
        {"conf" if key == "confidence" else key: value for key, value in word.items()} for word in expected_words
    ]
