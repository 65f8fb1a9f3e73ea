"""Latency of captions in real time, with compute included.

    python benchmarks/latency.py                                        the bundled recording
    python benchmarks/latency.py --data FOLDER --seconds 180            recordings with pauses between them
    python benchmarks/latency.py --streams 8 --json out/latency.json --plot out/latency.png
    python benchmarks/latency.py --data FOLDER --words FOLDER/words.ctm
    python benchmarks/latency.py --url ws://127.0.0.1:2700 --protocol vosk

The audio is fed in 20 ms blocks, each at the time at which a microphone would deliver it. The end of a word is taken
from the CTC alignment of the final, or from --words. The lag is sampled at each block. Lag growth is the slope of the
least-squares line through these samples; it is about 0 if the recognizer keeps up.

With --url, a server is measured from the client side, including the network; CPU time, memory and lag are not
available. Because some protocols report no word times, these come from --words, or from a pass of --model over the same
audio. Words that the server recognized differently have no latency.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import options
from corpus import Playlist, make_playlist, read_corpus
from ctm import place_words, read_ctm
from protocols import PROTOCOLS
from realtime import StreamRun, fit_slope, run_connections, run_streams
from report import Table, format_count, format_figure, peak_memory_mib, plot, print_tables, write_json

from stream_asr.latency import LatencyReport, measure, merge_reports, percentile

PERCENTILES = (50, 90, 95, 99)

_LABELS = {
    "upwr": "revised words per final word (UPWR)",
    "normalized_erasure": "erased words per final word (normalized erasure)",
    "words_with_times": "words with reference times",
    "lag_max_ms": "maximum lag (ms)",
    "lag_growth_ms_per_min": "lag growth (ms/min)",
    "samples_dropped": "dropped samples",
    "cpu_s_per_audio_s": "CPU seconds per audio second",
    "peak_memory_mib": "peak memory (MiB)",
}

_PLOT_RANGE_MS = (-500, 4000)
"""Range of the plot; a few words outside of it would compress the rest."""


def latencies_by_label(report: LatencyReport) -> dict[str, tuple[float, ...]]:
    """Return the sorted latencies in milliseconds by their labels."""
    return {
        "first partial after first word": report.first_partial_ms,
        "word to first appearance": report.word_first_ms,
        "word to stable": report.word_stable_ms,
        "final after endpoint decision": report.final_ms,
        "final after last word": report.end_of_speech_ms,
    }


def compute_percentiles(report: LatencyReport) -> dict[str, dict[str, float | None]]:
    """Return the percentiles by the labels of the latencies."""
    return {
        label: {f"p{percent}": percentile(values, percent) for percent in PERCENTILES}
        for label, values in latencies_by_label(report).items()
    }


def latency_table(title: str, report: LatencyReport) -> Table:
    """Make a table of percentiles."""
    rows = [
        (label, *("-" if value is None else f"{value:.0f}" for value in percentiles.values()))
        for label, percentiles in compute_percentiles(report).items()
    ]
    return Table(title, ("milliseconds", *(f"p{percent}" for percent in PERCENTILES)), rows)


def plot_latency(path: Path, title: str, report: LatencyReport) -> None:
    """Plot the cumulative share of words that have appeared, and that are stable, over the time since their end."""
    with plot(path, title, "time since the end of the word (ms)", "share of words (%)") as axes:
        for label, values in (("first appearance", report.word_first_ms), ("stable", report.word_stable_ms)):
            if values:
                axes.step(values, np.arange(1, len(values) + 1) / len(values) * 100, where="post", label=label)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_xlim(*_PLOT_RANGE_MS)
        axes.set_ylim(0, 100)
        axes.legend(loc="lower right")


def process_figures(runs: Sequence[StreamRun], cpu_s: float, audio_s: float) -> dict[str, float]:
    """Return the figures that are available only if the recognizer runs in this process."""
    lags = [lag for run in runs for lag in run.lags]
    return {
        "lag_max_ms": max(lag_ms for _, lag_ms in lags),
        "lag_growth_ms_per_min": 60 * fit_slope(lags),
        "samples_dropped": sum(run.counts.dropped for run in runs if run.counts is not None),
        "cpu_s_per_audio_s": cpu_s / audio_s,
        "peak_memory_mib": peak_memory_mib(),
    }


def measure_recognizer(
    arguments: argparse.Namespace, playlist: Playlist
) -> tuple[dict[str, Any], LatencyReport, dict[str, float]]:
    """Measure a recognizer in this process.

    Returns:
        Settings, latencies and other figures.
    """
    words = place_words(read_ctm(arguments.words), playlist.items) if arguments.words else None
    with options.load_recognizer(arguments) as recognizer:
        settings = options.model_settings(arguments, recognizer)
        cpu_start_s = time.process_time()
        runs = run_streams(recognizer, playlist.samples, arguments.streams)
        cpu_s = time.process_time() - cpu_start_s
    report = merge_reports([measure(run.arrivals, words) for run in runs])
    return settings, report, process_figures(runs, cpu_s, playlist.duration_s * arguments.streams)


def measure_server(
    arguments: argparse.Namespace, playlist: Playlist
) -> tuple[dict[str, Any], LatencyReport, dict[str, float]]:
    """Measure a server; returns the same as `measure_recognizer`."""
    if arguments.words:
        words, aligned_by = place_words(read_ctm(arguments.words), playlist.items), str(arguments.words)
    else:
        with options.load_recognizer(arguments) as recognizer:
            words = list(recognizer.transcribe(playlist.samples).words)
            aligned_by = recognizer.model.name
    protocol = PROTOCOLS[arguments.protocol]
    runs = run_connections(lambda: protocol(arguments.url, arguments.token), playlist.samples, arguments.streams)
    report = merge_reports([measure(run.arrivals, words) for run in runs])
    settings = {"protocol": arguments.protocol, "url": arguments.url.partition("?")[0], "aligned_by": aligned_by}
    return settings, report, {"words_with_times": len(report.word_first_ms)}


def main() -> None:
    parser = options.make_parser(__doc__)
    options.add_plot_option(parser, "the cumulative distribution of word latencies")
    options.add_data_options(parser)
    options.add_playlist_options(parser, 30)
    options.add_model_options(parser)
    parser.add_argument(
        "--streams",
        type=options.positive_integer,
        default=1,
        help="concurrent streams, started within 5 s (default: %(default)s)",
    )
    parser.add_argument("--words", type=Path, metavar="CTM", help="word times (default: alignment of the model)")
    parser.add_argument("--url", help="measure the server at ws://HOST:PORT")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="native", help="protocol of the server (default: %(default)s)"
    )
    parser.add_argument(
        "--token", default=os.environ.get("STREAM_ASR_TOKEN"), help="token for the server (default: $STREAM_ASR_TOKEN)"
    )
    arguments = parser.parse_args()

    playlist = make_playlist(read_corpus(arguments.data, arguments.limit), arguments.seconds, arguments.seed)
    run = measure_server if arguments.url else measure_recognizer
    settings, report, other = run(arguments, playlist)
    figures = {"upwr": report.upwr, "normalized_erasure": report.normalized_erasure, **other}

    subject = settings.get("model") or f"{settings['protocol']} server"
    streams = format_count(arguments.streams, "stream")
    tables = [
        latency_table(f"{subject}: {streams} of {playlist.duration_s:.0f} s, {report.words} words", report),
        Table("Same run", ("", "measured"), [(_LABELS[name], format_figure(value)) for name, value in figures.items()]),
    ]
    print_tables(*tables)
    if arguments.plot:
        plot_latency(arguments.plot, f"Word latency: {subject}, {streams}", report)
    if arguments.json:
        run_settings = {"streams": arguments.streams, "seed": arguments.seed, "words": arguments.words}
        data = {"folder": arguments.data, "recordings": len(playlist.items), "audio_s": playlist.duration_s}
        results = {"words": report.words, "latency_ms": compute_percentiles(report), **figures}
        write_json(arguments.json, "latency", {**settings, **run_settings}, data, results, tables)


if __name__ == "__main__":
    options.run_main(main)
