"""Variants of recordings: perturbed in speed, level and noise, or passed through the encoder as in a stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.training.augmentation import add_noise, change_speed, synthetic_noise


@dataclass(frozen=True, slots=True)
class Perturbation:
    """Ranges of random changes; each pair is minimum and maximum.

    Attributes:
        speed: playback speed; above 1 is faster.
        gain_db: change of level.
        noise_probability: share of the recordings that get noise, 0 to 1.
        snr_db: signal-to-noise ratio.
    """

    speed: tuple[float, float] = (0.9, 1.1)
    gain_db: tuple[float, float] = (-12.0, 6.0)
    noise_probability: float = 0.5
    snr_db: tuple[float, float] = (5.0, 40.0)


@dataclass(frozen=True, slots=True)
class StreamingWindows:
    """Ranges of window sizes in a stream; each pair is minimum and maximum. Frames are those of the frozen layers.

    Attributes:
        kept_frames: frames that are kept of each window.
        right_frames: right context.
        left_frames: cached left context.
    """

    kept_frames: tuple[int, int]
    right_frames: tuple[int, int]
    left_frames: int


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of a recording.

    Attributes:
        perturbation: random changes of the samples; None for none.
        streaming: pass through the encoder window by window; None for one pass over the whole recording.
    """

    perturbation: Perturbation | None = None
    streaming: StreamingWindows | None = None


def perturb(samples: FloatArray, perturbation: Perturbation, rng: np.random.Generator) -> FloatArray:
    """Return a randomly changed copy of a recording, float32, shape (samples,), 16 kHz."""
    samples = change_speed(samples, rng.uniform(*perturbation.speed))
    samples = samples * np.float32(10 ** (rng.uniform(*perturbation.gain_db) / 20))
    if rng.random() < perturbation.noise_probability:
        samples = add_noise(samples, synthetic_noise(len(samples), rng), rng.uniform(*perturbation.snr_db))
    return samples
