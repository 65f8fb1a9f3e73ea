"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from stream_asr.streaming.engine import EngineStats

_LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one server, in a registry of their own; names begin with ``stream_asr_``.

    Args:
        engine: asked for a snapshot at every scrape.
    """

    def __init__(self, engine: Callable[[], EngineStats]) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_EngineCollector(engine))
        self.opened = Counter("stream_asr_sessions_opened", "Sessions begun", ["protocol"], registry=registry)
        self.closed = Counter(
            "stream_asr_sessions_closed", "Sessions ended, and why", ["protocol", "ended_by"], registry=registry
        )
        self.resumed = Counter("stream_asr_sessions_resumed", "Connections that resumed a session", registry=registry)
        self.refused = Counter("stream_asr_sessions_refused", "Turned away for want of room", registry=registry)
        self.unauthorized = Counter(
            "stream_asr_unauthorized", "Turned away for their token or origin", ["reason"], registry=registry
        )
        self.errors = Counter("stream_asr_errors", "Errors told to clients", ["code"], registry=registry)
        self.audio_s = Counter("stream_asr_audio_seconds", "Seconds of audio taken in", registry=registry)
        self.previews_skipped = Counter(
            "stream_asr_previews_dropped", "Previews that gave way to more urgent work", registry=registry
        )
        self.partials_coalesced = Counter(
            "stream_asr_partials_coalesced",
            "Partials replaced by newer ones before a slow reader took them",
            registry=registry,
        )
        self.overloads = Counter("stream_asr_overloads", "Overload events", registry=registry)
        self.lag_s = Histogram(
            "stream_asr_lag_seconds",
            "Newest audio minus newest audio in the captions, at each caption",
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.final_latency_s = Histogram(
            "stream_asr_final_latency_seconds",
            "Arrival of the audio that ended an utterance to its final",
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a gauge that asks ``value`` at every scrape."""
        Gauge(name, about, registry=self._registry).set_function(value)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    def __init__(self, engine: Callable[[], EngineStats]) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily | HistogramMetricFamily]:
        stats = self._engine()
        yield GaugeMetricFamily("stream_asr_queue_windows", "Windows that wait for the model", stats.waiting_windows)
        yield GaugeMetricFamily("stream_asr_streams", "Streams in the engine", stats.streams)
        buckets, passes = [], 0
        for size, count in enumerate(stats.batches):
            passes += count
            buckets.append((str(float(size)), passes))
        yield HistogramMetricFamily(
            "stream_asr_batch_windows",
            "Windows of a model pass",
            buckets=[*buckets[1:], ("+Inf", passes)],
            sum_value=sum(size * count for size, count in enumerate(stats.batches)),
        )
