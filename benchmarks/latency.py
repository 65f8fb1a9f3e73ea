"""How long after the sound captions appear, in real time and with compute included.

    python benchmarks/latency.py                                        the bundled recording
    python benchmarks/latency.py --data FOLDER --seconds 180            recordings with pauses between them
    python benchmarks/latency.py --streams 8 --json out/latency.json --plot out/latency.png
    python benchmarks/latency.py --data FOLDER --words FOLDER/words.ctm
    python benchmarks/latency.py --url ws://127.0.0.1:2700 --protocol vosk

The audio is fed in 20 ms blocks, each when a microphone would deliver it. A word ends where the final's own CTC
alignment puts it, or where ``--words`` says. Lag is sampled with every block; its growth is the slope of a straight
line through the samples, which is about 0 for a recognizer that keeps up.

With ``--url``, a server is measured as its clients see it, network included; processor, memory and lag are its own
secret. Protocols do not all tell when words end, so the times come from ``--words``, or else from a pass of the model
that ``--model`` names over the same audio. Words that it heard differently have no latency.
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
from corpus import Programme, assembled, read_corpus
from pacing import Run, run_connections, run_streams, slope
from protocols import PROTOCOLS
from report import Table, peak_memory_mib, plot, show, write_json
from words import read_words

from stream_asr.latency import LatencyReport, measure, merged, percentile

PERCENTILES = (50, 90, 95, 99)

_LABELS = {
    "upwr": "words revised, for each final word (UPWR)",
    "normalized_erasure": "words erased, for each final word (normalized erasure)",
    "words_with_times": "words with reference times",
    "lag_max_ms": "largest lag (ms)",
    "lag_growth_ms_per_min": "growth of the lag (ms a minute)",
    "samples_dropped": "samples dropped",
    "cpu_s_per_audio_s": "processor seconds for each second of audio",
    "peak_memory_mib": "peak memory (MiB)",
}

_SHOWN_MS = (-500, 4000)
"""Of the plot; the few words that come later, or were shown before they were said, would squeeze the rest."""


def rows(report: LatencyReport) -> dict[str, tuple[float, ...]]:
    """From what is measured to its sorted milliseconds."""
    return {
        "first partial, after the first word": report.first_partial_ms,
        "word, to first appearance": report.word_first_ms,
        "word, to stable": report.word_stable_ms,
        "final, after the endpoint's decision": report.final_ms,
        "final, after the last word": report.end_of_speech_ms,
    }


def percentiles(report: LatencyReport) -> dict[str, dict[str, float | None]]:
    return {
        what: {f"p{percent}": percentile(values, percent) for percent in PERCENTILES}
        for what, values in rows(report).items()
    }


def latency_table(title: str, report: LatencyReport) -> Table:
    shown = [
        (what, *("-" if value is None else f"{value:.0f}" for value in figures.values()))
        for what, figures in percentiles(report).items()
    ]
    return Table(title, ("milliseconds", *(f"p{percent}" for percent in PERCENTILES)), shown)


def draw(path: Path, title: str, report: LatencyReport) -> None:
    """What share of the words has appeared, and is stable, so long after its end."""
    with plot(path, title, "after the end of the word (ms)", "share of the words (%)") as axes:
        for label, values in (("first appearance", report.word_first_ms), ("stable", report.word_stable_ms)):
            if values:
                axes.step(values, np.arange(1, len(values) + 1) / len(values) * 100, where="post", label=label)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_xlim(*_SHOWN_MS)
        axes.set_ylim(0, 100)
        axes.legend(loc="lower right")


def embedded_figures(runs: Sequence[Run], cpu_s: float, audio_s: float) -> dict[str, float]:
    """What only a recognizer in this process tells."""
    lags = [lag for run in runs for lag in run.lags]
    return {
        "lag_max_ms": max(lag for _, lag in lags),
        "lag_growth_ms_per_min": 60 * slope(lags),
        "samples_dropped": sum(run.counts.dropped for run in runs if run.counts is not None),
        "cpu_s_per_audio_s": cpu_s / audio_s,
        "peak_memory_mib": peak_memory_mib(),
    }


def measure_embedded(
    arguments: argparse.Namespace, programme: Programme
) -> tuple[dict[str, Any], LatencyReport, dict[str, float]]:
    words = read_words(arguments.words, programme.places) if arguments.words else None
    with options.recognizer(arguments) as recognizer:
        settings = options.model_settings(arguments, recognizer)
        began_s = time.process_time()
        runs = run_streams(recognizer, programme.samples, arguments.streams)
        cpu_s = time.process_time() - began_s
    report = merged([measure(run.arrivals, words) for run in runs])
    return settings, report, embedded_figures(runs, cpu_s, programme.seconds * arguments.streams)


def measure_server(
    arguments: argparse.Namespace, programme: Programme
) -> tuple[dict[str, Any], LatencyReport, dict[str, float]]:
    if arguments.words:
        words, aligned_by = read_words(arguments.words, programme.places), str(arguments.words)
    else:
        with options.recognizer(arguments) as recognizer:
            words = list(recognizer.transcribe(programme.samples).words)
            aligned_by = recognizer.model.name
    protocol = PROTOCOLS[arguments.protocol]
    runs = run_connections(lambda: protocol(arguments.url, arguments.token), programme.samples, arguments.streams)
    report = merged([measure(run.arrivals, words) for run in runs])
    settings = {"protocol": arguments.protocol, "url": arguments.url.partition("?")[0], "aligned_by": aligned_by}
    return settings, report, {"words_with_times": len(report.word_first_ms)}


def main() -> None:
    parser = options.parser(__doc__)
    options.add_plot(parser, "how soon words appear")
    options.add_data(parser)
    options.add_model(parser)
    parser.add_argument(
        "--seconds", type=options.positive, default=30, help="length, up to the end of a recording (%(default)s)"
    )
    parser.add_argument("--streams", type=int, default=1, help="at once, begun within 5 s (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of order and pauses (%(default)s)")
    parser.add_argument("--words", type=Path, metavar="CTM", help="when the words end (the model's own alignment)")
    parser.add_argument("--url", help="measure the server at ws://HOST:PORT, not a recognizer in this process")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="native", help="of that server (%(default)s)")
    parser.add_argument("--token", default=os.environ.get("STREAM_ASR_TOKEN"), help="for it ($STREAM_ASR_TOKEN)")
    arguments = parser.parse_args()

    programme = assembled(read_corpus(arguments.data, arguments.limit), arguments.seconds, arguments.seed)
    measure_it = measure_server if arguments.url else measure_embedded
    settings, report, more = measure_it(arguments, programme)
    more = {"upwr": report.upwr, "normalized_erasure": report.normalized_erasure, **more}

    measured = settings.get("model") or f"{settings['protocol']} server"
    title = f"{measured}: {arguments.streams} stream(s) of {programme.seconds:.0f} s, {report.words} words"
    tables = [
        latency_table(title, report),
        Table("in the same run", ("", "measured"), [(_LABELS[name], f"{value:.4g}") for name, value in more.items()]),
    ]
    show(*tables)
    if arguments.plot:
        draw(arguments.plot, f"How soon words appear: {measured}, {arguments.streams} stream(s)", report)
    if arguments.json:
        chosen = {"streams": arguments.streams, "seed": arguments.seed, "words": arguments.words}
        data = {"folder": arguments.data, "recordings": len(programme.places), "audio_s": programme.seconds}
        results = {"words": report.words, "latency_ms": percentiles(report), **more}
        write_json(arguments.json, "latency", {**settings, **chosen}, data, results, tables)


if __name__ == "__main__":
    options.run(main)
