"""Sound as arrays: noise, and the bytes that others take."""

from __future__ import annotations

import numpy as np

from stream_asr.array_types import FloatArray


def of_unit_power(samples: FloatArray) -> FloatArray:
    return (samples / np.sqrt(np.square(samples).mean())).astype(np.float32)


def pink_noise(length: int, rng: np.random.Generator) -> FloatArray:
    """Of unit power, which falls as 1/f."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return of_unit_power(np.fft.irfft(spectrum, length))


def pcm16(samples: FloatArray) -> bytes:
    """Little-endian, as the segmenter gives it to voice detectors; what is beyond full scale is cut off."""
    return np.clip(samples * 32768, -32768, 32767).astype("<i2").tobytes()
