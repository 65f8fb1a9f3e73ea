"""Scenes with known speech, and the scoring of utterance boundaries."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import vad
from corpus import BUNDLED, read_corpus
from vad_scenes import NOISES, Scene, find_speech, make_scenes
from vad_scoring import FRAME_SAMPLES, score_scene
from vad_sweep import run_sweep

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SegmenterConfig
from stream_asr.vad.detectors import detector_factory
from tests.support.fakes import Loud, silence

SECOND = 16_000
CONFIG = SegmenterConfig()


def tone(seconds: float, level: float = 0.3) -> FloatArray:
    return np.full(round(seconds * SECOND), level, dtype=np.float32)


def make_scene(*parts: FloatArray, segments_s: list[tuple[float, float]]) -> Scene:
    segments = [(round(start * SECOND), round(stop * SECOND)) for start, stop in segments_s]
    return Scene("", None, np.concatenate(parts), segments)


def test_scoring_uses_the_frames_of_the_embedded_model(recognizer: Recognizer) -> None:
    assert recognizer.model.frame_samples == FRAME_SAMPLES


def test_recordings_are_split_at_pauses_that_end_an_utterance() -> None:
    audio = np.concatenate([silence(0.3), tone(1), silence(0.4), tone(1), silence(0.8), tone(0.5), silence(0.2)])
    assert [len(segment) / SECOND for segment in find_speech(audio)] == pytest.approx([2.4, 0.5])


def test_clicks_are_not_speech() -> None:
    audio = np.concatenate([tone(1), silence(1), tone(0.1), silence(1)])
    assert [len(segment) / SECOND for segment in find_speech(audio)] == pytest.approx([1])


def test_noise_has_the_given_ratio() -> None:
    rng = np.random.default_rng(0)
    speech = [rng.standard_normal(2 * SECOND).astype(np.float32) * 0.03 for _ in range(4)]
    clean, *noisy = make_scenes(speech, speech, [0.0, 10.0], rng)
    assert [(scene.noise, scene.snr_db) for scene in noisy] == [(kind, snr) for kind in NOISES for snr in (0.0, 10.0)]
    for scene in noisy:
        assert scene.segments == clean.segments
        noise_power = float(np.square(scene.audio - clean.audio).mean())
        assert 10 * np.log10(0.03**2 / noise_power) == pytest.approx(scene.snr_db, abs=0.1)


def test_correct_boundaries_score_100_percent() -> None:
    scene = make_scene(silence(1), tone(2), silence(2), tone(1), silence(2), segments_s=[(1, 3), (5, 6)])
    quality = score_scene(scene, CONFIG, Loud(20))
    assert (quality.starts_right_percent, quality.ends_right_percent) == (100, 100)
    assert (quality.missed_percent, quality.speech_cut_percent, quality.split_percent) == (0, 0, 0)
    assert quality.false_starts_per_minute == 0
    assert quality.endpoint_p50_ms == pytest.approx(CONFIG.endpoint_ms, abs=40)


def test_each_kind_of_wrong_boundary_is_counted() -> None:
    audio = [silence(1), tone(2), silence(2), tone(1), silence(2)]
    false_start = score_scene(make_scene(*audio, segments_s=[(1, 3)]), CONFIG, Loud(20))
    assert false_start.false_starts_per_minute == pytest.approx(60 / 8)
    missed = score_scene(make_scene(*audio, segments_s=[(1, 3), (5, 6), (7, 7.5)]), CONFIG, Loud(20))
    assert missed.missed_percent == pytest.approx(100 / 3)
    assert missed.speech_cut_percent == pytest.approx(100 * 0.5 / 3.5, abs=0.1)
    split = score_scene(make_scene(*audio, segments_s=[(1, 6)]), CONFIG, Loud(20))
    assert split.split_percent == 100
    late = score_scene(make_scene(*audio, segments_s=[(0.5, 2.7), (5, 6)]), CONFIG, Loud(20))
    assert (late.starts_right_percent, late.ends_right_percent) == (50, 50)


def test_script_writes_report_and_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, plot = tmp_path / "vad.json", tmp_path / "vad.svg"
    command = ["vad.py", "--detectors", "webrtc", "--snr", "10", "--json", str(report), "--plot", str(plot)]
    monkeypatch.setattr(sys, "argv", command)
    vad.main()
    assert '"scene": "babble 10 dB"' in report.read_text()
    assert "<svg" in plot.read_text()


def test_sweep_has_the_same_quality_as_the_detector_itself() -> None:
    (utterance,) = read_corpus(BUNDLED)
    scene = make_scene(utterance.read_samples()[: 4 * SECOND], segments_s=[(0.5, 3.9)])
    qualities = {result.setting: result.clean for result in run_sweep([scene, replace(scene, snr_db=0.0)], ["silero"])}
    assert len(qualities) > 20
    expected = score_scene(scene, CONFIG, detector_factory("silero", CONFIG)())
    assert qualities["threshold 0.5, hysteresis 0.15, 140 of 300 ms, 5% voiced at end"] == expected
