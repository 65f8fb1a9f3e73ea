"""Streams in which it is known where somebody speaks: speech with pauses, and noise over it.

Recordings are cut to their speech: frames within 35 dB of the loudest, but for pauses that would end an utterance.
What is left is put together with pauses of 1 to 2 s. Noise is white, pink, or the babble of others who speak, as far
below the mean power of the speech as the signal-to-noise ratio says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sound import of_unit_power, pink_noise

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE

NOISES = ("white", "pink", "babble")

_FRAME = SAMPLE_RATE // 100
_SPEECH_DB = -35.0
_BACKGROUND_DB = -65.0
"""White noise of the clean scene: no microphone gives digital silence."""

_PAUSE_FRAMES = 50
_SHORTEST_FRAMES = 30
"""Less than this between two pauses is a click or a breath."""

_VOICES = 8
"""Speaking at once, so that nobody stands out."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A stream, and the stretches of it that are speech.

    Attributes:
        noise: of which kind; empty for none.
        snr_db: None for no noise.
        audio: float32 of shape (samples,), in [-1, 1].
        places: first sample of each stretch, and the one after its last.
    """

    noise: str
    snr_db: float | None
    audio: FloatArray
    places: Sequence[tuple[int, int]]

    @property
    def name(self) -> str:
        return "clean" if self.snr_db is None else f"{self.noise} {self.snr_db:g} dB"


def stretches(samples: FloatArray) -> list[FloatArray]:
    """The speech of a recording, cut where a pause is long enough to end an utterance."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level_db = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    loud = np.flatnonzero(level_db > level_db.max() + _SPEECH_DB)
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > _PAUSE_FRAMES) + 1)
    spans = [(run[0], run[-1] + 1) for run in runs]
    return [samples[a * _FRAME : b * _FRAME] for a, b in spans if b - a >= _SHORTEST_FRAMES]


def scenes(
    speech: Sequence[FloatArray], others: Sequence[FloatArray], snrs_db: Sequence[float], rng: np.random.Generator
) -> Iterator[Scene]:
    """The clean scene, then each kind of noise at each ratio.

    Args:
        speech: of all utterances, in their order.
        others: who babbles.
    """
    clean, places = _joined(speech, rng)
    power = float(np.mean([np.square(samples).mean() for samples in speech]))
    quiet = clean + _white(len(clean), rng) * 10 ** (_BACKGROUND_DB / 20)
    yield Scene("", None, _limited(quiet), places)
    for kind in NOISES:
        noise = _noise(kind, others, len(clean), rng)
        for snr_db in snrs_db:
            gain = np.sqrt(power / 10 ** (snr_db / 10))
            yield Scene(kind, snr_db, _limited(quiet + noise * gain), places)


def _joined(speech: Sequence[FloatArray], rng: np.random.Generator) -> tuple[FloatArray, list[tuple[int, int]]]:
    parts: list[FloatArray] = []
    places, at = [], 0
    for samples in speech:
        pause = np.zeros(int(rng.uniform(1.0, 2.0) * SAMPLE_RATE), dtype=np.float32)
        parts += [pause, samples]
        places.append((at + len(pause), at + len(pause) + len(samples)))
        at = places[-1][1]
    parts.append(np.zeros(2 * SAMPLE_RATE, dtype=np.float32))
    return np.concatenate(parts), places


def _white(length: int, rng: np.random.Generator) -> FloatArray:
    return rng.standard_normal(length).astype(np.float32)


def _noise(kind: str, others: Sequence[FloatArray], length: int, rng: np.random.Generator) -> FloatArray:
    """Of unit power."""
    if kind == "babble":
        return _babble(others, length, rng)
    return pink_noise(length, rng) if kind == "pink" else of_unit_power(_white(length, rng))


def _babble(others: Sequence[FloatArray], length: int, rng: np.random.Generator) -> FloatArray:
    """Each voice speaks all the time, one recording after the other in an order of its own."""
    babble = np.zeros(length)
    for _ in range(_VOICES):
        voice = np.concatenate([of_unit_power(others[at]) for at in rng.permutation(len(others))])
        voice = np.roll(voice, int(rng.integers(len(voice))))
        babble += np.resize(voice, length)
    return of_unit_power(babble)


def _limited(audio: FloatArray) -> FloatArray:
    return np.clip(audio, -1, 1).astype(np.float32)
