"""Streams that are fed in real time, and the captions that arrive.

One thread feeds a stream in 20 ms blocks, each at the time at which a microphone would deliver it. Another thread
reads events, so that each event is timestamped on its arrival.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import soxr

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.audio.sources import pace_realtime
from stream_asr.config import SAMPLE_RATE
from stream_asr.events import Event, Final
from stream_asr.latency import Arrival
from stream_asr.streaming.accounting import Counts

SPREAD_S = 5.0
"""Period over which streams start, so that their pauses do not coincide."""

_GOLDEN_RATIO = 0.618034
"""Multiples of it, modulo 1, are spread evenly for any number of streams."""


class Captioner(Protocol):
    """A consumer of audio that returns captions: a stream, or a connection to a server (`protocols.py`)."""

    def feed(self, block: Any, /) -> Any: ...

    def finish(self) -> None: ...

    def __iter__(self) -> Iterator[Event]: ...


@dataclass(slots=True)
class StreamRun:
    """Observations of one stream.

    Attributes:
        arrivals: events with their times of arrival, in seconds since the first sample.
        lags: pairs of seconds since the first sample and the lag at that time in milliseconds; empty for servers.
        counts: sample counts of the stream; None for servers.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    lags: list[tuple[float, int]] = field(default_factory=list)
    counts: Counts | None = None

    @property
    def finals(self) -> list[str]:
        """Texts of the finals."""
        return [arrival.event.text for arrival in self.arrivals if isinstance(arrival.event, Final)]


def feed_in_real_time(
    captioner: Captioner, samples: FloatArray, sample_rate: int, run: StreamRun, lag_ms: Callable[[], int] | None = None
) -> None:
    """Feed samples of shape (samples,) in real time, and read events until the captioner has sent all of them.

    Args:
        run: receives the observations.
        lag_ms: returns the current lag; called after each block.
    """
    start = time.monotonic()

    def read_events() -> None:
        for event in captioner:
            run.arrivals.append(Arrival(time.monotonic() - start, event))

    with ThreadPoolExecutor(1) as executor:
        reader = executor.submit(read_events)
        for block in pace_realtime([samples], sample_rate):
            captioner.feed(block)
            if lag_ms is not None:
                run.lags.append((time.monotonic() - start, lag_ms()))
            if reader.done():
                break  # the connection has failed; result() raises the error
        else:
            captioner.finish()
        reader.result()


def _run_concurrently(count: int, spread_s: float, run_one: Callable[[StreamRun], None]) -> list[StreamRun]:
    runs = [StreamRun() for _ in range(count)]

    def start(index: int) -> None:
        time.sleep(spread_s * (index * _GOLDEN_RATIO % 1))
        run_one(runs[index])

    with ThreadPoolExecutor(count) as executor:
        for future in [executor.submit(start, index) for index in range(count)]:
            future.result()
    return runs


def run_streams(recognizer: Recognizer, samples: FloatArray, count: int, spread_s: float = SPREAD_S) -> list[StreamRun]:
    """Feed the same samples to ``count`` streams whose starts are spread over ``spread_s`` seconds."""

    def run_one(run: StreamRun) -> None:
        with recognizer.stream() as stream:
            feed_in_real_time(stream, samples, SAMPLE_RATE, run, lambda: stream.lag_ms)
            run.counts = stream.counts

    return _run_concurrently(count, spread_s, run_one)


class Connection(Captioner, AbstractContextManager["Connection"], Protocol):
    """A captioner that has to be closed.

    Attributes:
        sample_rate: sample rate of the audio that it accepts, in Hz.
    """

    sample_rate: int


def run_connections(
    connect: Callable[[], Connection], samples: FloatArray, count: int, spread_s: float = SPREAD_S
) -> list[StreamRun]:
    """Do the same as `run_streams` with connections to a server; ``connect`` opens one for each stream."""

    def run_one(run: StreamRun) -> None:
        with connect() as connection:
            rate = connection.sample_rate
            resampled = samples if rate == SAMPLE_RATE else soxr.resample(samples, SAMPLE_RATE, rate)
            feed_in_real_time(connection, np.asarray(resampled, dtype=np.float32), rate, run)

    return _run_concurrently(count, spread_s, run_one)


class PeriodicSampler:
    """Samples a value in a background thread while its ``with`` block runs.

    Args:
        read_value: returns the value.
        interval_s: time between two samples.

    Attributes:
        samples: pairs of seconds since the start and the value.
    """

    def __init__(self, read_value: Callable[[], float], interval_s: float) -> None:
        self.samples: list[tuple[float, float]] = []
        self._read_value, self._interval_s = read_value, interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        start = time.monotonic()
        while not self._stopped.wait(self._interval_s):
            self.samples.append((time.monotonic() - start, self._read_value()))

    def __enter__(self) -> PeriodicSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


def fit_slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through points (x, y); 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    x, y = np.asarray(points, dtype=np.float64).T
    return float(np.polyfit(x, y, 1)[0])
