"""The same audio through stream_asr and other recognizers, on the same machine, one after the other.

    python benchmarks/peers.py setup                           install all of them, each in an environment of its own
    python benchmarks/peers.py setup moonshine whisper         only these
    python benchmarks/peers.py                                 compare, with the bundled recording
    python benchmarks/peers.py --data FOLDER --seconds 180     with recordings of your own
    python benchmarks/peers.py --data FOLDER --words FILE.ctm  whose words' times are known
    python benchmarks/peers.py --peers stream_asr,whisper --plot out/peers.png

Peers are stream_asr, transformers (its pipeline, with the model that is embedded in stream_asr), whisper
(faster-whisper and whisper-streaming), moonshine and pocketsphinx; docs/peers.md says how each is driven. One that is
not installed is left out, with a line that says so. Everything comes from PyPI, models included.

Live, the recordings are one stream with pauses in it, in real time: compute is included, nothing stops the clock, so
this takes as long as the stream for every recognizer. As files, the same recordings are recognised one by one, as
fast as it goes. Word: from the end of a word to the first caption that shows it. Final: from the end of the last word
before a silence until the last word heard of it is there to stay. UPWR: words shown and revised for each final word.
CPU: processor seconds, of all threads, for each second of audio. RTF: seconds for each second of audio. Loading and
warming up do not count. The exit status is 1 if a recognizer failed.
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

from corpus import assembled, read_corpus
from options import add_data, add_plot, parser, positive
from recognizers.driving import Outcome, PeerError, drive
from recognizers.roster import ENVIRONMENTS, PEERS, WAYS, Way, install, interpreter
from recognizers.spoken import Recording, by_ctm, by_model, recordings, stream
from recognizers.timing import Timing, match, measure
from report import PALETTE, Table, plot, show, usable_threads, write_json
from rich.console import Console
from scoring import normalized

from stream_asr.config import SAMPLE_RATE
from stream_asr.latency import percentile

_PERCENTS = (50, 95)
_DONE = 0
_FAILED = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What a way of using a peer came to.

    Attributes:
        wer: in percent, micro-averaged.
        timing: None for files.
        texts: what was recognised, normalised, one for each recording; a stream is one recording.
    """

    way: Way
    wer: float
    timing: Timing | None
    outcome: Outcome
    texts: tuple[str, ...]

    @property
    def cpu(self) -> float:
        return self.outcome.cpu_s / self.outcome.audio_s

    @property
    def rtf(self) -> float:
        return self.outcome.wall_s / self.outcome.audio_s

    def row(self) -> list[str]:
        """Its place in the table of `COLUMNS`."""
        figures = [f"{self.cpu:.3f}", f"{self.outcome.peak_mib:.0f}"]
        if self.timing is None:
            return [self.way.name, f"{self.wer:.1f} %", f"{self.rtf:.3f}", *figures]
        latencies = [
            _ms(percentile(values, percent))
            for values in (self.timing.word_first_ms, self.timing.final_ms)
            for percent in _PERCENTS
        ]
        return [self.way.name, f"{self.wer:.1f} %", *latencies, f"{self.timing.upwr:.2f}", *figures]

    def figures(self) -> dict[str, Any]:
        """As it is written down."""
        found: dict[str, Any] = {
            "name": self.way.name,
            "peer": self.way.peer,
            "live": self.way.live,
            "options": dict(self.way.options),
            "versions": self.outcome.versions,
            "wer_percent": self.wer,
            "audio_s": self.outcome.audio_s,
            "cpu_s_per_audio_s": self.cpu,
            "peak_mib": self.outcome.peak_mib,
            "texts": self.texts,
        }
        if self.timing is None:
            return found | {"rtf": self.rtf}
        return (
            found
            | {"words": self.timing.words, "upwr": self.timing.upwr}
            | {
                name: {f"p{percent}": percentile(values, percent) for percent in _PERCENTS} | {"count": len(values)}
                for name, values in (("word_first_ms", self.timing.word_first_ms), ("final_ms", self.timing.final_ms))
            }
        )


COLUMNS = {
    True: ("live", "WER", "word p50", "p95", "final p50", "p95", "UPWR", "CPU", "MiB"),
    False: ("files", "WER", "RTF", "CPU", "MiB"),
}


def judged(way: Way, outcome: Outcome, stream: Recording, recordings: Sequence[Recording]) -> Result:
    """Hold what a recognizer said against what was said."""
    if way.live:
        timing = measure(stream.words, outcome.lines)
        return Result(way, timing.wer, timing, outcome, (timing.text,))
    errors, words = 0, 0
    texts = []
    for recording, line in zip(recordings, outcome.lines, strict=True):
        text = normalized(line.text)
        errors += match(recording.text.split(), text.split()).errors
        words += len(recording.words)
        texts.append(text)
    return Result(way, 100 * errors / words, None, outcome, tuple(texts))


def table(results: Sequence[Result], live: bool, seconds: float) -> Table:
    title = f"{seconds:.0f} s in real time, latencies in milliseconds" if live else f"{seconds:.0f} s as files"
    return Table(title, COLUMNS[live], [result.row() for result in results if result.way.live is live])


def draw(path: Path, results: Sequence[Result]) -> None:
    """Word latency against work, both logarithmic: peers are apart by more than a factor of ten."""
    colours = dict(zip(PEERS, PALETTE, strict=False))
    named: set[str] = set()
    title = "How long after a word is said it is shown, and at what cost"
    with plot(path, title, "processor seconds for each second of audio", "95th percentile (ms)") as axes:
        from matplotlib.ticker import LogLocator, NullFormatter  # not at the top: all but the plot does without

        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(x=0.25, y=0.15)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        latencies = [(percentile(result.timing.word_first_ms, 95), result) for result in results if result.timing]
        shown = [(latency_ms, result) for latency_ms, result in latencies if latency_ms is not None]
        for latency_ms, result in sorted(shown, key=itemgetter(0), reverse=True):
            axes.scatter(result.cpu, latency_ms, s=60, color=colours[result.way.peer])
            # The ways of one peer lie close together: the upper one is named above it, the others below.
            above = result.way.peer not in named
            named.add(result.way.peer)
            axes.annotate(
                result.way.name,
                (result.cpu, latency_ms),
                xytext=(0, 7 if above else -7),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
            )


def names(text: str) -> list[str]:
    """Peers, separated by commas."""
    found = [name.strip() for name in text.split(",")]
    if unknown := set(found) - set(PEERS):
        raise argparse.ArgumentTypeError(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return found


def set_up(arguments: Sequence[str]) -> int:
    """The command ``setup``."""
    asked = argparse.ArgumentParser("peers.py setup", description="Install peers, each in an environment of its own.")
    asked.add_argument("peers", nargs="*", type=names, metavar="NAME", help=f"of {', '.join(PEERS)} (all)")
    _add_environments(asked)
    given = asked.parse_args(arguments)
    for name in [name for group in given.peers for name in group] or PEERS:
        if not PEERS[name].requirements:
            print(f"{name} runs in this environment: {sys.executable}")
            continue
        print(f"{name}: installing into {given.environments / name}", flush=True)
        try:
            install(name, given.environments)
        except subprocess.CalledProcessError:
            print(f"{name} could not be installed", file=sys.stderr)
            return _FAILED
    return _DONE


def compare(arguments: Sequence[str]) -> int:
    """Everything else."""
    asked = parser(__doc__)
    add_data(asked)
    asked.add_argument("--seconds", type=positive, default=180, help="audio used, whole recordings (%(default)s)")
    asked.add_argument("--words", type=Path, metavar="CTM", help="times of the words (the embedded model's alignment)")
    asked.add_argument("--peers", type=names, default=list(PEERS), help="separated by commas (all that are installed)")
    asked.add_argument("--threads", type=int, default=usable_threads(), help="for each of them (%(default)s)")
    asked.add_argument("--seed", type=int, default=1, help="of order and pauses (%(default)s)")
    _add_environments(asked)
    add_plot(asked, "word latency against processor time")
    given = asked.parse_args(arguments)

    progress = Console(stderr=True, highlight=False)
    pythons = {name: interpreter(name, given.environments) for name in given.peers}
    for name in (missing := [name for name, python in pythons.items() if python is None]):
        command = f"python benchmarks/peers.py setup {name}"
        if given.environments != ENVIRONMENTS:
            command += f" --environments {given.environments}"
        progress.print(f"left out: {name} is not installed ({command})", soft_wrap=True)

    times = by_ctm(given.words) if given.words else by_model()
    programme = assembled(read_corpus(given.data, given.limit), given.seconds, given.seed, again=False)
    files = recordings(programme, times)
    whole = stream(programme, files)
    results: list[Result] = []
    failed = False
    for way in WAYS:
        if (python := pythons.get(way.peer)) is None:
            continue
        heard = [whole] if way.live else files
        progress.print(f"{'live' if way.live else 'files'}: {way.name}")
        try:
            outcome = drive(python, way, [recording.samples for recording in heard], given.threads)
        except PeerError as error:
            progress.print(str(error), style="red", markup=False)
            failed = True
            continue
        results.append(judged(way, outcome, whole, files))

    files_s = sum(len(recording.samples) for recording in files) / SAMPLE_RATE
    tables = [made for made in (table(results, True, programme.seconds), table(results, False, files_s)) if made.rows]
    show(*tables)
    if given.json:
        write_json(
            given.json,
            "peers",
            {
                "threads": given.threads,
                "seed": given.seed,
                "words": given.words or "embedded model",
                "left_out": missing,
            },
            {"source": given.data, "recordings": len(files), "words": len(whole.words), "audio_s": files_s},
            [result.figures() for result in results],
            tables,
        )
    if given.plot:
        draw(given.plot, results)
    return _FAILED if failed else _DONE


def _add_environments(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--environments", type=Path, default=ENVIRONMENTS, metavar="FOLDER", help="where peers are installed (.peers)"
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    command = set_up if sys.argv[1:2] == ["setup"] else compare
    raise SystemExit(command(sys.argv[2:] if command is set_up else sys.argv[1:]))
