"""Speed perturbation, additive noise and SpecAugment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError
from stream_asr.training.augmentation import (
    Augmentation,
    RecordedNoise,
    SpecAugment,
    add_noise,
    change_speed,
    synthetic_noise,
)


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_changes_duration_and_pitch(speed: float) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000).astype(np.float32)
    changed = change_speed(tone, speed)
    assert len(changed) == pytest.approx(32_000 / speed, abs=2)
    peak_hz = np.abs(np.fft.rfft(changed)).argmax() * 16_000 / len(changed)
    assert peak_hz == pytest.approx(440 * speed, abs=1)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_has_the_requested_level(snr_db: float, speech: FloatArray) -> None:
    noise = synthetic_noise(len(speech), np.random.default_rng(0))
    added = add_noise(speech, noise, snr_db) - speech
    assert 10 * np.log10(np.square(speech).mean() / np.square(added).mean()) == pytest.approx(snr_db, abs=0.1)


def test_synthetic_noise_is_white_or_pink() -> None:
    def slope_db(noise: FloatArray) -> float:
        power = np.square(np.abs(np.fft.rfft(noise)))
        return float(10 * np.log10(power[100:200].mean() / power[6_400:12_800].mean()))

    slopes = [slope_db(synthetic_noise(32_000, np.random.default_rng(seed))) for seed in range(12)]
    assert all(abs(slope) < 1.5 or 15 < slope < 21 for slope in slopes), "pink noise falls by 3 dB for each octave"
    assert {abs(slope) < 1.5 for slope in slopes} == {True, False}


def test_half_of_the_clips_get_noise(speech: FloatArray) -> None:
    rng = np.random.default_rng(0)
    augmentation = Augmentation(noise=synthetic_noise)
    unchanged = sum(np.array_equal(augmentation(speech[:1600], rng), speech[:1600]) for _ in range(100))
    assert 30 < unchanged < 70


def test_digital_silence_stays_silent() -> None:
    np.testing.assert_array_equal(add_noise(np.zeros(4, np.float32), np.ones(4, np.float32), 10), np.zeros(4))


def test_recorded_noise_repeats_short_recordings(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    recorded = np.linspace(-0.5, 0.5, 8_000, dtype=np.float32)
    soundfile.write(tmp_path / "street" / "cars.wav", recorded, 16_000, subtype="FLOAT")
    noise = RecordedNoise(tmp_path)(20_000, np.random.default_rng(0))
    assert noise.shape == (20_000,)
    assert set(noise) <= set(recorded)
    np.testing.assert_array_equal(noise[:8_000], noise[8_000:16_000])


def test_folder_without_usable_noise_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no noise recordings"):
        RecordedNoise(tmp_path)
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(InputError, match=r"notes\.txt"):
        RecordedNoise(tmp_path)


@given(st.integers(1, 400), st.floats(0, 0.9), st.floats(0, 0.9), st.integers(0, 99))
def test_masked_share_is_bounded(frames: int, time_share: float, frequency_share: float, seed: int) -> None:
    features = np.random.default_rng(1).normal(size=(frames, 80)).astype(np.float32)
    masked = SpecAugment(time_share, frequency_share)(features, np.random.default_rng(seed))
    changed = masked != features
    assert (masked[changed] == features.mean()).all()
    rows, columns = changed.all(axis=1), changed.all(axis=0)
    if not rows.all():
        assert rows.sum() <= time_share * frames + 20
        assert columns.sum() <= frequency_share * 80 + 10
    assert (changed == (rows[:, None] | columns)).all()


def test_zero_shares_mask_nothing() -> None:
    features = np.random.default_rng(1).normal(size=(100, 80)).astype(np.float32)
    for seed in range(20):
        np.testing.assert_array_equal(SpecAugment(0, 0)(features, np.random.default_rng(seed)), features)
