"""Audio in which the positions of speech are known: recordings with pauses, and noise added to them.

Recordings are reduced to their speech: frames within 35 dB of the loudest frame, and pauses that are too short to end
an utterance. The speech is concatenated with pauses of 1 to 2 s. The noise is white, pink or babble (several voices at
the same time). The signal-to-noise ratio relates it to the mean power of the speech.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from signals import normalize_power, pink_noise, white_noise

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE

NOISES = ("white", "pink", "babble")

_FRAME_SAMPLES = SAMPLE_RATE // 100
_SPEECH_DB = -35.0
"""Minimum level of speech relative to the loudest frame."""

_BACKGROUND_DB = -65.0
"""Level of white noise in the clean scene, because microphones never deliver digital silence."""

_MIN_PAUSE_FRAMES = 50
"""Pauses longer than this would end an utterance."""

_MIN_SPEECH_FRAMES = 30
"""Shorter sounds between two pauses are clicks or breaths."""

_PAUSE_RANGE_S = (1.0, 2.0)
_FINAL_PAUSE_S = 2
_BABBLE_VOICES = 8
"""Enough that no voice stands out."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Audio with known positions of speech.

    Attributes:
        noise: kind of noise, one of `NOISES`; empty for the clean scene.
        snr_db: signal-to-noise ratio; None for the clean scene.
        audio: float32, shape (samples,), in [-1, 1].
        segments: first sample of each speech segment and the sample after its last.
    """

    noise: str
    snr_db: float | None
    audio: FloatArray
    segments: Sequence[tuple[int, int]]

    @property
    def name(self) -> str:
        return "clean" if self.snr_db is None else f"{self.noise} {self.snr_db:g} dB"


def find_speech(samples: FloatArray) -> list[FloatArray]:
    """Return the speech segments of a recording, split at pauses that would end an utterance."""
    frames = samples[: len(samples) // _FRAME_SAMPLES * _FRAME_SAMPLES].reshape(-1, _FRAME_SAMPLES)
    level_db = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    loud = np.flatnonzero(level_db > level_db.max() + _SPEECH_DB)
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > _MIN_PAUSE_FRAMES) + 1)
    spans = [(run[0], run[-1] + 1) for run in runs]
    return [
        samples[start * _FRAME_SAMPLES : stop * _FRAME_SAMPLES]
        for start, stop in spans
        if stop - start >= _MIN_SPEECH_FRAMES
    ]


def make_scenes(
    speech: Sequence[FloatArray],
    babble_speech: Sequence[FloatArray],
    snrs_db: Sequence[float],
    rng: np.random.Generator,
) -> Iterator[Scene]:
    """Yield the clean scene, then a scene for each kind of noise and each signal-to-noise ratio.

    Args:
        speech: segments of the scene, in order.
        babble_speech: segments of the voices in babble noise.
        snrs_db: signal-to-noise ratios in decibels.
    """
    clean, segments = _concatenate(speech, rng)
    power = float(np.mean([np.square(samples).mean() for samples in speech]))
    background = clean + white_noise(len(clean), rng) * 10 ** (_BACKGROUND_DB / 20)
    yield Scene("", None, _clip(background), segments)
    for kind in NOISES:
        noise = _make_noise(kind, babble_speech, len(clean), rng)
        for snr_db in snrs_db:
            gain = np.sqrt(power / 10 ** (snr_db / 10))
            yield Scene(kind, snr_db, _clip(background + noise * gain), segments)


def _concatenate(speech: Sequence[FloatArray], rng: np.random.Generator) -> tuple[FloatArray, list[tuple[int, int]]]:
    parts: list[FloatArray] = []
    segments, at = [], 0
    for samples in speech:
        pause = np.zeros(int(rng.uniform(*_PAUSE_RANGE_S) * SAMPLE_RATE), dtype=np.float32)
        parts += [pause, samples]
        segments.append((at + len(pause), at + len(pause) + len(samples)))
        at = segments[-1][1]
    parts.append(np.zeros(_FINAL_PAUSE_S * SAMPLE_RATE, dtype=np.float32))
    return np.concatenate(parts), segments


def _make_noise(kind: str, babble_speech: Sequence[FloatArray], length: int, rng: np.random.Generator) -> FloatArray:
    """Generate noise of mean power 1."""
    if kind == "babble":
        return _make_babble(babble_speech, length, rng)
    return pink_noise(length, rng) if kind == "pink" else normalize_power(white_noise(length, rng))


def _make_babble(speech: Sequence[FloatArray], length: int, rng: np.random.Generator) -> FloatArray:
    """Add voices that speak without pauses, each with the segments in a different order."""
    babble = np.zeros(length)
    for _ in range(_BABBLE_VOICES):
        voice = np.concatenate([normalize_power(speech[index]) for index in rng.permutation(len(speech))])
        voice = np.roll(voice, int(rng.integers(len(voice))))
        babble += np.resize(voice, length)
    return normalize_power(babble)


def _clip(audio: FloatArray) -> FloatArray:
    return np.clip(audio, -1, 1).astype(np.float32)
