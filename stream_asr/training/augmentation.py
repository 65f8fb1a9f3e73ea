"""Data augmentation: speed perturbation, additive noise and SpecAugment.

Sources: Ko et al., "Audio augmentation for speech recognition", 2015 (speed); Park et al., "SpecAugment: A Simple
Data Augmentation Method for Automatic Speech Recognition", 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError
from stream_asr.training.clips import read_clip
from stream_asr.training.settings import (
    NOISE_CACHE_FILES,
    NOISE_EXCERPT_S,
    NOISE_PROBABILITY,
    SNR_RANGE_DB,
    SPECAUGMENT_BAND_BINS,
    SPECAUGMENT_SPAN_FRAMES,
    SPEED_RANGE,
)

NoiseSource = Callable[[int, np.random.Generator], FloatArray]
"""Returns the requested number of noise samples, at any level."""


def synthetic_noise(samples: int, rng: np.random.Generator) -> FloatArray:
    """Return white or pink noise, with equal probability."""
    white = rng.standard_normal(samples)
    if rng.random() < 0.5:
        return white.astype(np.float32)
    spectrum = np.fft.rfft(white)
    spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))  # power falls as 1/f
    return np.fft.irfft(spectrum, samples).astype(np.float32)


class RecordedNoise:
    """Noise from the recordings in a folder and its subfolders. Only the beginning of each recording is used.

    Raises:
        InputError: the folder contains no files, or one of them cannot be decoded.
    """

    def __init__(self, folder: Path) -> None:
        self._files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not self._files:
            raise InputError(f"{folder} contains no noise recordings")
        self._read = lru_cache(NOISE_CACHE_FILES)(lambda path: read_clip(path, end_s=NOISE_EXCERPT_S))
        for path in self._files:
            self._read(path)

    def __call__(self, samples: int, rng: np.random.Generator) -> FloatArray:
        noise: FloatArray = self._read(self._files[rng.integers(len(self._files))])
        start = int(rng.integers(len(noise)))
        return np.resize(np.roll(noise, -start), samples)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random changes of the samples of a clip.

    Attributes:
        speed: change the speed.
        noise: source of additive noise; None for no noise.
    """

    speed: bool = False
    noise: NoiseSource | None = None

    def __call__(
        self, samples: FloatArray, rng: np.random.Generator, fits: Callable[[int], bool] = lambda _: True
    ) -> FloatArray:
        """Return a changed copy of a clip.

        Args:
            samples: float32, shape (samples,), 16 kHz.
            rng: the only source of randomness.
            fits: whether a clip with this number of samples is usable. If the changed clip is not, the original speed
                is kept.
        """
        if self.speed:
            changed = change_speed(samples, rng.uniform(*SPEED_RANGE))
            samples = changed if fits(len(changed)) else samples
        if self.noise is not None and rng.random() < NOISE_PROBABILITY:
            samples = add_noise(samples, self.noise(len(samples), rng), rng.uniform(*SNR_RANGE_DB))
        return samples


def change_speed(samples: FloatArray, speed: float) -> FloatArray:
    """Play a clip faster (above 1) or slower (below 1), which also shifts its pitch."""
    return np.asarray(soxr.resample(samples, speed, 1.0), dtype=np.float32)


def add_noise(samples: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Mix speech and noise at a signal-to-noise ratio. Digital silence stays silent."""
    speech_power, noise_power = (float(np.square(part, dtype=np.float64).mean()) for part in (samples, noise))
    if not noise_power:
        return samples
    scale = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    mixed: FloatArray = samples + np.float32(scale) * noise
    return mixed


@dataclass(frozen=True, slots=True)
class SpecAugment:
    """Masks random time spans and frequency bands of the features.

    Attributes:
        time: share of the frames that time spans cover, 0 to 1. Spans may overlap, so the masked share may be lower.
        frequency: share of the bins that frequency bands cover, 0 to 1.
        span_frames: length of a time span.
        band_bins: width of a frequency band.
    """

    time: float
    frequency: float
    span_frames: int = SPECAUGMENT_SPAN_FRAMES
    band_bins: int = SPECAUGMENT_BAND_BINS

    def __call__(self, features: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return a copy of ``features``, shape (frames, bins), with masked values replaced by the overall mean."""
        masked: FloatArray = features.copy()
        mean = features.mean()
        for start in _mask_starts(len(masked), self.time, self.span_frames, rng):
            masked[start : start + self.span_frames] = mean
        for start in _mask_starts(masked.shape[1], self.frequency, self.band_bins, rng):
            masked[:, start : start + self.band_bins] = mean
        return masked


def _mask_starts(length: int, share: float, span: int, rng: np.random.Generator) -> Sequence[int]:
    # Random rounding: 1.5 masks are one or two, so that short clips are masked with the right frequency.
    count = int(share * length / span + rng.random())
    starts: Sequence[int] = rng.integers(0, max(1, length - span + 1), size=count).tolist()
    return starts
