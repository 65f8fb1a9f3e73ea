"""Clients of caption servers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

import protocols
import pytest
from protocols import PROTOCOLS, ServerError
from realtime import StreamRun, feed_in_real_time, run_connections
from websockets.sync.server import ServerConnection, serve

from stream_asr import InputError, RecognizerConfig
from stream_asr.config import WindowConfig
from stream_asr.events import Final, Partial, Word
from stream_asr.latency import measure
from tests.support.fakes import conversation, silence
from tests.support.serving import RunningServer, run_server

SENTENCES = ["stable front", "ab"]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Server with short windows, so that text becomes stable in short audio."""
    windows = WindowConfig(left_context_ms=400, commit_ms=400, right_context_ms=200)
    with run_server(config=RecognizerConfig(windows=windows)) as running:
        yield running


@pytest.fixture(scope="module")
def runs(server: RunningServer) -> dict[str, StreamRun]:
    """One run with each protocol, all at the same time."""
    audio = conversation(*SENTENCES, pause_s=0.6)[8000:]  # less silence at the start: the runs are in real time

    def run_protocol(name: str) -> StreamRun:
        (run,) = run_connections(lambda: PROTOCOLS[name](f"ws://{server.address}", None), audio, 1, spread_s=0)
        return run

    with ThreadPoolExecutor(len(PROTOCOLS)) as executor:
        return dict(zip(PROTOCOLS, executor.map(run_protocol, PROTOCOLS), strict=True))


@pytest.mark.parametrize(
    ("protocol", "has_words", "has_ends", "has_stable"),
    [
        ("native", True, True, True),
        ("vosk", True, False, False),
        ("deepgram", True, True, True),
        ("openai", False, True, True),
    ],
)
def test_every_protocol_returns_the_same_captions(
    runs: dict[str, StreamRun], protocol: str, has_words: bool, has_ends: bool, has_stable: bool
) -> None:
    run = runs[protocol]
    assert run.finals == SENTENCES
    finals = [arrival.event for arrival in run.arrivals if isinstance(arrival.event, Final)]
    assert [final.utterance for final in finals] == [0, 1]
    for final in finals:
        assert bool(final.words) == has_words
        assert (not math.isnan(final.end)) == has_ends
    partials = [arrival.event for arrival in run.arrivals if isinstance(arrival.event, Partial)]
    assert partials
    assert any(partial.stable for partial in partials) == has_stable
    reference = [Word(word, 0.0, 0.0, 1.0) for word in " ".join(SENTENCES).split()]
    assert len(measure(run.arrivals, reference).word_first_ms) == len(reference)


def test_path_and_query_of_the_address_override_the_defaults(server: RunningServer) -> None:
    query = "sample_rate=16000&encoding=linear16&interim_results=false"
    (run,) = run_connections(
        lambda: PROTOCOLS["deepgram"](f"ws://{server.address}/v1/listen?{query}", None),
        conversation("ab", pause_s=0.6),
        1,
        spread_s=0,
    )
    assert run.finals == ["ab"]
    assert not any(isinstance(arrival.event, Partial) for arrival in run.arrivals)


def test_error_message_of_the_server_is_raised(server: RunningServer) -> None:
    with PROTOCOLS["native"](f"ws://{server.address}", None) as client:
        client.send_json(type="nonsense")
        with pytest.raises(ServerError, match="nonsense"):
            list(client)


def test_failed_connection_stops_the_feeding(server: RunningServer) -> None:
    with PROTOCOLS["native"](f"ws://{server.address}", None) as client:
        client.send_json(type="nonsense")
        with pytest.raises(ServerError):
            feed_in_real_time(client, silence(60), 16_000, StreamRun())


def test_failed_connect_is_an_input_error(server: RunningServer) -> None:
    with (
        pytest.raises(InputError, match=r"cannot connect to ws://.*/nowhere"),
        PROTOCOLS["vosk"](f"ws://{server.address}/nowhere", None),
    ):
        pass


def test_silent_server_times_out_only_after_the_end_of_the_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "_IDLE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(protocols, "_POLL_INTERVAL_S", 0.02)

    def read_silently(connection: ServerConnection) -> None:
        for _ in connection:
            pass

    with ThreadPoolExecutor(2) as executor, serve(read_silently, "127.0.0.1", 0) as silent_server:
        executor.submit(silent_server.serve_forever)
        address = f"ws://127.0.0.1:{silent_server.socket.getsockname()[1]}"
        with PROTOCOLS["vosk"](address, None) as client:
            reader = executor.submit(list, client)
            with pytest.raises(FutureTimeout):
                reader.result(0.4)
            client.finish()
            with pytest.raises(ServerError, match="sent nothing"):
                reader.result(30)
