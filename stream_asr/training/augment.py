"""Making one recording into many: speed, noise, and holes in its spectrogram.

Sources: Ko et al., "Audio augmentation for speech recognition", 2015 (speed); Park et al., "SpecAugment: A Simple
Data Augmentation Method for Automatic Speech Recognition", 2019 (holes).
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

SPEEDS = (0.9, 1.1)
SNR_DB = (5.0, 30.0)
"""Speech over noise; both ends of what is drawn from evenly."""

NOISY_PART = 0.5
"""How many of the clips get noise, if any do: a model should not forget how silence sounds."""

_NOISE_FILE_S = 60.0
_NOISE_FILES_KEPT = 64

NoiseSource = Callable[[int, np.random.Generator], FloatArray]
"""So many samples of noise, at any loudness."""


def synthetic_noise(samples: int, rng: np.random.Generator) -> FloatArray:
    """White or pink, as the dice fall."""
    white = rng.standard_normal(samples)
    if rng.random() < 0.5:
        return white.astype(np.float32)
    spectrum = np.fft.rfft(white)
    spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))  # power falls as 1/f
    return np.fft.irfft(spectrum, samples).astype(np.float32)


class RecordedNoise:
    """Noise from the recordings in a folder and the folders in it; of each, its first minute.

    Raises:
        InputError: there are no files in it, or one cannot be decoded.
    """

    def __init__(self, folder: Path) -> None:
        self._files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not self._files:
            raise InputError(f"{folder} holds no recordings of noise")
        self._read = lru_cache(_NOISE_FILES_KEPT)(lambda path: read_clip(path, end_s=_NOISE_FILE_S))
        for path in self._files:
            self._read(path)

    def __call__(self, samples: int, rng: np.random.Generator) -> FloatArray:
        noise: FloatArray = self._read(self._files[rng.integers(len(self._files))])
        start = int(rng.integers(len(noise)))
        return np.resize(np.roll(noise, -start), samples)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to the samples of a clip. Without noise and speed, nothing."""

    speed: bool = False
    noise: NoiseSource | None = None

    def __call__(
        self, samples: FloatArray, rng: np.random.Generator, fits: Callable[[int], bool] = lambda _: True
    ) -> FloatArray:
        """Another recording of the same words.

        Args:
            samples: float32, 16 kHz.
            rng: the only source of chance.
            fits: whether a clip of so many samples could be used; one that could not keeps its speed.
        """
        if self.speed:
            faster = at_speed(samples, rng.uniform(*SPEEDS))
            samples = faster if fits(len(faster)) else samples
        if self.noise is not None and rng.random() < NOISY_PART:
            samples = with_noise(samples, self.noise(len(samples), rng), rng.uniform(*SNR_DB))
        return samples


def at_speed(samples: FloatArray, speed: float) -> FloatArray:
    """Played faster (above 1) or slower, which moves the pitch as well."""
    return np.asarray(soxr.resample(samples, speed, 1.0), dtype=np.float32)


def with_noise(samples: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Speech and noise, the noise scaled to so many decibels below the speech; silence stays as it is."""
    speech_power, noise_power = (float(np.square(part, dtype=np.float64).mean()) for part in (samples, noise))
    if not noise_power:
        return samples
    scale = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    mixed: FloatArray = samples + np.float32(scale) * noise
    return mixed


@dataclass(frozen=True, slots=True)
class Holes:
    """SpecAugment: spans of time and bands of frequency that the model has to do without.

    Attributes:
        time: part of the time that spans of ``span_frames`` may cover, 0 to 1; they overlap, so it is less.
        frequency: the same of the bands of ``band_bins``.
    """

    time: float
    frequency: float
    span_frames: int = 20
    band_bins: int = 10

    def __call__(self, features: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of ``features``, shape (frames, bins), with their mean in the holes."""
        holed: FloatArray = features.copy()
        mean = features.mean()
        for start in _starts(len(holed), self.time, self.span_frames, rng):
            holed[start : start + self.span_frames] = mean
        for start in _starts(holed.shape[1], self.frequency, self.band_bins, rng):
            holed[:, start : start + self.band_bins] = mean
        return holed


def _starts(length: int, part: float, span: int, rng: np.random.Generator) -> Sequence[int]:
    # A hole and a half is one hole or two, so that short clips get their share.
    count = int(part * length / span + rng.random())
    starts: Sequence[int] = rng.integers(0, max(1, length - span + 1), size=count).tolist()
    return starts
