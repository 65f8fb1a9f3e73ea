"""Resuming a session of the native protocol after a lost connection."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.server.errors import SessionError
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.registry import SessionRegistry
from stream_asr.server.sessions.request import AudioFormat, SessionRequest
from stream_asr.server.settings import ServerSettings
from tests.support.fakes import conversation
from tests.support.serving import NativeClient, RunningServer, run_server, wait_until

SENTENCES = ["hello world", "how are you", "fine thanks", "and you too"]
AUDIO = conversation(*SENTENCES)


def lose_connection(client: NativeClient) -> None:
    """Break the connection as a failing network does. Messages in flight may be lost or received."""
    client.connection.socket.shutdown(socket.SHUT_RDWR)
    with suppress(ConnectionClosed):
        while True:
            client.receive()


def resume(
    server: RunningServer, key: str, messages: list[dict[str, Any]], *, send_event_count: bool = True
) -> tuple[NativeClient, int]:
    """Resume a session on a new connection.

    Args:
        server: server of the session.
        key: key of the session.
        messages: messages that the client has received so far.
        send_event_count: send the number of events among them.

    Returns:
        The client, and the number of samples that the server has received.
    """
    client = NativeClient(server.open())
    client.messages = messages
    client.send_message("resume", session=key, **({"events": len(client.events)} if send_event_count else {}))
    return client, client.receive_until("ready")["received"]


def expected_finals(recognizer: Recognizer, audio: FloatArray) -> list[dict[str, Any]]:
    return [final.to_json() for final in recognizer.iter_finals(audio)]


def test_session_outlives_its_connections(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        position = 0
        for end in (16_001, 30_000, 52_345, 90_000):
            client.send(AUDIO[position:end], 1600)
            lose_connection(client)
            client, position = resume(server, key, client.messages)
            assert position <= end
            assert client.messages[-1]["events"] == len(client.events), "server and client agree on the next event"
        client.send(AUDIO[position:])
        client.send_message("finish")
        assert client.receive_until("done")["received"] == len(AUDIO)
        assert [event for event in client.events if event["type"] == "final"] == expected_finals(fake_recognizer, AUDIO)
        started = [event["utterance"] for event in client.events if event["type"] == "speech_started"]
        assert started == list(range(len(SENTENCES))), "each sent once"
        assert server.metric("stream_asr_sessions_resumed_total") == 4


def test_missing_events_are_sent_after_resuming(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.send(AUDIO)
        client.send_message("ping", id=1)
        client.receive_until("pong")
        events_before = client.events
        lose_connection(client)
        # The client claims to have received no events, so all events are sent again.
        client, position = resume(server, key, [])
        assert position == len(AUDIO)
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == SENTENCES
        assert {"type": "pong", "id": 1} in client.events
        assert len(client.events) <= len(events_before) + 1, "outdated partials are not sent again"


def test_finished_session_can_be_resumed_when_done_was_lost(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer, max_sessions=1) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.send(AUDIO)
        client.send_message("finish")
        done = client.receive_until("done")
        client.connection.close()
        successor, position = resume(server, key, [])
        assert position == len(AUDIO)
        successor.send_message("finish")
        assert successor.receive_until("done") == done
        assert successor.finals == SENTENCES


def test_client_without_event_count_gets_the_events_not_sent_yet(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.send(AUDIO[:60_000])
        client.send_message("ping", id=1)
        client.receive_until("pong")
        lose_connection(client)
        client, position = resume(server, key, client.messages, send_event_count=False)
        client.send(AUDIO[position:])
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == SENTENCES


def test_new_connection_takes_over_from_a_half_open_one(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.send(AUDIO[:40_000])
        client.send_message("ping", id=1)
        client.receive_until("pong")
        successor, position = resume(server, key, list(client.messages))
        error, closed, _ = client.receive_close()
        assert (error["code"], closed) == ("taken_over", 1008)
        successor.send(AUDIO[position:])
        successor.send_message("finish")
        successor.receive_until("done")
        assert successor.finals == SENTENCES


def test_session_that_ends_during_takeover_is_unknown(fake_recognizer: Recognizer) -> None:
    async def resume_ending_session() -> SessionError:
        sessions = SessionRegistry(fake_recognizer, ServerSettings(), Metrics(lambda: fake_recognizer.stats))
        session = await sessions.open(SessionRequest("native", AudioFormat(16_000)))
        resuming = asyncio.create_task(sessions.resume(session.key, None))
        with suppress(SessionError), sessions.manage(session, resumable=True):
            await asyncio.sleep(0)
            raise SessionError("bad_message", "raised before the takeover")
        with pytest.raises(SessionError) as caught:
            await resuming
        return caught.value

    assert asyncio.run(resume_ending_session()).code == "unknown_session"


def test_session_is_closed_when_the_client_closes_normally(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        client.connection.close()
        wait_until(lambda: server.service.sessions.open_count == 0)
        late_client = NativeClient(server.open())
        late_client.send_message("resume", session=key)
        assert late_client.receive_close()[0]["code"] == "unknown_session"


def test_session_expires_after_resume_window(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer, resume_window_s=0.05) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        lose_connection(client)
        wait_until(lambda: server.metric('stream_asr_sessions_closed_total{ended_by="lost",protocol="native"}') == 1)
        late_client = NativeClient(server.open())
        late_client.send_message("resume", session=key)
        error, closed, _ = late_client.receive_close()
        assert (error["code"], closed) == ("unknown_session", 1008)
        assert "0.05 s" in error["message"]


def test_impossible_event_count_is_rejected(fake_recognizer: Recognizer) -> None:
    with run_server(fake_recognizer) as server:
        client = NativeClient(server.open())
        key = client.start()["session"]
        lose_connection(client)
        successor = NativeClient(server.open())
        successor.send_message("resume", session=key, events=5)
        error, closed, _ = successor.receive_close()
        assert (error["code"], closed) == ("bad_resume", 1008)
        assert "the client cannot have received 5 events; 0 were sent" in error["message"]
        assert server.service.sessions.open_count == 0
