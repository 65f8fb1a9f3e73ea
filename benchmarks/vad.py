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
from pathlib import Path

import numpy as np
from corpus import read_corpus
from detection import Quality, judge
from options import add_data, add_plot, parser
from report import Table, panels, show, write_json
from rich.progress import track
from scenes import NOISES, Scene, scenes, stretches
from sweep import Trial, trials

from stream_asr.arrays import FloatArray
from stream_asr.config import SAMPLE_RATE, SegmenterConfig
from stream_asr.vad.choice import NAMES, detectors

_BABBLERS = 8

_COLUMNS = {
    "starts ±200 ms": ("starts_right_percent", "{:.0f} %"),
    "ends ±200 ms": ("ends_right_percent", "{:.0f} %"),
    "missed": ("missed_percent", "{:.1f} %"),
    "speech cut": ("speech_cut_percent", "{:.1f} %"),
    "split": ("split_percent", "{:.1f} %"),
    "false starts a minute": ("false_starts_per_minute", "{:.2f}"),
    "pauses kept": ("pause_kept_percent", "{:.0f} %"),
    "endpoint p50": ("endpoint_p50_ms", "{:.0f} ms"),
    "endpoint p95": ("endpoint_p95_ms", "{:.0f} ms"),
}
_SWEPT = ("starts ±200 ms", "ends ±200 ms", "missed", "speech cut", "false starts a minute")
_DRAWN = ("starts ±200 ms", "ends ±200 ms", "speech cut", "false starts a minute", "endpoint p95")


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
    if len(recordings) < 2 * _BABBLERS:
        return pieces, pieces
    heard = [piece for at, recording in enumerate(recordings) if at % _BABBLERS for piece in recording]
    return heard, [piece for recording in recordings[::_BABBLERS] for piece in recording]


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
    columns = [f"{where}, {title}" for where in ("clean", "noisy") for title in _SWEPT]
    tables = []
    for name in names:
        ranked = sorted((trial for trial in tried if trial.detector == name), key=_rank)
        rows = [[trial.setting, *cells(trial.clean, _SWEPT), *cells(trial.noisy, _SWEPT)] for trial in ranked]
        tables.append(Table(_title(name, heard), ["", *columns], rows))
    return tried, tables


def _rank(trial: Trial) -> float:
    return -sum(quality.starts_right_percent + quality.ends_right_percent for quality in (trial.clean, trial.noisy))


def cells(quality: Quality, columns: Iterable[str]) -> list[str]:
    return [_COLUMNS[title][1].format(getattr(quality, _COLUMNS[title][0])) for title in columns]


def _title(what: str, heard: list[Scene]) -> str:
    minutes = len(heard[0].audio) / SAMPLE_RATE / 60
    return f"{what}: {len(heard[0].places)} stretches of speech in {minutes:.1f} minutes"


def draw(path: Path, findings: list[Finding]) -> None:
    """One row a measure: each detector and kind of noise over the ratio; clean sound stands at the right."""
    ratios = sorted({finding.snr_db for finding in findings if finding.snr_db is not None})
    places = [*ratios, None]
    with panels(path, "Finding speech in noise", len(_DRAWN)) as rows:
        for axes, title in zip(rows, _DRAWN, strict=True):
            figure, _ = _COLUMNS[title]
            for kind in NOISES:
                for number, name in enumerate(NAMES):
                    at = {
                        finding.snr_db: getattr(finding.quality, figure)
                        for finding in findings
                        if finding.detector == name and finding.noise in (kind, "")
                    }
                    if at:
                        axes.plot(
                            range(len(places)),
                            [at[place] for place in places],
                            color=f"C{number}",
                            linestyle=("-", "--", ":")[NOISES.index(kind)],
                            marker="o",
                            label=f"{name}, {kind}",
                        )
            axes.set_ylabel(title + (" (ms)" if figure.endswith("_ms") else ""))
        rows[0].legend(ncols=len(NAMES), fontsize="small")
        rows[-1].set_xticks(range(len(places)), [f"{ratio:g} dB" for ratio in ratios] + ["clean"])
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
    main()
