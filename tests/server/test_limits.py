"""Limits of the server, over the native protocol: sessions, timeouts, backpressure and shutdown."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stream_asr.server import run
from tests.support.fakes import conversation, silence, sound
from tests.support.serving import (
    TIMEOUT_S,
    NativeClient,
    assert_serves_new_client,
    pcm,
    run_blocked_server,
    run_server,
    wait_until,
)

SENTENCES = ["hello world", "how are you", "fine thanks"]
START = '{"type":"start","sample_rate":16000,"encoding":"pcm_f32le"}'

# --- number of sessions ---------------------------------------------------------------------------------------


def test_connection_is_refused_when_all_sessions_are_taken() -> None:
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
        assert_serves_new_client(server)


def test_connection_that_could_resume_a_session_is_refused_after_the_handshake() -> None:
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


def test_silent_and_vanished_clients_release_their_session() -> None:
    with run_server(resume_window_s=0.05) as server:
        message_lists: list[list[str | bytes]] = [
            [],
            [START],
            [START, b"\0" * 1000],
            [START, pcm(conversation("hello")), '{"type":"finish"}'],
        ]
        for messages in message_lists:
            with server.connect() as connection:
                for message in messages:
                    connection.send(message)
                connection.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: server.service.sessions.open_count == 0)
        assert_serves_new_client(server)


# --- timeouts -------------------------------------------------------------------------------------------------


def test_client_without_a_first_message_is_closed_after_start_timeout() -> None:
    with run_server(start_timeout_s=0.05) as server, server.connect() as connection:
        error, closed, _ = NativeClient(connection).receive_close()
        assert (error["code"], closed) == ("idle_timeout", 1008)


def test_silent_client_gets_its_finals_and_is_closed_after_idle_timeout() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(np.concatenate([silence(0.5), sound("hello world"), silence(0.2)]))
        error, closed, _ = client.receive_close()
        assert client.finals == ["hello world"]
        assert (error["code"], closed) == ("idle_timeout", 1008)


def test_session_is_closed_after_maximum_duration() -> None:
    with run_server(max_duration_s=5.0) as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(conversation(*SENTENCES * 3))
        error, closed, _ = client.receive_close()
        assert (error["code"], closed) == ("too_long", 1008)
        assert client.finals[:2] == SENTENCES[:2]


# --- backpressure ---------------------------------------------------------------------------------------------


def test_fast_client_has_to_wait_and_loses_no_audio() -> None:
    """The model is blocked, so the server accepts one buffer, and the kernel what fits into the socket buffers."""
    sentences = SENTENCES * 40
    audio = conversation(*sentences)
    with run_blocked_server(max_speed=1e6) as (server, unblock), server.connect() as connection:
        client = NativeClient(connection)
        client.start()

        def send() -> None:
            client.send(audio)
            client.send_message("finish")

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        try:
            wait_until(lambda: server.metric("stream_asr_audio_seconds_total") > 14)
            time.sleep(0.2)  # more audio would be accepted in this time
            assert server.metric("stream_asr_audio_seconds_total") < 31, "one buffer, of 240 s"
        finally:
            unblock.set()
        assert client.receive_until("done")["received"] == len(audio)
        sender.join()
        assert client.finals == sentences
        assert not any(message["type"] == "audio_dropped" for message in client.messages)


def test_slow_reader_is_closed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SEND_BUFFER_BYTES", 4096)
    sentence = " ".join(f"{letter}b" for letter in "abcdefghijklmnopqrstuvwy")
    with run_server(max_unsent_events=16, close_timeout_s=TIMEOUT_S, max_speed=1e6) as server:
        narrow_socket = socket.socket()
        narrow_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Segments of the default size on the loopback interface do not fit into that buffer. The kernel would probe
        # for space at growing intervals, and the rest would arrive after minutes.
        narrow_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        narrow_socket.connect(("127.0.0.1", server.port))
        # With one message in its queue, the client stops reading from the socket.
        with server.connect(sock=narrow_socket, max_queue=1) as connection:
            client = NativeClient(connection)
            client.start()

            def send() -> None:
                """Send until the close: this blocks unless the server keeps receiving."""
                audio = conversation(sentence)
                with suppress(ConnectionClosed):
                    while True:
                        client.send(audio)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            wait_until(lambda: server.metric('stream_asr_errors_total{code="slow_reader"}') == 1)
            time.sleep(0.5)
            error, closed, _ = client.receive_close()
            sender.join()
            assert (error["code"], closed) == ("slow_reader", 1008)
            assert "16" in error["message"]
            finals = [message for message in client.messages if message["type"] == "final"]
            assert [message["utterance"] for message in finals] == list(range(len(finals))), "no final is missing"
            assert finals
        assert_serves_new_client(server)


def test_pending_pings_are_limited() -> None:
    with run_blocked_server(max_speed=1e6) as (server, _), server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(conversation("hello"))
        for number in range(65):
            client.send_message("ping", id=number)
        error, _, _ = client.receive_close()
        assert error["code"] == "too_many_waiting"


# --- shutdown -------------------------------------------------------------------------------------------------


def test_shutdown_sends_last_finals_to_all_clients() -> None:
    with run_server() as server, server.connect() as connection, server.connect() as pending_connection:
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
            pending_connection.recv(TIMEOUT_S)


def test_shutdown_closes_unfinished_sessions_after_the_grace_period() -> None:
    with run_blocked_server(grace_s=0.1) as (server, _), server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(conversation("hello"))
        client.receive_until("ack")
        server.stop()
        error, closed, _ = client.receive_close()
        assert (error["code"], closed) == ("shutting_down", 1001)
        server.join()
