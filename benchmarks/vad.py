"""Accuracy of utterance boundaries with each voice detector, in clean audio and in noise.

    python benchmarks/vad.py [--data FOLDER] [--limit 120] [--json out/vad.json] [--plot out/vad.png]
    python benchmarks/vad.py --data FOLDER --limit 40 --sweep        compare settings
    python benchmarks/vad.py --data FOLDER --detectors webrtc        without the extra `silero`

Recordings are concatenated with pauses and mixed with noise (vad_scenes.py). The boundaries that the endpointer finds
are compared with the known ones (vad_scoring.py). The known boundaries are derived from the level alone, so breaths and
recording noise count as speech. Every eighth recording is reserved for babble noise; if there are fewer than sixteen
recordings, all of them are used for both speech and babble. All detectors get the same scenes.

starts, ends: segments whose start or end is found within 200 ms. missed: segments outside of all utterances. cut:
share of speech outside of utterances. split: segments in several utterances. false/min: utterances without speech per
minute. kept: share of pauses inside utterances. p50, p95: time from the end of speech to the endpoint decision.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import options
from corpus import read_corpus
from report import Table, panels, print_tables, track_progress, write_json
from vad_scenes import NOISES, Scene, find_speech, make_scenes
from vad_scoring import Quality, score_scene
from vad_sweep import SettingResult, run_sweep

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE, SegmenterConfig
from stream_asr.errors import InputError
from stream_asr.vad.detectors import DETECTORS, detector_factory

_BABBLE_STEP = 8
"""One recording in this many is reserved for babble noise."""

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
"""Figures of `Quality` and their formats, by column."""

_SWEEP_COLUMNS = ("starts %", "ends %", "missed %", "cut %", "false/min")
_PLOTTED = {
    "starts within 200 ms (%)": "starts_right_percent",
    "ends within 200 ms (%)": "ends_right_percent",
    "speech cut (%)": "speech_cut_percent",
    "false starts per minute": "false_starts_per_minute",
    "endpoint, p50 (ms)": "endpoint_p50_ms",
}
_LINE_STYLES = ("-", "--", ":")


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one detector in one scene."""

    scene: str
    noise: str
    snr_db: float | None
    detector: str
    quality: Quality
    cpu_per_audio_s: float


def split_speech(folder: Path, limit: int | None) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return the speech segments of the scenes, and those of babble noise."""
    recordings = [find_speech(utterance.read_samples()) for utterance in read_corpus(folder, limit)]
    segments = [segment for recording in recordings for segment in recording]
    if not segments:
        raise InputError(f"the recordings of {folder} contain no speech segments")
    if len(recordings) < 2 * _BABBLE_STEP:
        return segments, segments
    speech = [segment for index, recording in enumerate(recordings) if index % _BABBLE_STEP for segment in recording]
    return speech, [segment for recording in recordings[::_BABBLE_STEP] for segment in recording]


def run_detectors(scenes: list[Scene], names: list[str]) -> Iterator[Finding]:
    """Run every detector with its default settings in every scene."""
    config = SegmenterConfig()
    factories = {name: detector_factory(name, config) for name in names}
    for scene in track_progress(scenes, "scenes"):
        for name, make_detector in factories.items():
            cpu_start_s = time.process_time()
            quality = score_scene(scene, config, make_detector())
            cpu_s = time.process_time() - cpu_start_s
            yield Finding(
                scene.name, scene.noise, scene.snr_db, name, quality, cpu_s / (len(scene.audio) / SAMPLE_RATE)
            )


def detector_tables(scenes: list[Scene], findings: list[Finding], names: list[str]) -> list[Table]:
    """Make the tables of quality and of CPU time."""
    quality = Table(
        _title("Utterance boundaries", scenes),
        ["", "detector", *_COLUMNS],
        [[finding.scene, finding.detector, *_cells(finding.quality, _COLUMNS)] for finding in findings],
    )
    cpu_s = {
        name: np.mean([finding.cpu_per_audio_s for finding in findings if finding.detector == name]) for name in names
    }
    cost = Table(
        "Endpointer and detector",
        ["", "CPU ms per audio s"],
        [[name, f"{1000 * seconds:.2f}"] for name, seconds in cpu_s.items()],
    )
    return [quality, cost]


def sweep_tables(scenes: list[Scene], results: list[SettingResult], names: list[str]) -> list[Table]:
    """Make a table for each detector, with the best settings first; clean and noisy scenes have equal weight."""
    columns = [f"{condition} {column}" for condition in ("clean", "noisy") for column in _SWEEP_COLUMNS]
    tables = []
    for name in names:
        ranked = sorted(
            (result for result in results if result.detector == name), key=_correct_boundaries, reverse=True
        )
        rows = [
            [result.setting, *_cells(result.clean, _SWEEP_COLUMNS), *_cells(result.noisy, _SWEEP_COLUMNS)]
            for result in ranked
        ]
        tables.append(Table(_title(name, scenes), ["", *columns], rows))
    return tables


def _correct_boundaries(result: SettingResult) -> float:
    return sum(quality.starts_right_percent + quality.ends_right_percent for quality in (result.clean, result.noisy))


def _cells(quality: Quality, columns: Iterable[str]) -> list[str]:
    formats = (_COLUMNS[column] for column in columns)
    return [format(getattr(quality, figure), form) for figure, form in formats]


def _title(subject: str, scenes: list[Scene]) -> str:
    minutes = len(scenes[0].audio) / SAMPLE_RATE / 60
    return f"{subject}: {len(scenes[0].segments)} speech segments in {minutes:.1f} min"


def plot_findings(path: Path, findings: list[Finding]) -> None:
    """Plot each figure in a panel over the signal-to-noise ratio, with the clean scene on the right."""
    ratios_db = sorted({finding.snr_db for finding in findings if finding.snr_db is not None})
    with panels(path, "Utterance boundaries in noise", len(_PLOTTED)) as rows:
        for axes, (label, figure) in zip(rows, _PLOTTED.items(), strict=True):
            axes.set_ylabel(label)
            for (number, name), (kind, style) in product(enumerate(DETECTORS), zip(NOISES, _LINE_STYLES, strict=True)):
                values = {
                    finding.snr_db: getattr(finding.quality, figure)
                    for finding in findings
                    if finding.detector == name and finding.noise in (kind, "")
                }
                if values:
                    y = [values[ratio] for ratio in (*ratios_db, None)]
                    axes.plot(y, color=f"C{number}", linestyle=style, marker="o", label=f"{name}, {kind}")
        rows[-1].set_yscale("log")
        rows[0].legend(ncols=len(DETECTORS), fontsize="small", handlelength=3)
        rows[-1].set_xticks(range(len(ratios_db) + 1), [*(f"{ratio:g} dB" for ratio in ratios_db), "clean"])
        rows[-1].set_xlabel("signal-to-noise ratio")


def main() -> None:
    parser = options.make_parser(__doc__)
    options.add_data_options(parser, limit=120)
    options.add_plot_option(parser, "the figures over the signal-to-noise ratio")
    parser.add_argument(
        "--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS), help="detectors to compare (default: all)"
    )
    parser.add_argument(
        "--snr",
        nargs="+",
        type=float,
        default=[20, 10, 5, 0],
        metavar="DB",
        help="signal-to-noise ratios (default: 20 10 5 0)",
    )
    options.add_seed_option(parser, "pauses and noise")
    parser.add_argument("--sweep", action="store_true", help="compare settings")
    arguments = parser.parse_args()
    if arguments.sweep and arguments.plot:
        parser.error("--plot cannot be used with --sweep")

    names: list[str] = arguments.detectors
    speech, babble = split_speech(arguments.data, arguments.limit)
    scenes = list(make_scenes(speech, babble, arguments.snr, np.random.default_rng(arguments.seed)))
    results: list[SettingResult] | list[Finding]
    if arguments.sweep:
        results = sweep_results = list(run_sweep(scenes, names))
        tables = sweep_tables(scenes, sweep_results, names)
    else:
        results = findings = list(run_detectors(scenes, names))
        tables = detector_tables(scenes, findings, names)
        if arguments.plot:
            plot_findings(arguments.plot, findings)
    print_tables(*tables)
    if arguments.json:
        data = {"folder": arguments.data, "limit": arguments.limit, "stretches": len(scenes[0].segments)}
        settings = {"snr_db": arguments.snr, "seed": arguments.seed, "sweep": arguments.sweep}
        write_json(arguments.json, "vad", settings, data, results, tables)


if __name__ == "__main__":
    options.run_main(main)
