"""The native protocol over a real connection, with a fake model."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.support.fakes import conversation, silence, sound
from tests.support.serving import (
    NativeClient,
    RunningServer,
    assert_serves_new_client,
    pcm,
    run_blocked_server,
    run_server,
    wait_until,
)

SENTENCES = ["hello world", "how are you", "fine thanks"]
START = '{"type":"start","sample_rate":16000,"encoding":"pcm_f32le"}'


def test_session_from_start_to_done() -> None:
    audio = conversation(*SENTENCES)
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        ready = client.start()
        assert ready == {"type": "ready", "session": ready["session"], "model": "fake", "sample_rate": 16_000}
        client.send(audio)
        client.send_message("ping", id="p1")
        client.send_message("finish")
        done = client.receive_until("done")
        assert client.finals == SENTENCES
        assert done == {"type": "done", "received": len(audio), "seconds": len(audio) / 16_000}
        last_final = max(index for index, message in enumerate(client.messages) if message["type"] == "final")
        assert client.messages.index({"type": "pong", "id": "p1"}) > last_final
        acks = [message["received"] for message in client.messages if message["type"] == "ack"]
        assert acks
        assert acks == sorted(set(acks))
        assert acks[-1] <= len(audio)
        assert client.receive_close()[1] == 1000


@pytest.mark.parametrize("block_bytes", [1, 37, 4001])
def test_audio_messages_may_have_any_size(block_bytes: int) -> None:
    """They may also end inside a sample."""
    audio = conversation("hello") if block_bytes > 1 else silence(0.1)
    data = pcm(audio)
    with run_server(max_speed=1e6) as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        for start in range(0, len(data), block_bytes):
            connection.send(data[start : start + block_bytes])
        client.send_message("finish")
        assert client.receive_until("done")["received"] == len(audio)
        assert client.finals == (["hello"] if block_bytes > 1 else [])


def test_incomplete_last_sample_is_reported() -> None:
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start(encoding="pcm_s16le", channels=2)
        connection.send(b"\0" * 4001)
        client.send_message("finish")
        done = client.receive_until("done")
        assert done == {"type": "done", "received": 1000, "seconds": 0.062, "trailing_bytes": 1}


def test_flush_and_ping_do_not_wait_for_a_pause() -> None:
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(np.concatenate([silence(0.5), sound("hello world and"), silence(0.2)]))
        client.send_message("ping", id=1)
        assert client.receive_until("pong") == {"type": "pong", "id": 1}
        assert client.events[-2]["type"] == "partial"
        assert not client.finals
        client.send_message("flush")
        client.send_message("ping", id=2)
        client.receive_until("pong")
        assert client.finals == ["hello world and"]


def test_partials_and_words_are_optional() -> None:
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start(partials=False, words=False)
        client.send(conversation(*SENTENCES))
        client.send_message("finish")
        client.receive_until("done")
        assert {message["type"] for message in client.events} == {"speech_started", "final"}
        assert not any("words" in message for message in client.events)


def test_each_session_has_its_own_endpoint() -> None:
    finals = []
    with run_server() as server:
        for keys in ({"endpoint_ms": 1500}, {}, {"endpoint_ms": 500}):
            with server.connect() as connection:
                client = NativeClient(connection)
                client.start(**keys)
                client.send(conversation(*SENTENCES))
                client.send_message("finish")
                client.receive_until("done")
                finals.append([message for message in client.messages if message["type"] == "final"])
    longer, default, explicit_default = finals
    assert [final["text"] for final in longer] == ["".join(SENTENCES)]
    assert [final["text"] for final in default] == SENTENCES
    assert default == explicit_default


def test_concurrent_sessions_do_not_mix() -> None:
    texts = [f"{first} stream of {second} words" for first in "abcd" for second in "klmn"]

    def caption(server: RunningServer, text: str) -> list[str]:
        with server.connect() as connection:
            client = NativeClient(connection)
            client.start()
            client.send(conversation(text, text, text), 3000)
            client.send_message("finish")
            client.receive_until("done")
            return client.finals

    with run_server(max_sessions=len(texts)) as server, ThreadPoolExecutor(len(texts)) as pool:
        finals = list(pool.map(lambda text: caption(server, text), texts))
        assert finals == [[text] * 3 for text in texts]
        assert server.metric('stream_asr_sessions_opened_total{protocol="native"}') == len(texts)


# --- errors ---------------------------------------------------------------------------------------------------

INVALID_CONNECTIONS: list[tuple[list[str | bytes], str, int]] = [
    (["hello"], "invalid_json", 1007),
    (['{"type":"start","sample_rate":16000,"rate":8000}'], "bad_message", 1008),
    ([b"\0\0"], "audio_before_start", 1008),
    (['{"type":"finish"}'], "not_started", 1008),
    (['{"type":"start","sample_rate":1}'], "bad_audio_format", 1008),
    (['{"type":"start","sample_rate":16000,"channels":0}'], "bad_audio_format", 1008),
    (['{"type":"start","sample_rate":16000,"endpoint_ms":79}'], "bad_endpoint", 1008),
    (['{"type":"start","sample_rate":16000,"endpoint_ms":9701}'], "bad_endpoint", 1008),
    (['{"type":"resume","session":"unknown"}'], "unknown_session", 1008),
    ([START, START], "started_already", 1008),
    ([START, "{"], "invalid_json", 1007),
    ([START, '{"type":"finish"}', b"\0" * 4], "after_finish", 1008),
    ([START, '{"type":"finish"}', '{"type":"flush"}'], "after_finish", 1008),
    ([START, '{"type":"finish"}', '{"type":"ping","id":1}'], "after_finish", 1008),
    ([START, pcm(np.full(9, np.nan, dtype=np.float32))], "bad_audio", 1007),
    ([START, b"\0" * 10_001], "message_too_big", 1009),
    ([START, "x" * 10_001], "message_too_big", 1009),
    ([START, "ä" * 5_001], "message_too_big", 1009),
]
"""The messages of a client, the expected error code, and the expected close code."""


@pytest.fixture(scope="module")
def blocked_server() -> Iterator[RunningServer]:
    """A server whose model does not answer, so that no session ends before the client's invalid message arrives."""
    with run_blocked_server(max_message_bytes=10_000) as (server, _):
        yield server


@pytest.mark.parametrize(("messages", "code", "close_code"), INVALID_CONNECTIONS)
def test_client_errors_are_reported_and_close_the_connection(
    blocked_server: RunningServer, messages: list[str | bytes], code: str, close_code: int
) -> None:
    metric = f'stream_asr_errors_total{{code="{code}"}}'
    count = blocked_server.metric(metric)
    with blocked_server.connect() as connection:
        client = NativeClient(connection)
        for message in messages:
            if "finish" in str(message) and messages[0] == START:
                client.send(conversation("hello"), 1600)  # keeps the session open after finish
            connection.send(message)
        error, closed, reason = client.receive_close()
        assert error["type"] == "error"
        assert (error["code"], closed) == (code, close_code)
        assert reason.startswith(f"{code}: ")
    assert blocked_server.metric(metric) == count + 1
    assert blocked_server.service.sessions.open_count == 0


def test_client_errors_do_not_affect_other_sessions() -> None:
    with run_server(max_message_bytes=1 << 16) as server, server.connect() as valid_connection:
        client = NativeClient(valid_connection)
        client.start()
        parts = np.array_split(conversation(*SENTENCES * 2), len(INVALID_CONNECTIONS))
        for part, (messages, _, _) in zip(parts, INVALID_CONNECTIONS, strict=True):
            client.send(part, 3000)
            with server.connect() as invalid_connection:
                for message in messages:
                    is_oversized = len(message) > 10_000  # for the limit that the list assumes
                    data: str | bytes = message * 7 if is_oversized else message
                    invalid_connection.send(data)
                NativeClient(invalid_connection).receive_close()
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == SENTENCES * 2


def test_message_far_above_the_limit_is_not_received_at_all() -> None:
    with run_server(max_message_bytes=70_000) as server:
        with server.connect() as connection:
            client = NativeClient(connection)
            client.start()
            connection.send(b"\0" * 300_000)
            assert client.receive_close()[1] == 1009
        assert_serves_new_client(server)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RunningServer]:
    with run_server(max_message_bytes=5000, max_sessions=64, max_speed=1e6) as server:
        yield server
        assert_serves_new_client(server)


valid_messages = st.sampled_from([START, '{"type":"flush"}', '{"type":"ping","id":7}', '{"type":"finish"}'])


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.lists(valid_messages | st.text(max_size=40) | st.binary(max_size=6000), max_size=12))
def test_any_messages_end_in_done_or_an_error(
    shared_server: RunningServer, starts: bool, messages: list[str | bytes]
) -> None:
    with shared_server.connect() as connection:
        client = NativeClient(connection)
        with suppress(ConnectionClosed):
            for message in [START] * starts + messages:
                connection.send(message)
            connection.send("not JSON: ends the connection")
        last, closed, _ = client.receive_close()
        assert last["type"] == ("done" if closed == 1000 else "error")
        assert closed in (1000, 1007, 1008, 1009)
    wait_until(lambda: shared_server.service.sessions.open_count == 0)
