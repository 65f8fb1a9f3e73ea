"""Capacity: the maximum number of concurrent real-time streams with timely and complete captions.

    python benchmarks/throughput.py                                     the bundled recording
    python benchmarks/throughput.py --data FOLDER --seconds 60 --json out/throughput.json --plot out/throughput.png
    python benchmarks/throughput.py --bound-ms 500 --most 64

All streams get the same audio in 20 ms blocks, as from a microphone, with different start times. A number of streams
is sustained if 95 % of the words appear within --bound-ms of their end, no sample is dropped, and the finals of every
stream are those of `transcribe`. The number is doubled until it is not sustained, then bisected. Word ends are those
of the model's own alignment. Feeding and reading the streams happens in the same process, so its CPU time is included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import options
from corpus import Playlist, make_playlist, read_corpus
from realtime import SPREAD_S, PeriodicSampler, run_streams
from report import Table, format_count, panels, peak_memory_mib, print_tables, write_json

from stream_asr import Recognizer
from stream_asr.latency import measure, merge_reports, percentile

_QUEUE_INTERVAL_S = 0.05
"""Interval at which the length of the queue is sampled."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Result for one number of streams.

    Attributes:
        word_p50_ms, word_p95_ms: time from the end of a word to its first appearance; None without words.
        lag_max_ms: maximum lag over all streams.
        cpu_s_per_audio_s: CPU seconds per second of audio.
        batches: number of model passes by batch size: ``batches[n]`` passes had n windows.
        queue: pairs of seconds since the start and windows that wait for the model, previews excluded.
        samples_dropped: total over all streams.
        lost: number of streams whose finals differ from those of `transcribe`.
        peak_memory_mib: peak memory of this process so far.
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
        """Mean number of windows per model pass."""
        return sum(size * count for size, count in enumerate(self.batches)) / max(1, sum(self.batches))

    def is_sustained(self, bound_ms: float) -> bool:
        """Return whether the captions were complete and timely."""
        timely = self.word_p95_ms is not None and self.word_p95_ms <= bound_ms
        return timely and not self.lost and not self.samples_dropped


def run_trial(
    recognizer: Recognizer, playlist: Playlist, expected: Sequence[str], streams: int, spread_s: float = SPREAD_S
) -> Trial:
    """Run a number of concurrent streams in real time and compare their finals with the expected ones.

    Args:
        spread_s: period over which the streams start.
    """
    batches_before, cpu_start_s = recognizer.stats.batches, time.process_time()
    with PeriodicSampler(lambda: recognizer.stats.waiting_windows, _QUEUE_INTERVAL_S) as queue:
        runs = run_streams(recognizer, playlist.samples, streams, spread_s)
    cpu_s, batches_after = time.process_time() - cpu_start_s, recognizer.stats.batches
    latencies_ms = merge_reports([measure(run.arrivals) for run in runs]).word_first_ms
    return Trial(
        streams,
        percentile(latencies_ms, 50),
        percentile(latencies_ms, 95),
        max(lag_ms for run in runs for _, lag_ms in run.lags),
        cpu_s / (streams * playlist.duration_s),
        tuple(after - before for after, before in zip(batches_after, batches_before, strict=True)),
        tuple(queue.samples),
        sum(run.counts.dropped for run in runs if run.counts is not None),
        sum(run.finals != list(expected) for run in runs),
        peak_memory_mib(),
    )


def find_capacity(is_sustained: Callable[[int], bool], most: int) -> int:
    """Find the largest number up to ``most`` that is sustained; 0 if 1 is not sustained.

    Assumes that every smaller number is sustained as well. Doubles until a number is not sustained, then bisects.
    """
    good, bad, number = 0, most + 1, 1
    while number < bad:
        if is_sustained(number):
            good = number
        else:
            bad = number
        number = min(2 * good, most) if bad > most else (good + bad) // 2
        if number == good:
            break
    return good


def trial_table(title: str, trials: Sequence[Trial], bound_ms: float) -> Table:
    """Make a table with one row for each trial."""
    columns = (
        *("streams", "sustained", "word p50 (ms)", "word p95 (ms)", "max lag (ms)"),
        *("CPU s per audio s", "windows per batch", "dropped samples", "wrong texts"),
    )
    rows = [
        (
            str(trial.streams),
            "yes" if trial.is_sustained(bound_ms) else "no",
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


def batch_table(trials: Sequence[Trial]) -> Table:
    """Make a table of the number of model passes by batch size."""
    sizes = [size for size, counts in enumerate(zip_longest(*(trial.batches for trial in trials))) if any(counts)]
    rows = [(str(trial.streams), *(str(trial.batches[size]) for size in sizes)) for trial in trials]
    return Table("Model passes by number of windows", ("streams", *map(str, sizes)), rows)


def plot_trials(path: Path, model: str, trials: Sequence[Trial], bound_ms: float) -> None:
    """Plot the latency over the number of streams, and batch sizes and queue length of the largest trial."""
    with panels(path, f"Capacity of {model}", 3, sharex=False) as (latency, batches, queue):
        from matplotlib.ticker import MaxNLocator  # not at the top: only the plot needs matplotlib

        streams = [trial.streams for trial in trials]
        for label, values in (
            ("p95", [trial.word_p95_ms for trial in trials]),
            ("p50", [trial.word_p50_ms for trial in trials]),
        ):
            latency.plot(streams, [float("nan") if value is None else value for value in values], "o-", label=label)
        latency.axhline(bound_ms, color="#888888", linestyle="--", label="bound for p95")
        latency.set_xlabel("streams")
        latency.set_ylabel("word to first appearance (ms)")
        latency.legend()
        largest = trials[-1]
        suffix = format_count(largest.streams, "stream")
        sizes = [size for size, count in enumerate(largest.batches) if count]
        batches.bar(sizes, [largest.batches[size] for size in sizes])
        batches.set_xlabel(f"windows per model pass, {suffix}")
        batches.set_ylabel("model passes")
        queue.plot(*zip(*largest.queue, strict=True))
        queue.set_xlabel(f"time (s), {suffix}")
        queue.set_ylabel("waiting windows")
        for axis in (latency.xaxis, batches.xaxis, queue.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def main() -> None:
    parser = options.make_parser(__doc__)
    options.add_plot_option(parser, "latency, batch sizes and queue length")
    options.add_data_options(parser)
    options.add_playlist_options(parser, 30)
    options.add_model_options(parser)
    parser.add_argument(
        "--bound-ms",
        type=options.positive_number,
        default=700,
        help="upper bound for the 95th percentile of word latency (default: %(default)s)",
    )
    parser.add_argument(
        "--most", type=options.positive_integer, default=128, help="maximum number of streams (default: %(default)s)"
    )
    arguments = parser.parse_args()

    playlist = make_playlist(read_corpus(arguments.data, arguments.limit), arguments.seconds, arguments.seed)
    trials: dict[int, Trial] = {}
    with options.load_recognizer(arguments) as recognizer:
        settings = options.model_settings(arguments, recognizer)
        expected = [final.text for final in recognizer.iter_finals(playlist.samples)]

        def is_sustained(streams: int) -> bool:
            trials[streams] = run_trial(recognizer, playlist, expected, streams)
            return trials[streams].is_sustained(arguments.bound_ms)

        capacity = find_capacity(is_sustained, arguments.most)
    results = [trials[streams] for streams in sorted(trials)]
    streams = f"{capacity} or more streams" if capacity == arguments.most else format_count(capacity, "stream")
    title = f"{settings['model']}: capacity of {streams}, p95 of word latency up to {arguments.bound_ms:.0f} ms"
    tables = [trial_table(title, results, arguments.bound_ms), batch_table(results)]
    print_tables(*tables)
    if arguments.plot:
        plot_trials(arguments.plot, settings["model"], results, arguments.bound_ms)
    if arguments.json:
        run_settings = {"bound_ms": arguments.bound_ms, "most": arguments.most, "seed": arguments.seed}
        data = {"folder": arguments.data, "recordings": len(playlist.items), "audio_s": playlist.duration_s}
        figures = {"capacity": capacity, "trials": results}
        write_json(arguments.json, "throughput", {**settings, **run_settings}, data, figures, tables)


if __name__ == "__main__":
    options.run_main(main)
