"""Memory and lag of one stream over hours of audio, fed as fast as the stream accepts it.

    python benchmarks/soak.py                                           two hours of the bundled recording
    python benchmarks/soak.py --hours 0.2 --json out/soak.json --plot out/soak.png

The stream emits partials, like a live stream. Memory is the resident memory of the process. Its growth is the slope of
the least-squares line through the samples of the last three quarters, when caches are filled. The lag must not exceed
the stream's buffer, no sample may be dropped, and every sample must be accounted for; otherwise the exit status is 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import options
from corpus import make_playlist, read_corpus
from realtime import fit_slope
from report import Table, format_figure, memory_mib, panels, peak_memory_mib, print_tables, write_json
from rich.console import Console
from rich.progress import Progress

from stream_asr import Final, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.streaming.accounting import Counts

_BLOCK_S = 0.5
_WARM_UP_SHARE = 0.25
"""Share of the samples that is ignored for growth."""

_PLAYLIST_S = 300.0
"""Duration of the playlist that is repeated."""

_SAMPLES = 400
"""Number of samples of memory and lag."""


@dataclass(slots=True)
class SoakRun:
    """Observations of the stream.

    Attributes:
        memory_mib: pairs of hours of audio and resident memory.
        lag_ms: pairs of hours of audio and lag.
        finals: number of finals.
        elapsed_s: duration of the run.
        counts: sample counts after the end of the stream.
    """

    memory_mib: list[tuple[float, float]] = field(default_factory=list)
    lag_ms: list[tuple[float, float]] = field(default_factory=list)
    finals: int = 0
    elapsed_s: float = 0.0
    counts: Counts | None = None


def after_warm_up(samples: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return the samples without those of the warm-up."""
    return samples[int(len(samples) * _WARM_UP_SHARE) :]


def repeat_blocks(samples: FloatArray, hours: float) -> Iterator[FloatArray]:
    """Yield samples of shape (samples,) in blocks, repeated until the duration is reached."""
    size = round(_BLOCK_S * SAMPLE_RATE)
    remaining = round(hours * 3600 * SAMPLE_RATE)
    for at in cycle(range(0, len(samples), size)):
        block = samples[at : at + size][:remaining]
        yield block
        remaining -= len(block)
        if remaining <= 0:
            return


def run_soak(recognizer: Recognizer, samples: FloatArray, hours: float) -> SoakRun:
    """Feed one stream as fast as it accepts audio, and sample memory and lag at regular intervals."""
    run, fed, next_sample_h = SoakRun(), 0, 0.0
    start = time.monotonic()
    console = Console(stderr=True)
    with recognizer.stream() as stream, Progress(console=console, transient=True) as progress:
        task = progress.add_task("hours of audio", total=hours)
        for block in repeat_blocks(samples, hours):
            stream.feed(block)
            stream.drain()
            run.finals += sum(isinstance(event, Final) for event in stream.poll())
            fed += len(block)
            fed_h = fed / SAMPLE_RATE / 3600
            if fed_h >= next_sample_h:
                next_sample_h += hours / _SAMPLES
                run.memory_mib.append((fed_h, memory_mib()))
                run.lag_ms.append((fed_h, float(stream.lag_ms)))
                progress.update(task, completed=fed_h)
        stream.finish()
        run.finals += sum(isinstance(event, Final) for event in stream)
        run.counts = stream.counts
    run.elapsed_s = time.monotonic() - start
    return run


def summarize(run: SoakRun, hours: float) -> dict[str, float]:
    """Return the figures of a finished run."""
    assert run.counts is not None
    counts = run.counts
    return {
        "audio_h": hours,
        "rtf": run.elapsed_s / (hours * 3600),
        "memory_after_warm_up_mib": after_warm_up(run.memory_mib)[0][1],
        "memory_at_end_mib": run.memory_mib[-1][1],
        "peak_memory_mib": peak_memory_mib(),
        "memory_growth_mib_per_h": fit_slope(after_warm_up(run.memory_mib)),
        "lag_max_ms": max(lag_ms for _, lag_ms in run.lag_ms),
        "lag_growth_ms_per_h": fit_slope(after_warm_up(run.lag_ms)),
        "finals": run.finals,
        "samples_dropped": counts.dropped,
        "samples_unaccounted": counts.captured - counts.recognised - counts.silent - counts.dropped,
    }


_LABELS = {
    "audio_h": "hours of audio",
    "rtf": "real-time factor, partials included",
    "memory_after_warm_up_mib": "memory after the first quarter (MiB)",
    "memory_at_end_mib": "memory at the end (MiB)",
    "peak_memory_mib": "peak memory (MiB)",
    "memory_growth_mib_per_h": "memory growth (MiB per hour of audio)",
    "lag_max_ms": "maximum lag (ms)",
    "lag_growth_ms_per_h": "lag growth (ms per hour of audio)",
    "finals": "finals",
    "samples_dropped": "dropped samples",
    "samples_unaccounted": "unaccounted samples",
}

_MUST_BE_ZERO = ("samples_dropped", "samples_unaccounted")


def find_failures(figures: Mapping[str, float], buffer_ms: int) -> list[str]:
    """Return a description of each requirement that was not met."""
    failures = [f"{_LABELS[name]}: {figures[name]:.0f}" for name in _MUST_BE_ZERO if figures[name]]
    if figures["lag_max_ms"] > buffer_ms:
        failures.append(f"maximum lag: {figures['lag_max_ms']:.0f} ms, above the buffer of {buffer_ms} ms")
    return failures


def plot_run(path: Path, model: str, run: SoakRun) -> None:
    """Plot memory and lag over the hours of audio."""
    with panels(path, f"One stream over hours of audio: {model}", 2) as (memory, lag):
        memory.plot(*zip(*run.memory_mib, strict=True))
        memory.set_ylim(bottom=0)
        memory.set_ylabel("memory (MiB)")
        lag.plot(*zip(*run.lag_ms, strict=True))
        lag.set_ylim(bottom=0)
        lag.set_ylabel("lag (ms)")
        lag.set_xlabel("audio (h)")


def main() -> int:
    parser = options.make_parser(__doc__)
    options.add_plot_option(parser, "memory and lag")
    options.add_data_options(parser)
    options.add_model_options(parser)
    parser.add_argument(
        "--hours", type=options.positive_number, default=2.0, help="duration of the audio (default: %(default)s)"
    )
    options.add_seed_option(parser, "order and pauses")
    arguments = parser.parse_args()

    utterances = read_corpus(arguments.data, arguments.limit)
    playlist = make_playlist(utterances, min(_PLAYLIST_S, arguments.hours * 3600), arguments.seed)
    with options.load_recognizer(arguments) as recognizer:
        settings = options.model_settings(arguments, recognizer)
        run = run_soak(recognizer, playlist.samples, arguments.hours)
        buffer_ms = recognizer.config.engine.buffer_ms
    figures = summarize(run, arguments.hours)
    table = Table(
        f"{settings['model']}: one stream, {arguments.hours:g} h of audio",
        ("", "measured"),
        [(_LABELS[name], format_figure(value)) for name, value in figures.items()],
    )
    print_tables(table)
    if arguments.plot:
        plot_run(arguments.plot, settings["model"], run)
    if arguments.json:
        settings["seed"] = arguments.seed
        data = {"folder": arguments.data, "recordings": len(playlist.items), "audio_s": arguments.hours * 3600}
        results = {**figures, "samples": {"memory_mib": run.memory_mib, "lag_ms": run.lag_ms}}
        write_json(arguments.json, "soak", settings, data, results, [table])
    failures = find_failures(figures, buffer_ms)
    if failures:
        print(f"soak.py: failed: {'; '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    options.run_main(main)
