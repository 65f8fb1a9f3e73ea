"""How many people can speak at once: the most streams in real time whose captions are in time and complete.

    python benchmarks/throughput.py                                     the bundled recording
    python benchmarks/throughput.py --data FOLDER --seconds 60 --json out/throughput.json --plot out/throughput.png
    python benchmarks/throughput.py --bound-ms 500 --most 64

Every stream hears the same, begun at slightly different times, in 20 ms blocks as from a microphone. A number of
streams is held if 95 % of the words appear within --bound-ms of their end, no sample is dropped, and every stream ends
in the finals that `transcribe` gives. The numbers are doubled until one is not held, then bisected. The model's own
alignment says when words end. Feeding and reading all those streams is done by the same process and counts as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import options
from corpus import Programme, assembled, read_corpus
from pacing import Sampler, run_streams
from report import Table, panels, peak_memory_mib, show, write_json

from stream_asr import Recognizer
from stream_asr.latency import measure, merged, percentile

_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of so many streams.

    Attributes:
        word_p50_ms, word_p95_ms: from the end of a word to its first appearance; None without words.
        lag_max_ms: of any stream at any time.
        batches: model passes; ``batches[n]`` of them had n windows.
        queue: seconds since the start, and windows that waited for the model then; previews do not queue.
        lost: streams whose finals are not those of `transcribe`.
        peak_memory_mib: of this process until then.
    """

    streams: int
    word_p50_ms: float | None
    word_p95_ms: float | None
    lag_max_ms: int
    cpu_s_per_audio_s: float
    batches: tuple[int, ...]
    queue: tuple[tuple[float, float], ...]
    samples_dropped: int
    lost: int
    peak_memory_mib: float

    @property
    def mean_batch(self) -> float:
        return sum(size * count for size, count in enumerate(self.batches)) / max(1, sum(self.batches))

    def held(self, bound_ms: float) -> bool:
        in_time = self.word_p95_ms is not None and self.word_p95_ms <= bound_ms
        return in_time and not self.lost and not self.samples_dropped


def attempt(recognizer: Recognizer, programme: Programme, expected: Sequence[str], streams: int) -> Trial:
    """So many streams at once, in real time."""
    before, began_s = recognizer.stats.batches, time.process_time()
    with Sampler(lambda: recognizer.stats.waiting_windows, _LOOK_EVERY_S) as queue:
        runs = run_streams(recognizer, programme.samples, streams)
    cpu_s, after = time.process_time() - began_s, recognizer.stats.batches
    words = merged([measure(run.arrivals) for run in runs]).word_first_ms
    return Trial(
        streams,
        percentile(words, 50),
        percentile(words, 95),
        max(lag for run in runs for _, lag in run.lags),
        cpu_s / (streams * programme.seconds),
        tuple(now - then for now, then in zip(after, before, strict=True)),
        tuple(queue.samples),
        sum(run.counts.dropped for run in runs if run.counts is not None),
        sum(run.finals != list(expected) for run in runs),
        peak_memory_mib(),
    )


def capacity(held: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` that is held, where smaller ones are held as well; 0 for none.

    Doubles until a number is not held, then bisects.
    """
    good, bad, number = 0, most + 1, 1
    while number < bad:
        if held(number):
            good = number
        else:
            bad = number
        number = min(2 * good, most) if bad > most else (good + bad) // 2
        if number == good:
            break
    return good


def table(title: str, trials: Sequence[Trial], bound_ms: float) -> Table:
    columns = (
        *("streams", "held", "word p50 (ms)", "word p95 (ms)", "lag at most (ms)"),
        *("CPU s per audio s", "windows per batch", "dropped", "texts lost"),
    )
    rows = [
        (
            str(trial.streams),
            "yes" if trial.held(bound_ms) else "no",
            *("-" if value is None else f"{value:.0f}" for value in (trial.word_p50_ms, trial.word_p95_ms)),
            str(trial.lag_max_ms),
            f"{trial.cpu_s_per_audio_s:.3f}",
            f"{trial.mean_batch:.2f}",
            str(trial.samples_dropped),
            str(trial.lost),
        )
        for trial in trials
    ]
    return Table(title, columns, rows)


def draw(path: Path, model: str, trials: Sequence[Trial], bound_ms: float) -> None:
    """Latency over streams; how full batches are, and how long the queue is, under the most streams tried."""
    with panels(path, f"What {model} holds", 3, sharex=False) as (latency, batches, queue):
        streams = [trial.streams for trial in trials]
        for label, values in (
            ("p95", [trial.word_p95_ms for trial in trials]),
            ("p50", [trial.word_p50_ms for trial in trials]),
        ):
            latency.plot(streams, [float("nan") if value is None else value for value in values], "o-", label=label)
        latency.axhline(bound_ms, color="#888888", linestyle="--", label="bound for p95")
        latency.set_xlabel("streams")
        latency.set_ylabel("word to appearance (ms)")
        latency.legend()
        busiest = trials[-1]
        sizes = [size for size, count in enumerate(busiest.batches) if count]
        batches.bar(sizes, [busiest.batches[size] for size in sizes])
        batches.set_xlabel(f"windows in a model pass, {busiest.streams} stream(s)")
        batches.set_ylabel("model passes")
        queue.plot(*zip(*busiest.queue, strict=True))
        queue.set_xlabel(f"time (s), {busiest.streams} stream(s)")
        queue.set_ylabel("windows waiting")
        for axis in (latency.xaxis, batches.xaxis, queue.yaxis):
            axis.get_major_locator().set_params(integer=True)


def histogram(trials: Sequence[Trial]) -> Table:
    """How many model passes had how many windows."""
    sizes = [size for size, counts in enumerate(zip_longest(*(trial.batches for trial in trials))) if any(counts)]
    rows = [(str(trial.streams), *(str(trial.batches[size]) for size in sizes)) for trial in trials]
    return Table("model passes by their number of windows", ("streams", *map(str, sizes)), rows)


def main() -> None:
    parser = options.parser(__doc__)
    options.add_plot(parser, "latency, batches and the queue")
    options.add_data(parser)
    options.add_model(parser)
    parser.add_argument(
        "--seconds", type=options.positive, default=30, help="length, up to the end of a recording (%(default)s)"
    )
    parser.add_argument("--bound-ms", type=float, default=700, help="for the p95 of words' appearance (%(default)s)")
    parser.add_argument("--most", type=at_least_one, default=128, help="streams tried (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of order and pauses (%(default)s)")
    arguments = parser.parse_args()

    programme = assembled(read_corpus(arguments.data, arguments.limit), arguments.seconds, arguments.seed)
    trials: dict[int, Trial] = {}
    with options.recognizer(arguments) as recognizer:
        settings = options.model_settings(arguments, recognizer)
        expected = [final.text for final in recognizer.iter_finals(programme.samples)]

        def held(streams: int) -> bool:
            trials[streams] = attempt(recognizer, programme, expected, streams)
            return trials[streams].held(arguments.bound_ms)

        most = capacity(held, arguments.most)
    in_order = [trials[streams] for streams in sorted(trials)]
    more = " or more" if most == arguments.most else ""
    title = f"{settings['model']}: {most}{more} streams held, p95 of words within {arguments.bound_ms:.0f} ms"
    tables = [table(title, in_order, arguments.bound_ms), histogram(in_order)]
    show(*tables)
    if arguments.plot:
        draw(arguments.plot, settings["model"], in_order, arguments.bound_ms)
    if arguments.json:
        chosen = {"bound_ms": arguments.bound_ms, "most": arguments.most, "seed": arguments.seed}
        data = {"folder": arguments.data, "recordings": len(programme.places), "audio_s": programme.seconds}
        write_json(
            arguments.json, "throughput", {**settings, **chosen}, data, {"capacity": most, "trials": in_order}, tables
        )


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    options.run(main)
