"""Failures, logs, metrics and health checks of a running server."""

from __future__ import annotations

import logging

import pytest

from stream_asr import Recognizer
from stream_asr.server.sessions.session import Session
from tests.support.fakes import FakeModel, conversation, loud
from tests.support.serving import PROBE_TEXT, NativeClient, assert_serves_new_client, run_server, wait_until


def test_model_failure_is_reported_to_the_client() -> None:
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


def test_unexpected_exception_is_logged_but_not_shown_to_the_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(session: Session, event: object) -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr(Session, "_record_metrics", fail)
    with run_server() as server, server.connect() as connection:
        client = NativeClient(connection)
        client.start()
        client.send(conversation("hello"))
        client.send_message("finish")
        error, closed, _ = client.receive_close()
        assert (error["code"], closed) == ("internal", 1011)
        assert "internal detail" not in error["message"]
    assert "internal detail" in caplog.text


def test_each_session_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stream_asr.server.sessions.registry"), run_server() as server:
        with server.connect() as connection:
            client = NativeClient(connection)
            key = client.start()["session"]
            client.send(conversation("hello world", "how are you", "fine thanks"))
            client.send_message("finish")
            client.receive_until("done")
        wait_until(lambda: len(caplog.records) == 1)
    fields = vars(caplog.records[0])
    assert (fields["protocol"], fields["ended_by"], fields["finals"], fields["words"]) == ("native", "done", 3, 7)
    assert fields["audio_s"] == pytest.approx(5.84)
    assert fields["dropped_samples"] == 0
    assert fields["session"] == key[:8], "the whole key would let readers of the log resume the session"


def test_health_checks_and_metrics() -> None:
    with run_server() as server:
        assert_serves_new_client(server)
        assert server.get("/healthz").json() == {"status": "ok"}
        assert server.get("/readyz").json() == {"status": "ready", "model": "fake", "second_pass": None}
        response = server.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        lines = response.text.splitlines()
        assert "stream_asr_sessions 0.0" in lines
        assert "stream_asr_queue_windows 0.0" in lines
        assert any(line.startswith("stream_asr_final_latency_seconds_count 1") for line in lines)
        audio_s = len(conversation(PROBE_TEXT)) / 16_000
        assert server.metric("stream_asr_audio_seconds_total") == pytest.approx(audio_s)
        assert server.metric("stream_asr_batch_windows_count") >= 1
        assert server.metric("stream_asr_lag_seconds_count") >= 1
        server.service.sessions.draining = True
        assert server.get("/readyz").status_code == 503
        assert server.get("/healthz").status_code == 200
        server.service.recognizer.close()
        assert server.get("/healthz").status_code == 503
        assert server.get("/readyz").status_code == 503
        assert server.get("/nothing/../../etc/passwd").status_code == 404
