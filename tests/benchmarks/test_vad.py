"""Scenes whose speech is known, and what is said of a segmenter that hears them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import vad
from corpus import BUNDLED, read_corpus
from detection import FRAME_SAMPLES, judge
from scenes import NOISES, Scene, scenes, stretches
from sweep import trials

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SegmenterConfig
from tests.support.fakes import Loud, silence

SECOND = 16_000
CONFIG = SegmenterConfig()


def tone(seconds: float, level: float = 0.3) -> FloatArray:
    return np.full(round(seconds * SECOND), level, dtype=np.float32)


def scene(*parts: FloatArray, places: list[tuple[float, float]]) -> Scene:
    return Scene("", None, np.concatenate(parts), [(round(a * SECOND), round(b * SECOND)) for a, b in places])


def test_utterances_are_judged_on_the_embedded_models_frames(recognizer: Recognizer) -> None:
    assert recognizer.model.frame_samples == FRAME_SAMPLES


def test_recordings_are_cut_at_pauses_that_would_end_an_utterance() -> None:
    audio = np.concatenate([silence(0.3), tone(1), silence(0.4), tone(1), silence(0.8), tone(0.5), silence(0.2)])
    assert [len(piece) / SECOND for piece in stretches(audio)] == pytest.approx([2.4, 0.5])


def test_a_click_is_no_speech() -> None:
    audio = np.concatenate([tone(1), silence(1), tone(0.1), silence(1)])
    assert [len(piece) / SECOND for piece in stretches(audio)] == pytest.approx([1])


def test_noise_is_as_loud_as_the_ratio_says() -> None:
    rng = np.random.default_rng(0)
    speech = [rng.standard_normal(2 * SECOND).astype(np.float32) * 0.03 for _ in range(4)]
    clean, *noisy = scenes(speech, speech, [0.0, 10.0], rng)
    assert [(heard.noise, heard.snr_db) for heard in noisy] == [(kind, snr) for kind in NOISES for snr in (0.0, 10.0)]
    for heard in noisy:
        assert heard.places == clean.places
        noise = float(np.square(heard.audio - clean.audio).mean())
        assert 10 * np.log10(0.03**2 / noise) == pytest.approx(heard.snr_db, abs=0.1)


def test_what_is_found_is_right() -> None:
    heard = scene(silence(1), tone(2), silence(2), tone(1), silence(2), places=[(1, 3), (5, 6)])
    quality = judge(heard, CONFIG, Loud(20))
    assert (quality.starts_right_percent, quality.ends_right_percent) == (100, 100)
    assert (quality.missed_percent, quality.speech_cut_percent, quality.split_percent) == (0, 0, 0)
    assert quality.false_starts_per_minute == 0
    assert quality.endpoint_p50_ms == pytest.approx(CONFIG.endpoint_ms, abs=40)


def test_what_is_wrong_is_counted() -> None:
    sounds = [silence(1), tone(2), silence(2), tone(1), silence(2)]
    false = judge(scene(*sounds, places=[(1, 3)]), CONFIG, Loud(20))
    assert false.false_starts_per_minute == pytest.approx(60 / 8)
    missed = judge(scene(*sounds, places=[(1, 3), (5, 6), (7, 7.5)]), CONFIG, Loud(20))
    assert missed.missed_percent == pytest.approx(100 / 3)
    assert missed.speech_cut_percent == pytest.approx(100 * 0.5 / 3.5, abs=0.1)
    split = judge(scene(*sounds, places=[(1, 6)]), CONFIG, Loud(20))
    assert split.split_percent == 100
    late = judge(scene(*sounds, places=[(0.5, 2.7), (5, 6)]), CONFIG, Loud(20))
    assert (late.starts_right_percent, late.ends_right_percent) == (50, 50)


def test_the_bundled_recording_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, picture = tmp_path / "vad.json", tmp_path / "vad.svg"
    command = ["vad.py", "--detectors", "webrtc", "--snr", "10", "--json", str(figures), "--plot", str(picture)]
    monkeypatch.setattr(sys, "argv", command)
    vad.main()
    assert '"scene": "babble 10 dB"' in figures.read_text()
    assert "<svg" in picture.read_text()


def test_a_sweep_judges_as_the_detectors_themselves_would() -> None:
    (recording,) = read_corpus(BUNDLED)
    heard = scene(recording.samples()[: 4 * SECOND], places=[(0.5, 3.9)])
    found = {trial.setting: trial.clean for trial in trials([heard, replace(heard, snr_db=0.0)], ["silero"])}
    assert len(found) > 20
    itself = judge(heard, CONFIG, vad.detectors("silero", CONFIG)())
    assert found["0.5 less 0.15, 140 of 300 ms, 5% voiced at end"] == itself
