"""Metrics of a server, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from stream_asr.server.settings import LATENCY_BUCKETS_S
from stream_asr.streaming.engine import EngineStats


class Metrics:
    """Metrics of one server, in a separate registry. All names begin with ``stream_asr_``.

    Args:
        engine_stats: returns a snapshot of the engine; called at every scrape.
    """

    def __init__(self, engine_stats: Callable[[], EngineStats]) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_EngineCollector(engine_stats))
        self.opened = Counter("stream_asr_sessions_opened", "Sessions opened", ["protocol"], registry=registry)
        self.closed = Counter(
            "stream_asr_sessions_closed",
            "Sessions closed, by protocol and reason",
            ["protocol", "ended_by"],
            registry=registry,
        )
        self.resumed = Counter("stream_asr_sessions_resumed", "Connections that resumed a session", registry=registry)
        self.refused = Counter(
            "stream_asr_sessions_refused", "Connections refused because all sessions were taken", registry=registry
        )
        self.unauthorized = Counter(
            "stream_asr_unauthorized",
            "Requests refused because of their token or origin",
            ["reason"],
            registry=registry,
        )
        self.errors = Counter("stream_asr_errors", "Errors reported to clients", ["code"], registry=registry)
        self.audio_s = Counter("stream_asr_audio_seconds", "Seconds of audio received", registry=registry)
        self.previews_skipped = Counter(
            "stream_asr_previews_dropped", "Preview windows dropped in favor of more urgent windows", registry=registry
        )
        self.partials_coalesced = Counter(
            "stream_asr_partials_coalesced",
            "Partials replaced by newer captions before they were sent",
            registry=registry,
        )
        self.overloads = Counter("stream_asr_overloads", "Overload events", registry=registry)
        self.lag_s = Histogram(
            "stream_asr_lag_seconds",
            "Newest audio received minus newest audio reflected in the captions, at each caption",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.final_latency_s = Histogram(
            "stream_asr_final_latency_seconds",
            "From the arrival of the audio that ended an utterance to its final",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )

    def add_gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a gauge that calls ``read`` at every scrape."""
        Gauge(name, description, registry=self._registry).set_function(read)

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    def __init__(self, engine_stats: Callable[[], EngineStats]) -> None:
        self._engine_stats = engine_stats

    def collect(self) -> Iterator[GaugeMetricFamily | HistogramMetricFamily]:
        stats = self._engine_stats()
        yield GaugeMetricFamily(
            "stream_asr_queue_windows", "Windows and decoding passes waiting for the models", stats.waiting_windows
        )
        yield GaugeMetricFamily("stream_asr_streams", "Streams in the engine", stats.streams)
        buckets, passes = [], 0
        for size, count in enumerate(stats.batches):
            passes += count
            buckets.append((str(float(size)), passes))
        yield HistogramMetricFamily(
            "stream_asr_batch_windows",
            "Windows per pass of the model",
            buckets=[*buckets[1:], ("+Inf", passes)],
            sum_value=sum(size * count for size, count in enumerate(stats.batches)),
        )
