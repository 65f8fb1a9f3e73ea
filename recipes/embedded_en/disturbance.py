"""Other paces, other loudness, and noise behind the speech: a model should do with any of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.training.augment import at_speed, synthetic_noise, with_noise


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How recordings are disturbed; each pair is the least and the most.

    Attributes:
        speed: above 1 for faster.
        gain_db: louder by so much.
        noisy: part of the recordings that get noise, 0 to 1.
        snr_db: the noise is below the speech by so much.
    """

    speed: tuple[float, float] = (0.9, 1.1)
    gain_db: tuple[float, float] = (-12.0, 6.0)
    noisy: float = 0.5
    snr_db: tuple[float, float] = (5.0, 40.0)


def disturbed(samples: FloatArray, how: Disturbance, rng: np.random.Generator) -> FloatArray:
    """Another recording of the same words, float32 at 16 kHz like the one it is made of."""
    samples = at_speed(samples, rng.uniform(*how.speed))
    samples = samples * np.float32(10 ** (rng.uniform(*how.gain_db) / 20))
    if rng.random() < how.noisy:
        samples = with_noise(samples, synthetic_noise(len(samples), rng), rng.uniform(*how.snr_db))
    return samples
