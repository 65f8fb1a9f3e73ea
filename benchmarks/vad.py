"""How well utterances are found by each voice detector, in clean and in noisy sound.

    python benchmarks/vad.py [--data FOLDER] [--limit 120] [--json out/vad.json] [--plot out/vad.png]
    python benchmarks/vad.py --data FOLDER --limit 40 --sweep        other settings next to the defaults
    python benchmarks/vad.py --data FOLDER --detectors webrtc        without the extra for silero

Recordings are put together to streams with pauses and noise (scenes.py), and the boundaries that the segmenter finds in
them are held against what is known (detection.py). Where speech begins and ends is known by its level alone, so breaths
and the hiss of a recording count as speech. Every eighth recording is kept for the babble; where there are fewer than
sixteen, as in the bundled one, all of them are heard in the foreground and in the babble. All detectors get the same
scenes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from corpus import read_corpus
from detection import Quality, judge
from options import add_data, add_plot, parser, run
from report import Table, panels, show, write_json
from rich.progress import track
from scenes import NOISES, Scene, scenes, stretches
from sweep import Trial, trials

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE, SegmenterConfig
from stream_asr.vad.detectors import NAMES, detectors

_EVERY = 8
"""One recording in this many babbles."""

_COLUMNS = {
    "starts %": ("starts_right_percent", ".0f"),
    "ends %": ("ends_right_percent", ".0f"),
    "missed %": ("missed_percent", ".1f"),
    "cut %": ("speech_cut_percent", ".1f"),
    "split %": ("split_percent", ".1f"),
    "false/min": ("false_starts_per_minute", ".2f"),
    "kept %": ("pause_kept_percent", ".0f"),
    "p50 ms": ("endpoint_p50_ms", ".0f"),
    "p95 ms": ("endpoint_p95_ms", ".0f"),
}
"""What tables show of a `Quality`, and in which format."""

_SWEPT = ("starts %", "ends %", "missed %", "cut %", "false/min")
_DRAWN = {
    "starts within 200 ms (%)": "starts_right_percent",
    "ends within 200 ms (%)": "ends_right_percent",
    "speech cut (%)": "speech_cut_percent",
    "false starts a minute": "false_starts_per_minute",
    "endpoint, p50 (ms)": "endpoint_p50_ms",
}
_LINES = ("-", "--", ":")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one detector made of one scene."""

    scene: str
    noise: str
    snr_db: float | None
    detector: str
    quality: Quality
    cpu_per_audio_s: float


def voices(folder: Path, limit: int | None) -> tuple[list[FloatArray], list[FloatArray]]:
    """The stretches of speech of the recordings that are heard, and of those that babble."""
    recordings = [stretches(utterance.samples()) for utterance in read_corpus(folder, limit)]
    pieces = [piece for recording in recordings for piece in recording]
    if len(recordings) < 2 * _EVERY:
        return pieces, pieces
    heard = [piece for at, recording in enumerate(recordings) if at % _EVERY for piece in recording]
    return heard, [piece for recording in recordings[::_EVERY] for piece in recording]


def compared(heard: list[Scene], names: list[str]) -> Iterator[Finding]:
    """Every detector with its defaults in every scene."""
    config = SegmenterConfig()
    makers = {name: detectors(name, config) for name in names}
    for scene in track(heard, "listening", transient=True):
        for name, make in makers.items():
            began = time.process_time()
            quality = judge(scene, config, make())
            spent = (time.process_time() - began) / (len(scene.audio) / SAMPLE_RATE)
            yield Finding(scene.name, scene.noise, scene.snr_db, name, quality, spent)


def compare(heard: list[Scene], names: list[str]) -> tuple[list[Finding], list[Table]]:
    """Every detector in every scene, with its defaults."""
    findings = list(compared(heard, names))
    found = Table(
        _title("Finding speech", heard),
        ["", "detector", *_COLUMNS],
        [[finding.scene, finding.detector, *cells(finding.quality, _COLUMNS)] for finding in findings],
    )
    spent = {
        name: np.mean([finding.cpu_per_audio_s for finding in findings if finding.detector == name]) for name in names
    }
    costs = Table(
        "Segmenter and detector",
        ["", "processor time for a second of sound"],
        [[name, f"{1000 * cost:.2f} ms"] for name, cost in spent.items()],
    )
    return findings, [found, costs]


def compare_settings(heard: list[Scene], names: list[str]) -> tuple[list[Trial], list[Table]]:
    """Settings by how many starts and ends they find; the share of clean sound counts as much as that of noise."""
    tried = list(trials(heard, names))
    columns = [f"{where} {column}" for where in ("clean", "noisy") for column in _SWEPT]
    tables = []
    for name in names:
        ranked = sorted((trial for trial in tried if trial.detector == name), key=_rank)
        rows = [[trial.setting, *cells(trial.clean, _SWEPT), *cells(trial.noisy, _SWEPT)] for trial in ranked]
        tables.append(Table(_title(name, heard), ["", *columns], rows))
    return tried, tables


def _rank(trial: Trial) -> float:
    return -sum(quality.starts_right_percent + quality.ends_right_percent for quality in (trial.clean, trial.noisy))


def cells(quality: Quality, columns: Iterable[str]) -> list[str]:
    shown = (_COLUMNS[column] for column in columns)
    return [format(getattr(quality, figure), form) for figure, form in shown]


def _title(what: str, heard: list[Scene]) -> str:
    minutes = len(heard[0].audio) / SAMPLE_RATE / 60
    return f"{what}: {len(heard[0].places)} stretches of speech in {minutes:.1f} minutes; p50, p95 of endpoints"


def draw(path: Path, findings: list[Finding]) -> None:
    """One panel a measure: each detector in each kind of noise over the ratio, clean sound at the right."""
    ratios = sorted({finding.snr_db for finding in findings if finding.snr_db is not None})
    with panels(path, "Finding speech in noise", len(_DRAWN)) as rows:
        for axes, (label, figure) in zip(rows, _DRAWN.items(), strict=True):
            axes.set_ylabel(label)
            for (number, name), (kind, line) in product(enumerate(NAMES), zip(NOISES, _LINES, strict=True)):
                over = {
                    finding.snr_db: getattr(finding.quality, figure)
                    for finding in findings
                    if finding.detector == name and finding.noise in (kind, "")
                }
                if over:
                    values = [over[ratio] for ratio in (*ratios, None)]
                    axes.plot(values, color=f"C{number}", linestyle=line, marker="o", label=f"{name}, {kind}")
        rows[-1].set_yscale("log")
        rows[0].legend(ncols=len(NAMES), fontsize="small", handlelength=3)
        rows[-1].set_xticks(range(len(ratios) + 1), [*(f"{ratio:g} dB" for ratio in ratios), "clean"])
        rows[-1].set_xlabel("signal-to-noise ratio")


def main() -> None:
    command = parser(__doc__)
    add_data(command, 120)
    add_plot(command, "the measures over the signal-to-noise ratio")
    command.add_argument("--detectors", nargs="+", choices=NAMES, default=NAMES, help="(all)")
    command.add_argument("--snr", nargs="+", type=float, default=[20, 10, 5, 0], help="dB of the noise (%(default)s)")
    command.add_argument("--seed", type=int, default=1, help="of pauses and noise (%(default)s)")
    command.add_argument("--sweep", action="store_true", help="try other settings next to the defaults")
    arguments = command.parse_args()
    if arguments.sweep and arguments.plot:
        command.error("--plot is for the defaults, not for --sweep")

    heard = list(scenes(*voices(arguments.data, arguments.limit), arguments.snr, np.random.default_rng(arguments.seed)))
    results, tables = (compare_settings if arguments.sweep else compare)(heard, arguments.detectors)
    show(*tables)
    if arguments.json:
        data = {"folder": arguments.data, "limit": arguments.limit, "stretches": len(heard[0].places)}
        settings = {"snr_db": arguments.snr, "seed": arguments.seed, "sweep": arguments.sweep}
        write_json(arguments.json, "vad", settings, data, results, tables)
    if arguments.plot:
        draw(arguments.plot, results)


if __name__ == "__main__":
    run(main)
