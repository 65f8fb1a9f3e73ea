"""Streams in real time, and what is computed from them: latency, capacity and endurance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from corpus import Playlist
from latency import latency_table
from realtime import fit_slope, run_streams
from soak import after_warm_up, find_failures, run_soak, summarize
from throughput import find_capacity, run_trial

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import Final, Word
from stream_asr.latency import Arrival, measure
from tests.support.fakes import conversation

SENTENCES = ["a bc", "ab"]


@pytest.fixture
def audio() -> FloatArray:
    """Audio of the sentences, as short as possible: streams in real time take as long as their audio."""
    return conversation(*SENTENCES, pause_s=0.6)


@pytest.mark.parametrize("points", [[(0, 1), (2, 5)], [(0, 1), (1, 3), (2, 5), (3, 7)]])
def test_slope_of_points_on_a_line(points: list[tuple[float, float]]) -> None:
    assert fit_slope(points) == pytest.approx(2)
    assert fit_slope(points[:1]) == 0


def test_concurrent_streams_return_all_finals_and_lags(fake_recognizer: Recognizer, audio: FloatArray) -> None:
    first, second = run_streams(fake_recognizer, audio, 2, spread_s=0.1)
    assert first.finals == second.finals == SENTENCES
    assert first.counts is not None
    assert first.counts.dropped == 0
    assert len(first.lags) == pytest.approx(len(audio) / 320)
    assert all(arrival.at_s > 0 for arrival in first.arrivals)


def test_latency_table_has_percentiles() -> None:
    word = Word("ask", 0.5, 1.0, 1.0)
    report = measure([Arrival(1.25, Final(0, 0.0, math.nan, "ask", 1.0, (word,)))])
    table = latency_table("a title", report)
    assert ("word to stable", "250", "250", "250", "250") in table.rows
    assert ("final after endpoint decision", "-", "-", "-", "-") in table.rows


@pytest.mark.parametrize("most", [1, 5, 16, 100])
@pytest.mark.parametrize("limit", [0, 1, 3, 4, 5, 16, 77, 1000])
def test_capacity_is_found_with_few_trials(limit: int, most: int) -> None:
    tried: list[int] = []

    def is_sustained(streams: int) -> bool:
        tried.append(streams)
        return streams <= limit

    assert find_capacity(is_sustained, most) == min(limit, most)
    assert len(set(tried)) == len(tried) <= 2 * most.bit_length() + 1
    assert max(tried) <= most


def test_streams_are_sustained_if_complete_and_timely(fake_recognizer: Recognizer, audio: FloatArray) -> None:
    trial = run_trial(fake_recognizer, Playlist(audio, ()), SENTENCES, 2, spread_s=0.1)
    assert (trial.lost, trial.samples_dropped) == (0, 0)
    assert sum(trial.batches) > 0
    assert 1 <= trial.mean_batch <= 2
    assert trial.word_p95_ms is not None
    assert trial.is_sustained(trial.word_p95_ms)
    assert not trial.is_sustained(trial.word_p95_ms - 1)
    assert not replace(trial, lost=1).is_sustained(1e9)
    assert not replace(trial, samples_dropped=1).is_sustained(1e9)


def test_soak_processes_and_accounts_for_all_audio(fake_recognizer: Recognizer, audio: FloatArray) -> None:
    hours = 60 / 3600
    run = run_soak(fake_recognizer, audio, hours)
    assert run.counts is not None
    assert run.counts.captured == 60 * 16_000
    figures = summarize(run, hours)
    assert (figures["samples_dropped"], figures["samples_unaccounted"]) == (0, 0)
    assert find_failures(figures, 30_000) == []
    assert figures["finals"] == pytest.approx(2 * 60 * 16_000 / len(audio), abs=2)
    assert len(after_warm_up(run.memory_mib)) == pytest.approx(0.75 * len(run.memory_mib), abs=1)


def test_soak_reports_dropped_and_unaccounted_samples_and_excessive_lag() -> None:
    figures = {"samples_dropped": 0, "samples_unaccounted": 0, "lag_max_ms": 30_000}
    assert find_failures(figures, 30_000) == []
    assert find_failures({**figures, "samples_dropped": 3}, 30_000) == ["dropped samples: 3"]
    assert find_failures({**figures, "samples_unaccounted": -1}, 30_000) == ["unaccounted samples: -1"]
    late = find_failures({**figures, "lag_max_ms": 30_001}, 30_000)
    assert late == ["maximum lag: 30001 ms, above the buffer of 30000 ms"]
