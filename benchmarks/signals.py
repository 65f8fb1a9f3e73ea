"""Noise, power normalization and PCM encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stream_asr.array_types import FloatArray


def normalize_power(samples: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Scale samples to a mean power of 1."""
    scaled: FloatArray = (samples / np.sqrt(np.square(samples).mean())).astype(np.float32)
    return scaled


def white_noise(length: int, rng: np.random.Generator) -> FloatArray:
    """Generate Gaussian noise with an expected power of 1 and a flat spectrum."""
    return rng.standard_normal(length).astype(np.float32)


def pink_noise(length: int, rng: np.random.Generator) -> FloatArray:
    """Generate noise of mean power 1 whose power density is proportional to 1/f."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return normalize_power(np.fft.irfft(spectrum, length))


def pcm16(samples: FloatArray) -> bytes:
    """Encode samples in [-1, 1] as 16-bit little-endian PCM; larger values are clipped."""
    return np.clip(samples * 32768, -32768, 32767).astype("<i2").tobytes()
