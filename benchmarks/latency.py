"""How long after the sound captions appear, in real time and with compute included.

    python benchmarks/latency.py                                        the bundled recording
    python benchmarks/latency.py --data FOLDER --seconds 180            recordings with pauses between them
    python benchmarks/latency.py --streams 8 --json out/latency.json    several streams at once

The audio is fed in 20 ms blocks, each when a microphone would deliver it. A word ends where the final's own
CTC alignment puts it. Lag is sampled with every block; its growth is the slope of a straight line through the
samples, which is about 0 for a recognizer that keeps up.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
from corpus import read_corpus
from report import machine
from rich.console import Console
from rich.table import Table

from stream_asr import Recognizer
from stream_asr.arrays import FloatArray
from stream_asr.audio.files import AudioFile
from stream_asr.audio.pcm import AudioConverter
from stream_asr.audio.sources import paced
from stream_asr.config import SAMPLE_RATE
from stream_asr.latency import Arrival, LatencyReport, measure, percentile
from stream_asr.ledger import Counts

_PAUSE_S = (0.7, 1.5)
_PERCENTILES = (50, 90, 95, 99)


@dataclass(slots=True)
class StreamRun:
    """What one paced stream saw."""

    arrivals: list[Arrival] = field(default_factory=list)
    lags: list[tuple[float, int]] = field(default_factory=list)
    counts: Counts | None = None


def bundled() -> FloatArray:
    with AudioFile(Path(str(files("stream_asr") / "assets" / "demo.ogg"))) as file:
        converter = AudioConverter(file.sample_rate, file.channels)
        return np.concatenate([converter.push(block) for block in file])


def assembled(folder: Path, seconds: float, seed: int) -> FloatArray:
    """Recordings of the folder in random order, with pauses, until there are that many seconds."""
    rng = np.random.default_rng(seed)
    utterances = read_corpus(folder)
    parts: list[FloatArray] = []
    length = 0
    for at in rng.permutation(len(utterances)):
        pause = np.zeros(int(rng.uniform(*_PAUSE_S) * SAMPLE_RATE), dtype=np.float32)
        parts += [utterances[at].samples(), pause]
        length += sum(map(len, parts[-2:]))
        if length >= seconds * SAMPLE_RATE:
            break
    return np.concatenate(parts)


def run(recognizer: Recognizer, audio: FloatArray, result: StreamRun, delay_s: float = 0.0) -> None:
    """One paced stream, read as it is fed."""
    time.sleep(delay_s)
    with recognizer.stream() as stream:
        start = time.monotonic()

        def note() -> None:
            now = time.monotonic() - start
            result.arrivals += [Arrival(now, event) for event in stream.poll()]

        for block in paced([audio], SAMPLE_RATE):
            stream.feed(block)
            note()
            result.lags.append((time.monotonic() - start, stream.lag_ms))
        stream.finish()
        result.arrivals += [Arrival(time.monotonic() - start, event) for event in stream]
        result.counts = stream.counts


def rows(report: LatencyReport) -> dict[str, tuple[float, ...]]:
    return {
        "first partial, after the first word": report.first_partial_ms,
        "word, to first appearance": report.word_first_ms,
        "word, to stable": report.word_stable_ms,
        "final, after the endpoint's decision": report.final_ms,
        "final, after the last word": report.end_of_speech_ms,
    }


def merged(reports: list[LatencyReport]) -> LatencyReport:
    """The reports of several streams as one; the UPWR weighted by words."""
    words = sum(report.words for report in reports)

    def joined(name: str) -> tuple[float, ...]:
        return tuple(sorted(value for report in reports for value in getattr(report, name)))

    names = ("first_partial_ms", "word_first_ms", "word_stable_ms", "final_ms", "end_of_speech_ms")
    upwr = sum(report.upwr * report.words for report in reports) / max(1, words)
    return LatencyReport(words, *map(joined, names), upwr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of recordings (the bundled one)")
    parser.add_argument("--seconds", type=float, default=180, help="length assembled from --data (%(default)s)")
    parser.add_argument("--streams", type=int, default=1, help="at once, started 0.37 s apart (%(default)s)")
    parser.add_argument("--model", help="hub name or folder (the embedded model)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-lm", action="store_true", help="without a language model")
    parser.add_argument("--seed", type=int, default=1, help="of order and pauses (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    audio = assembled(arguments.data, arguments.seconds, arguments.seed) if arguments.data else bundled()
    seconds = len(audio) / SAMPLE_RATE
    results = [StreamRun() for _ in range(arguments.streams)]
    with Recognizer.from_pretrained(
        arguments.model,
        threads=arguments.threads,
        precision=arguments.precision,
        lm=None if arguments.no_lm else "auto",
    ) as recognizer:
        name = recognizer.model.name
        cpu_start = time.process_time()
        threads = [
            threading.Thread(target=run, args=(recognizer, audio, result, 0.37 * at))
            for at, result in enumerate(results)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cpu_s = time.process_time() - cpu_start

    report = merged([measure(result.arrivals) for result in results])
    lags = np.array([lag for result in results for lag in result.lags], dtype=np.float64)
    growth_ms_per_min = 60 * float(np.polyfit(lags[:, 0], lags[:, 1], 1)[0])
    counts = [result.counts for result in results if result.counts is not None]
    dropped = sum(count.dropped for count in counts)
    table = Table(title=f"{name}: {arguments.streams} stream(s) of {seconds:.0f} s, {report.words} words")
    table.add_column("milliseconds")
    for percent in _PERCENTILES:
        table.add_column(f"p{percent}", justify="right")
    for what, values in rows(report).items():
        table.add_row(what, *(f"{percentile(values, percent) or 0:.0f}" for percent in _PERCENTILES))
    console = Console()
    console.print(table)
    cpu = cpu_s / (seconds * arguments.streams)
    console.print(f"lag: at most {lags[:, 1].max():.0f} ms, growing by {growth_ms_per_min:+.1f} ms a minute")
    console.print(
        f"UPWR {report.upwr:.2f}; {cpu:.3f} processor seconds for each second of audio; {dropped} samples dropped"
    )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {
            what: {f"p{percent}": percentile(values, percent) for percent in _PERCENTILES}
            for what, values in rows(report).items()
        }
        summary = {
            "model": name,
            "data": str(arguments.data or "bundled"),
            "seconds": seconds,
            "streams": arguments.streams,
            "words": report.words,
            "machine": machine(),
            "latency_ms": figures,
            "upwr": report.upwr,
            "cpu_per_audio_s": cpu,
            "lag_max_ms": float(lags[:, 1].max()),
            "lag_growth_ms_per_min": growth_ms_per_min,
            "samples_dropped": dropped,
        }
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
