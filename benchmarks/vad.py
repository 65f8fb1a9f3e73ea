"""How well utterances are found: starts, ends and false alarms, in clean and in noisy audio.

    python benchmarks/vad.py --data FOLDER [--limit 120] [--json out/vad.json]

Recordings are trimmed to their speech (frames within 35 dB of the loudest), put one after the other with
pauses of 1 to 2 s, and white or pink noise is added at several signal-to-noise ratios. The segmenter's
boundaries are held against the trimmed ones. A start counts as right when the segmenter's onset, which is the
start of the utterance plus its pre-roll, lies within 200 ms of the speech's; an end when the endpoint's
decision less its silence does.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from corpus import read_corpus
from rich.console import Console
from rich.table import Table

from stream_asr.arrays import FloatArray
from stream_asr.config import SAMPLE_RATE, SegmenterConfig, samples_to_ms
from stream_asr.segmenter import Segmenter, UtteranceEnd, UtteranceStart

_FRAME = SAMPLE_RATE // 100
_SPEECH_DB = -35.0
_BACKGROUND_DB = -65.0
_TOLERANCE_MS = 200
_GRID_SAMPLES = 768
_CUT_SEARCH_MS = 800


@dataclass(frozen=True, slots=True)
class Quality:
    """Percentages of the true utterances, but for the last three."""

    starts_right: float
    ends_right: float
    missed: float
    speech_cut: float
    """Share of the speech that lies in no utterance found."""
    split: float
    false_alarms_per_minute: float
    silence_kept: float
    """Share of the pauses that lies in utterances found, pre-roll and endpoint's silence included."""
    cpu_per_audio_s: float


def trimmed(samples: FloatArray) -> FloatArray:
    """The stretch from the first to the last frame of speech."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level_db = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    loud = np.flatnonzero(level_db > level_db.max() + _SPEECH_DB)
    return samples[loud[0] * _FRAME : (loud[-1] + 1) * _FRAME]


def scene(speech: list[FloatArray], rng: np.random.Generator) -> tuple[FloatArray, list[tuple[int, int]]]:
    """One stream of all utterances with pauses, and where each of them lies."""
    parts: list[FloatArray] = []
    places, at = [], 0
    for samples in speech:
        pause = np.zeros(int(rng.uniform(1.0, 2.0) * SAMPLE_RATE), dtype=np.float32)
        parts += [pause, samples]
        places.append((at + len(pause), at + len(pause) + len(samples)))
        at += len(pause) + len(samples)
    parts.append(np.zeros(2 * SAMPLE_RATE, dtype=np.float32))
    return np.concatenate(parts), places


def noise(length: int, kind: str, rng: np.random.Generator) -> FloatArray:
    """Unit power."""
    white = rng.standard_normal(length)
    if kind == "pink":
        spectrum = np.fft.rfft(white)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        white = np.fft.irfft(spectrum, length)
    return (white / np.sqrt(np.square(white).mean())).astype(np.float32)


def judge(audio: FloatArray, places: list[tuple[int, int]], config: SegmenterConfig) -> Quality:
    segmenter = Segmenter(config, _GRID_SAMPLES, _CUT_SEARCH_MS)
    began = time.process_time()
    boundaries = [*segmenter.push(audio), *segmenter.finish()]
    cpu_s = time.process_time() - began
    starts = [boundary for boundary in boundaries if isinstance(boundary, UtteranceStart)]
    ends = [boundary for boundary in boundaries if isinstance(boundary, UtteranceEnd)]
    found = [(start.position, end.position) for start, end in zip(starts, ends, strict=True)]
    inside = np.zeros(len(audio), dtype=bool)
    for start, end in found:
        inside[start:end] = True
    truth = np.zeros(len(audio), dtype=bool)
    starts_right = ends_right = missed = split = 0
    for start, end in places:
        truth[start:end] = True
        hits = [(a, b) for a, b in found if a < end and b > start]
        if not hits:
            missed += 1
            continue
        split += len(hits) > 1
        onset_ms = samples_to_ms(hits[0][0] - start) + config.pre_roll_ms
        offset_ms = samples_to_ms(hits[-1][1] - end) - config.endpoint_ms
        starts_right += abs(onset_ms) <= _TOLERANCE_MS
        ends_right += abs(offset_ms) <= _TOLERANCE_MS
    false_alarms = sum(not any(a < end and b > start for start, end in places) for a, b in found)
    percent = 100 / len(places)
    return Quality(
        starts_right * percent,
        ends_right * percent,
        missed * percent,
        100 * float((truth & ~inside).sum() / truth.sum()),
        split * percent,
        false_alarms / (len(audio) / SAMPLE_RATE / 60),
        100 * float((inside & ~truth).sum() / (~truth).sum()),
        cpu_s / (len(audio) / SAMPLE_RATE),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings (see corpus.py)")
    parser.add_argument("--limit", type=int, default=120, help="utterances used (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--seed", type=int, default=1, help="of pauses and noise (%(default)s)")
    parser.add_argument("--sweep", action="store_true", help="try other settings next to the defaults")
    arguments = parser.parse_args()

    rng = np.random.default_rng(arguments.seed)
    speech = [trimmed(utterance.samples()) for utterance in read_corpus(arguments.data, arguments.limit)]
    clean, places = scene(speech, rng)
    speech_power = float(np.mean([np.square(samples).mean() for samples in speech]))
    scenes = {"clean": clean + noise(len(clean), "white", rng) * 10 ** (_BACKGROUND_DB / 20)}
    for snr_db in (20, 10, 5):
        for kind in ("white", "pink"):
            gain = np.sqrt(speech_power / 10 ** (snr_db / 10))
            scenes[f"{kind} {snr_db} dB"] = clean + noise(len(clean), kind, rng) * gain
    scenes = {name: np.clip(audio, -1, 1).astype(np.float32) for name, audio in scenes.items()}

    choices = {"default": SegmenterConfig()}
    if arguments.sweep:
        for mode, frame_ms, least_ms, tolerated in product((1, 2, 3), (10, 20, 30), (150, 210), (0.0, 0.1)):
            name = f"mode {mode}, {frame_ms} ms frames, {least_ms} of 300 ms, {tolerated:.0%} voiced at end"
            choices[name] = SegmenterConfig(
                aggressiveness=mode,
                vad_frame_ms=frame_ms,
                min_speech_ms=least_ms,
                endpoint_voiced_ratio=tolerated,
            )
    results = {
        name: {where: judge(audio, places, config) for where, audio in scenes.items()}
        for name, config in choices.items()
    }
    console = Console(width=150)
    for name, by_scene in results.items():
        table = Table(title=f"{name}: {len(speech)} utterances, {len(clean) / SAMPLE_RATE / 60:.1f} min")
        for column in (
            "",
            "starts ±200 ms",
            "ends ±200 ms",
            "missed",
            "speech cut",
            "split",
            "false/min",
            "pause kept",
        ):
            table.add_column(column, justify="right")
        for where, quality in by_scene.items():
            table.add_row(
                where,
                *(f"{value:.1f} %" for value in (quality.starts_right, quality.ends_right, quality.missed)),
                f"{quality.speech_cut:.2f} %",
                f"{quality.split:.1f} %",
                f"{quality.false_alarms_per_minute:.2f}",
                f"{quality.silence_kept:.0f} %",
            )
        console.print(table)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: {where: asdict(q) for where, q in rows.items()} for name, rows in results.items()}
        arguments.json.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
