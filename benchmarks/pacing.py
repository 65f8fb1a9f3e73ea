"""Streams that are fed as if they were spoken now, and what comes back of each.

One thread feeds a stream in 20 ms blocks, each when a microphone would deliver it; another one reads, so that events
are stamped when they arrive.
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
from stream_asr.audio.sources import paced
from stream_asr.config import SAMPLE_RATE
from stream_asr.events import Event, Final
from stream_asr.latency import Arrival
from stream_asr.streaming.accounting import Counts

SPREAD_S = 5.0
"""Over which streams begin, so that their pauses do not fall together."""

_GOLDEN = 0.618034
"""Multiples of it, modulo 1, spread evenly however many there are."""


class Captioner(Protocol):
    """What takes audio and gives captions: a stream of ours, or a connection to a server (`protocols.py`)."""

    def feed(self, block: Any, /) -> Any: ...

    def finish(self) -> None: ...

    def __iter__(self) -> Iterator[Event]: ...


@dataclass(slots=True)
class Run:
    """What one paced stream saw.

    Attributes:
        arrivals: the clock starts with the first sample.
        lags: seconds since the start, and how far the captions were behind then, in milliseconds.
        counts: where the samples went. Servers tell neither this nor their lag.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    lags: list[tuple[float, int]] = field(default_factory=list)
    counts: Counts | None = None

    @property
    def finals(self) -> list[str]:
        return [arrival.event.text for arrival in self.arrivals if isinstance(arrival.event, Final)]


def follow(
    captioner: Captioner, samples: FloatArray, sample_rate: int, run: Run, lag_ms: Callable[[], int] | None = None
) -> None:
    """Feed ``samples`` of shape (samples,) in real time, and read until the captions end."""
    start = time.monotonic()

    def read() -> None:
        for event in captioner:
            run.arrivals.append(Arrival(time.monotonic() - start, event))

    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read)
        for block in paced([samples], sample_rate):
            captioner.feed(block)
            if lag_ms is not None:
                run.lags.append((time.monotonic() - start, lag_ms()))
            if reading.done():
                break  # it failed: there is nobody left to speak to
        else:
            captioner.finish()
        reading.result()


def _side_by_side(count: int, spread_s: float, one: Callable[[Run], None]) -> list[Run]:
    runs = [Run() for _ in range(count)]

    def begin(place: int) -> None:
        time.sleep(spread_s * (place * _GOLDEN % 1))
        one(runs[place])

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(begin, place) for place in range(count)]:
            done.result()
    return runs


def run_streams(recognizer: Recognizer, samples: FloatArray, count: int, spread_s: float = SPREAD_S) -> list[Run]:
    """``count`` streams of ``recognizer`` that hear the same at slightly different times."""

    def one(run: Run) -> None:
        with recognizer.stream() as stream:
            follow(stream, samples, SAMPLE_RATE, run, lambda: stream.lag_ms)
            run.counts = stream.counts

    return _side_by_side(count, spread_s, one)


class Connection(Captioner, AbstractContextManager["Connection"], Protocol):
    """A `Captioner` that has to be closed.

    Attributes:
        sample_rate: of the audio that it takes, in Hz.
    """

    sample_rate: int


def run_connections(
    connect: Callable[[], Connection], samples: FloatArray, count: int, spread_s: float = SPREAD_S
) -> list[Run]:
    """The same over the network: ``connect`` opens a connection for each stream."""

    def one(run: Run) -> None:
        with connect() as connection:
            rate = connection.sample_rate
            heard = samples if rate == SAMPLE_RATE else soxr.resample(samples, SAMPLE_RATE, rate)
            follow(connection, np.asarray(heard, dtype=np.float32), rate, run)

    return _side_by_side(count, spread_s, one)


class Sampler:
    """Notes something every ``interval_s`` in a thread of its own, inside its ``with`` block.

    Attributes:
        samples: seconds since the start, and what was noted.
    """

    def __init__(self, look: Callable[[], float], interval_s: float) -> None:
        self.samples: list[tuple[float, float]] = []
        self._look, self._interval_s = look, interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        start = time.monotonic()
        while not self._over.wait(self._interval_s):
            self.samples.append((time.monotonic() - start, self._look()))

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of a straight line through the points (least squares), in units of the second number for one of the first."""
    if len(points) < 2:
        return 0.0
    x, y = np.asarray(points, dtype=np.float64).T
    return float(np.polyfit(x, y, 1)[0])
