"""Does a stream that runs for hours hold more, or fall behind? Hours of audio through one stream, as fast as it goes.

    python benchmarks/soak.py                                           two hours of the bundled recording
    python benchmarks/soak.py --hours 0.2 --json out/soak.json --plot out/soak.png

The stream makes partials like a live one. Memory is what the whole process has resident; its growth is the slope of
a straight line (least squares) through the samples of the last three quarters, when caches are full. The stream must
stay behind the source by no more than its buffer, no sample may be dropped, and every one must be accounted for; the
exit status is 1 if that is not so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import options
from corpus import assembled, read_corpus
from pacing import slope
from report import Table, memory_mib, panels, peak_memory_mib, show, write_json
from rich.progress import Progress

from stream_asr import Final, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.streaming.accounting import Counts

_BLOCK_S = 0.5
_WARM_UP = 0.25
"""Share of the samples that does not count for growth."""

_PROGRAMME_S = 300.0
"""Heard again and again."""

_SAMPLES = 400


@dataclass(slots=True)
class Soak:
    """What was seen on the way; the first number of each sample is the hours of audio fed by then."""

    memory_mib: list[tuple[float, float]] = field(default_factory=list)
    lag_ms: list[tuple[float, float]] = field(default_factory=list)
    finals: int = 0
    seconds: float = 0.0
    counts: Counts | None = None


def settled(samples: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return samples[int(len(samples) * _WARM_UP) :]


def blocks(samples: FloatArray, hours: float) -> Iterator[FloatArray]:
    """``samples`` over and over, in blocks, until there are that many hours."""
    size = round(_BLOCK_S * SAMPLE_RATE)
    left = round(hours * 3600 * SAMPLE_RATE)
    for at in cycle(range(0, len(samples), size)):
        block = samples[at : at + size][:left]
        yield block
        left -= len(block)
        if left <= 0:
            return


def soak(recognizer: Recognizer, samples: FloatArray, hours: float) -> Soak:
    """Feed one stream, waiting for room, and look at it ``_SAMPLES`` times."""
    seen, fed, due = Soak(), 0, 0.0
    began = time.monotonic()
    with recognizer.stream() as stream, Progress(transient=True) as progress:
        task = progress.add_task("hours of audio", total=hours)
        for block in blocks(samples, hours):
            stream.feed(block)
            stream.drain()
            seen.finals += sum(isinstance(event, Final) for event in stream.poll())
            fed += len(block)
            at_h = fed / SAMPLE_RATE / 3600
            if at_h >= due:
                due += hours / _SAMPLES
                seen.memory_mib.append((at_h, memory_mib()))
                seen.lag_ms.append((at_h, float(stream.lag_ms)))
                progress.update(task, completed=at_h)
        stream.finish()
        seen.finals += sum(isinstance(event, Final) for event in stream)
        seen.counts = stream.counts
    seen.seconds = time.monotonic() - began
    return seen


def figures(seen: Soak, hours: float) -> dict[str, float]:
    """Of a run that has ended."""
    assert seen.counts is not None
    counts = seen.counts
    return {
        "audio_h": hours,
        "rtf": seen.seconds / (hours * 3600),
        "memory_after_warm_up_mib": settled(seen.memory_mib)[0][1],
        "memory_at_end_mib": seen.memory_mib[-1][1],
        "peak_memory_mib": peak_memory_mib(),
        "memory_growth_mib_per_h": slope(settled(seen.memory_mib)),
        "lag_max_ms": max(lag for _, lag in seen.lag_ms),
        "lag_growth_ms_per_h": slope(settled(seen.lag_ms)),
        "finals": seen.finals,
        "samples_dropped": counts.dropped,
        "samples_unaccounted": counts.captured - counts.recognised - counts.silent - counts.dropped,
    }


_LABELS = {
    "audio_h": "hours of audio",
    "rtf": "real-time factor, partials included",
    "memory_after_warm_up_mib": "memory after the first quarter (MiB)",
    "memory_at_end_mib": "memory at the end (MiB)",
    "peak_memory_mib": "peak memory (MiB)",
    "memory_growth_mib_per_h": "growth of the memory (MiB for an hour of audio)",
    "lag_max_ms": "largest lag (ms)",
    "lag_growth_ms_per_h": "growth of the lag (ms for an hour of audio)",
    "finals": "finals",
    "samples_dropped": "samples dropped",
    "samples_unaccounted": "samples unaccounted for",
}

_NONE_ALLOWED = ("samples_dropped", "samples_unaccounted")


def faults(results: Mapping[str, float], buffer_ms: int) -> list[str]:
    """What must not be; nothing if all is well."""
    lag_ms = results["lag_max_ms"]
    found = [f"{_LABELS[name]}: {results[name]:.0f}" for name in _NONE_ALLOWED if results[name]]
    return found + [f"a lag of {lag_ms:.0f} ms, beyond the buffer of {buffer_ms} ms"] * (lag_ms > buffer_ms)


def draw(path: Path, model: str, seen: Soak) -> None:
    with panels(path, f"One stream for hours: {model}", 2) as (memory, lag):
        memory.plot(*zip(*seen.memory_mib, strict=True))
        memory.set_ylim(bottom=0)
        memory.set_ylabel("memory (MiB)")
        lag.plot(*zip(*seen.lag_ms, strict=True))
        lag.set_ylim(bottom=0)
        lag.set_ylabel("lag (ms)")
        lag.set_xlabel("audio heard (h)")


def main() -> None:
    parser = options.parser(__doc__)
    options.add_plot(parser, "memory and lag")
    options.add_data(parser)
    options.add_model(parser)
    parser.add_argument("--hours", type=options.positive, default=2.0, help="of audio (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of order and pauses (%(default)s)")
    arguments = parser.parse_args()

    utterances = read_corpus(arguments.data, arguments.limit)
    programme = assembled(utterances, min(_PROGRAMME_S, arguments.hours * 3600), arguments.seed)
    with options.recognizer(arguments) as recognizer:
        settings = options.model_settings(arguments, recognizer)
        seen = soak(recognizer, programme.samples, arguments.hours)
        buffer_ms = recognizer.config.engine.buffer_ms
    results = figures(seen, arguments.hours)
    table = Table(
        f"{settings['model']}: one stream for {arguments.hours:g} h of audio",
        ("", "measured"),
        [(_LABELS[name], f"{value:.4g}") for name, value in results.items()],
    )
    show(table)
    if arguments.plot:
        draw(arguments.plot, settings["model"], seen)
    if arguments.json:
        data = {"folder": arguments.data, "recordings": len(programme.places), "audio_s": arguments.hours * 3600}
        samples = {"memory_mib": seen.memory_mib, "lag_ms": seen.lag_ms}
        write_json(
            arguments.json, "soak", {**settings, "seed": arguments.seed}, data, {**results, "samples": samples}, [table]
        )
    if wrong := faults(results, buffer_ms):
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    options.run(main)
