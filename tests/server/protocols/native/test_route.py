"""The native protocol over real sockets, with a fake model."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stream_asr import Recognizer
from stream_asr.server import run as serve
from stream_asr.server.sessions.session import Session
from tests.support.fakes import FakeModel, conversation, loud, silence, sound
from tests.support.serving import TIMEOUT_S, NativeClient, RunningServer, blocked_model, pcm, run_server, wait_until

SAID = ["hello world", "how are you", "fine thanks"]


def assert_well(server: RunningServer) -> None:
    """Whatever happened to others, a new client is served."""
    with server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(conversation("all is well"), 1000)
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == ["all is well"]


def test_a_conversation() -> None:
    audio = conversation(*SAID)
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        ready = client.start()
        assert ready == {"type": "ready", "session": ready["session"], "model": "fake", "sample_rate": 16_000}
        client.send(audio)
        client.send_message("ping", id="p1")
        client.send_message("finish")
        done = client.receive_until("done")
        assert client.finals == SAID
        assert done == {"type": "done", "received": len(audio), "seconds": len(audio) / 16_000}
        assert client.messages.index({"type": "pong", "id": "p1"}) > max(
            at for at, message in enumerate(client.messages) if message["type"] == "final"
        )
        acks = [message["received"] for message in client.messages if message["type"] == "ack"]
        assert acks
        assert acks == sorted(set(acks))
        assert acks[-1] <= len(audio)
        assert client.receive_close()[1] == 1000


@pytest.mark.parametrize("block", [1, 37, 4001])
def test_messages_of_any_size_even_inside_a_sample(block: int) -> None:
    audio = conversation("hello") if block > 1 else silence(0.1)
    data = pcm(audio)
    with run_server(max_speed=1e6) as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        for at in range(0, len(data), block):
            connection.send(data[at : at + block])
        client.send_message("finish")
        assert client.receive_until("done")["received"] == len(audio)
        assert client.finals == (["hello"] if block > 1 else [])


def test_bytes_that_make_no_whole_sample_are_reported() -> None:
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start(encoding="pcm_s16le", channels=2)
        connection.send(b"\0" * 4001)
        client.send_message("finish")
        assert client.receive_until("done") == {"type": "done", "received": 1000, "seconds": 0.062, "trailing_bytes": 1}


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


def test_partials_and_words_can_be_left_out() -> None:
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start(partials=False, words=False)
        client.send(conversation(*SAID))
        client.send_message("finish")
        client.receive_until("done")
        assert {message["type"] for message in client.events} == {"speech_started", "final"}
        assert not any("words" in message for message in client.events)


def test_every_client_has_an_endpoint_of_its_own() -> None:
    with run_server() as server:
        heard = []
        for keys in ({"endpoint_ms": 1500}, {}, {"endpoint_ms": 500}):
            with server.connect() as connection:
                client = NativeClient(connection)
                client.start(**keys)
                client.send(conversation(*SAID))
                client.send_message("finish")
                client.receive_until("done")
                heard.append([message for message in client.messages if message["type"] == "final"])
    assert [final["text"] for final in heard[0]] == ["".join(SAID)]
    assert [final["text"] for final in heard[1]] == SAID
    assert heard[1] == heard[2]


START = '{"type":"start","sample_rate":16000,"encoding":"pcm_f32le"}'
MISTAKES: list[tuple[list[str | bytes], str, int]] = [
    (["hello"], "invalid_json", 1007),
    (['{"type":"start","sample_rate":16000,"rate":8000}'], "bad_message", 1008),
    ([b"\0\0"], "audio_before_start", 1008),
    (['{"type":"finish"}'], "not_started", 1008),
    (['{"type":"start","sample_rate":1}'], "bad_audio_format", 1008),
    (['{"type":"start","sample_rate":16000,"channels":0}'], "bad_audio_format", 1008),
    (['{"type":"start","sample_rate":16000,"endpoint_ms":79}'], "bad_endpoint", 1008),
    (['{"type":"start","sample_rate":16000,"endpoint_ms":9701}'], "bad_endpoint", 1008),
    (['{"type":"resume","session":"nobody"}'], "unknown_session", 1008),
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


@pytest.fixture(scope="module")
def strict() -> Any:
    """A server whose model does not answer, so that no session ends before its client's mistake arrives."""
    stuck = threading.Event()
    with (
        Recognizer(blocked_model(stuck), detector=lambda: loud) as recognizer,
        run_server(recognizer, max_message_bytes=10_000) as server,
    ):
        yield server, stuck
        stuck.set()


@pytest.mark.parametrize(("messages", "code", "close_code"), MISTAKES)
def test_every_mistake_is_told_and_closes(
    strict: tuple[RunningServer, threading.Event], messages: list[str | bytes], code: str, close_code: int
) -> None:
    server, _ = strict
    before = server.metric(f'stream_asr_errors_total{{code="{code}"}}')
    with server.connect() as connection:
        client = NativeClient(connection)
        for message in messages:
            if "finish" in str(message) and messages[0] == START:
                # Something to be recognised, so that the session cannot be done at once.
                client.send(conversation("hello"), 1600)
            connection.send(message)
        error, closed, reason = client.receive_close()
        assert error["type"] == "error"
        assert (error["code"], closed) == (code, close_code)
        assert reason.startswith(f"{code}: ")
    assert server.metric(f'stream_asr_errors_total{{code="{code}"}}') == before + 1
    assert server.service.sessions.open_count == 0


def test_mistakes_cost_no_other_session_anything() -> None:
    with run_server(max_message_bytes=1 << 16) as server, server.connect() as good:
        client = NativeClient(good)
        client.start()
        audio = conversation(*SAID * 2)
        pieces = np.array_split(audio, len(MISTAKES))
        for piece, (messages, _, _) in zip(pieces, MISTAKES, strict=True):
            client.send(piece, 3000)
            with server.connect() as bad:
                for message in messages:
                    bad.send(message * 7 if len(message) > 10_000 else message)
                NativeClient(bad).receive_close()
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == SAID * 2


def test_a_message_far_too_big_is_not_even_received() -> None:
    with run_server(max_message_bytes=70_000) as server:
        with server.connect() as connection:
            client = NativeClient(connection)
            client.start()
            connection.send(b"\0" * 300_000)
            assert client.receive_close()[1] == 1009
        assert_well(server)


def test_captions_keep_to_their_session() -> None:
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
        heard = list(pool.map(lambda text: caption(server, text), texts))
        assert heard == [[text] * 3 for text in texts]
        assert server.metric('stream_asr_sessions_opened_total{protocol="native"}') == len(texts)


def test_no_more_sessions_than_allowed() -> None:
    with run_server(max_sessions=1) as server:
        with server.connect() as connection:
            client = NativeClient(connection)
            client.start()
            with pytest.raises(InvalidStatus) as refused, server.connect():
                pass
            assert refused.value.response.status_code == 503
            assert json.loads(refused.value.response.body or b"")["code"] == "too_many_sessions"
            assert server.metric("stream_asr_sessions_refused_total") == 1
            client.send_message("finish")
            client.receive_until("done")
        assert_well(server)


def test_a_connection_that_could_have_been_a_resume_is_refused_after_the_upgrade() -> None:
    with run_server(max_sessions=1) as server:
        with server.connect() as connection:
            NativeClient(connection).start()
            connection.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: server.service.sessions.detached_count == 1)
        with server.connect() as connection:
            client = NativeClient(connection)
            connection.send(START)
            error, closed, _ = client.receive_close()
            assert (error["code"], closed) == ("too_many_sessions", 1013)


def test_a_client_that_says_nothing_is_sent_away() -> None:
    with run_server(start_timeout_s=0.05) as server, server.connect() as connection:
        error, closed, _ = NativeClient(connection).receive_close()
        assert (error["code"], closed) == ("idle_timeout", 1008)


def test_a_client_that_falls_silent_gets_its_finals_first() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(np.concatenate([silence(0.5), sound("hello world"), silence(0.2)]))
        error, closed, _ = client.receive_close()
        assert client.finals == ["hello world"]
        assert (error["code"], closed) == ("idle_timeout", 1008)


def test_a_session_has_an_end() -> None:
    audio = conversation(*SAID * 3)
    with run_server(max_duration_s=5.0) as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(audio)
        error, closed, _ = client.receive_close()
        assert (error["code"], closed) == ("too_long", 1008)
        assert client.finals[:2] == SAID[:2]


def test_a_fast_client_has_to_wait_and_loses_nothing() -> None:
    """The model stands still, so all that fits is one buffer, and what the sockets hold."""
    go_on = threading.Event()
    said = SAID * 40
    audio = conversation(*said)
    with (
        Recognizer(blocked_model(go_on), detector=lambda: loud) as recognizer,
        run_server(recognizer, max_speed=1e6) as server,
        server.connect() as connection,
    ):
        client = NativeClient(connection)
        client.start()

        def send() -> None:
            client.send(audio)
            client.send_message("finish")

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        try:
            wait_until(lambda: server.metric("stream_asr_audio_seconds_total") > 14)
            time.sleep(0.2)  # in which nothing happens
            assert server.metric("stream_asr_audio_seconds_total") < 31, "what the buffer holds, of 240 s"
        finally:
            go_on.set()
        assert client.receive_until("done")["received"] == len(audio)
        sender.join()
        assert client.finals == said
        assert not any(message["type"] == "audio_dropped" for message in client.messages)


def test_a_slow_reader_is_sent_away_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_SEND_BUFFER_BYTES", 4096)
    sentence = " ".join(f"{letter}b" for letter in "abcdefghijklmnopqrstuvwy")
    with run_server(max_unsent_events=16, close_timeout_s=TIMEOUT_S, max_speed=1e6) as server:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Segments of the loopback interface's size never fit into that: the kernel would go over to probing for
        # room, ever more seldom, and the rest would come after minutes.
        narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        narrow.connect(("127.0.0.1", server.port))
        # With one message in its queue, the client stops reading from the socket.
        with server.connect(sock=narrow, max_queue=1) as connection:
            client = NativeClient(connection)
            client.start()

            def send() -> None:
                """Until the end, so that it is stuck in sending unless the server goes on receiving."""
                audio = conversation(sentence)
                with suppress(ConnectionClosed):
                    while True:
                        client.send(audio)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            wait_until(lambda: server.metric('stream_asr_errors_total{code="slow_reader"}') == 1)
            time.sleep(0.5)
            error, closed, reason = client.receive_close()
            sender.join()
            assert (error["code"], closed) == ("slow_reader", 1008)
            assert "more than 16 events wait to be read" in reason
            finals = [message for message in client.messages if message["type"] == "final"]
            assert [message["utterance"] for message in finals] == list(range(len(finals))), "none is missing"
            assert finals
        assert_well(server)


def test_who_comes_without_a_word_and_who_vanishes_cost_nothing() -> None:
    with run_server(resume_window_s=0.05) as server:
        for sending in ([], [START], [START, b"\0" * 1000], [START, pcm(conversation("hello")), '{"type":"finish"}']):
            with server.connect() as connection:
                for message in sending:
                    connection.send(message)
                connection.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: server.service.sessions.open_count == 0)
        assert_well(server)


def test_pings_that_wait_are_bounded() -> None:
    stuck = threading.Event()
    with (
        Recognizer(blocked_model(stuck), detector=lambda: loud) as recognizer,
        run_server(recognizer, max_speed=1e6) as server,
        server.connect() as connection,
    ):
        client = NativeClient(connection)
        client.start()
        client.send(conversation("hello"))
        for number in range(65):
            client.send_message("ping", id=number)
        error, _, _ = client.receive_close()
        assert error["code"] == "too_many_waiting"
        stuck.set()


def test_told_to_stop_the_server_gives_everybody_the_last_final() -> None:
    with run_server() as server, server.connect() as connection, server.connect() as waiting:
        client = NativeClient(connection)
        client.start()
        client.send(np.concatenate([silence(0.5), sound("hello world"), silence(0.2)]))
        client.send_message("ping", id=1)
        client.receive_until("pong")
        server.stop()
        error, closed, _ = client.receive_close()
        assert client.finals == ["hello world"]
        assert (error["code"], closed) == ("shutting_down", 1001)
        server.join()
        with pytest.raises(OSError), server.connect():  # noqa: PT011
            pass
        with pytest.raises(ConnectionClosed):
            waiting.recv(TIMEOUT_S)


def test_who_does_not_finish_in_time_is_sent_away() -> None:
    stuck = threading.Event()
    with (
        Recognizer(blocked_model(stuck), detector=lambda: loud) as recognizer,
        run_server(recognizer, grace_s=0.1) as server,
        server.connect() as connection,
    ):
        client = NativeClient(connection)
        client.start()
        client.send(conversation("hello"))
        client.receive_until("ack")
        server.stop()
        error, closed, _ = client.receive_close()
        assert (error["code"], closed) == ("shutting_down", 1001)
        server.join()
        stuck.set()


def test_the_model_fails_and_the_client_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def fail(windows: object) -> None:
        raise RuntimeError("out of memory")

    with Recognizer(FakeModel(fail), detector=lambda: loud) as recognizer, run_server(recognizer) as server:
        with server.connect() as connection:
            client = NativeClient(connection)
            client.start()
            client.send(conversation("hello"))
            error, closed, _ = client.receive_close()
            assert (error["code"], closed) == ("internal", 1011)
            assert "out of memory" in error["message"]
        assert server.service.sessions.open_count == 0


def test_what_nobody_foresaw_is_no_end_like_any_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(session: Session, event: object) -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(Session, "_observe", fail)
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(conversation("hello"))
        client.send_message("finish")
        error, closed, _ = client.receive_close()
        assert (error["code"], closed) == ("internal", 1011)
        assert error["message"] == "the server failed; its log has the details"
    assert "a secret of ours" in caplog.text


def test_one_line_for_every_session(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stream_asr.server.sessions.registry"), run_server() as server:
        with server.connect() as connection:
            client = NativeClient(connection)
            key = client.start()["session"]
            client.send(conversation(*SAID))
            client.send_message("finish")
            client.receive_until("done")
        wait_until(lambda: len(caplog.records) == 1)
    (record,) = caplog.records
    line = vars(record)
    assert (line["protocol"], line["ended_by"], line["finals"], line["words"]) == ("native", "done", 3, 7)
    assert line["audio_s"] == pytest.approx(5.84)
    assert line["dropped_samples"] == 0
    assert line["session"] == key[:8], "all of it would let others resume the session"


def test_health_and_metrics() -> None:
    with run_server() as server:
        assert_well(server)
        assert server.get("/healthz").json() == {"status": "ok"}
        assert server.get("/readyz").json() == {"status": "ready", "model": "fake"}
        shown = server.get("/metrics")
        assert shown.headers["content-type"].startswith("text/plain")
        lines = shown.text.splitlines()
        assert "stream_asr_sessions 0.0" in lines
        assert "stream_asr_queue_windows 0.0" in lines
        assert any(line.startswith("stream_asr_final_latency_seconds_count 1") for line in lines)
        assert server.metric("stream_asr_audio_seconds_total") == pytest.approx(len(conversation("all is well")) / 16e3)
        assert server.metric("stream_asr_batch_windows_count") >= 1
        assert server.metric("stream_asr_lag_seconds_count") >= 1
        server.service.sessions.draining = True
        assert server.get("/readyz").status_code == 503
        assert server.get("/healthz").status_code == 200
        server.service.recognizer.close()
        assert server.get("/healthz").status_code == 503
        assert server.get("/readyz").status_code == 503
        assert server.get("/nothing/../../etc/passwd").status_code == 404


@pytest.fixture(scope="module")
def calm() -> Iterator[RunningServer]:
    with run_server(max_message_bytes=5000, max_sessions=64, max_speed=1e6) as server:
        yield server
        assert_well(server)


well_formed = st.sampled_from([START, '{"type":"flush"}', '{"type":"ping","id":7}', '{"type":"finish"}'])


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.lists(well_formed | st.text(max_size=40) | st.binary(max_size=6000), max_size=12))
def test_whatever_comes_the_connection_ends_in_good_order(
    calm: RunningServer, starts: bool, messages: list[str | bytes]
) -> None:
    with calm.connect() as connection:
        client = NativeClient(connection)
        with suppress(ConnectionClosed):
            for message in [START] * starts + messages:
                connection.send(message)
            connection.send("no JSON, so that it ends")
        last, closed, _ = client.receive_close()
        assert last["type"] == ("done" if closed == 1000 else "error")
        assert closed in (1000, 1007, 1008, 1009)
    wait_until(lambda: calm.service.sessions.open_count == 0)
