"""Synthetic sounds without speech: silence, noise, hum, music, keyboard clicks and breath.

A sound is a sequence of segments of 10 to 30 s. Segments are generated one by one, so memory does not grow with the
duration. Levels take turns from segment to segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from signals import normalize_power, pink_noise, white_noise

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE

DoubleArray = npt.NDArray[np.float64]

_SEGMENT_RANGE_S = (10.0, 30.0)
_FADE_S = 0.01
"""Fade at both ends of a segment, so that the change of level is not a click."""

_LEVEL_FRAME_S = 0.05
_LEVEL_PERCENTILE = 95
"""The level is that of loud frames: clicks and breath are mostly pauses."""

_BACKGROUND_DB = -70.0
"""Level of white noise in every sound but digital silence, because microphones never deliver digital silence."""

_MAINS_HZ = 50.0
_MAX_HARMONIC_HZ = 4000.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a sound with one level.

    Attributes:
        samples: 16 kHz, float32, shape (samples,), in [-1, 1].
        level_db: level in dBFS; None for digital silence.
    """

    samples: FloatArray
    level_db: float | None


def generate_sound(
    name: str, duration_s: float, levels_db: Sequence[float], rng: np.random.Generator
) -> Iterator[Segment]:
    """Yield the segments of a sound.

    Args:
        name: one of `SOUNDS`.
        duration_s: duration of all segments together.
        levels_db: levels in dBFS, which take turns.
    """
    remaining = round(duration_s * SAMPLE_RATE)
    index = 0
    while remaining > 0:
        # The whole segment is generated even if a part is enough: a shorter sound is the beginning of a longer one.
        length = round(rng.uniform(*_SEGMENT_RANGE_S) * SAMPLE_RATE)
        level_db = levels_db[index % len(levels_db)]
        samples = SOUNDS[name](length, rng)
        if name == "silence":
            segment = Segment(samples[:remaining], None)
        else:
            segment = Segment(_set_level(samples, level_db, rng)[:remaining], level_db)
        yield segment
        remaining -= len(segment.samples)
        index += 1


def _set_level(samples: FloatArray, level_db: float, rng: np.random.Generator) -> FloatArray:
    frame = round(_LEVEL_FRAME_S * SAMPLE_RATE)
    power = np.square(samples[: len(samples) // frame * frame]).reshape(-1, frame).mean(axis=1)
    gain = 10 ** (level_db / 20) / np.sqrt(np.percentile(power, _LEVEL_PERCENTILE))
    fade = np.minimum(1, np.arange(1, len(samples) + 1) / (_FADE_S * SAMPLE_RATE))
    audio = samples * gain * fade * fade[::-1] + white_noise(len(samples), rng) * 10 ** (_BACKGROUND_DB / 20)
    return np.asarray(np.clip(audio, -1, 1), dtype=np.float32)


def _silence(length: int, _: np.random.Generator) -> FloatArray:
    return np.zeros(length, dtype=np.float32)


def mains_hum(length: int, rng: np.random.Generator) -> FloatArray:
    """Generate 50 Hz with harmonics of random strength. The frequency drifts slowly, as in a power grid."""
    drift = 1 + 0.001 * np.sin(2 * np.pi * rng.uniform(0.02, 0.1) * _times(length) + rng.uniform(0, 2 * np.pi))
    phase = 2 * np.pi * np.cumsum(_MAINS_HZ * drift) / SAMPLE_RATE
    fundamental = np.exp(1j * phase)
    hum, wave = np.zeros(length), np.ones(length, dtype=np.complex128)
    for harmonic in range(1, int(_MAX_HARMONIC_HZ / _MAINS_HZ) + 1):
        wave *= fundamental
        strength = rng.lognormal(0, 0.7) / harmonic * (1 if harmonic % 2 == 0 else 0.6)
        hum += np.imag(wave * (strength * np.exp(1j * rng.uniform(0, 2 * np.pi))))
    return normalize_power(hum)


@dataclass(frozen=True, slots=True)
class _Instrument:
    """How a note sounds.

    Attributes:
        tilt: exponent with which harmonics get weaker.
        odd_only: whether even harmonics are missing, as in a clarinet.
        attack_s: duration of the attack.
        decay_s: time constant of the decay; None for a note that is sustained.
        vibrato: relative depth of the vibrato.
    """

    tilt: float
    odd_only: bool
    attack_s: float
    decay_s: float | None
    vibrato: float


_INSTRUMENTS = (
    _Instrument(1.6, False, 0.005, 0.8, 0.0),  # piano
    _Instrument(1.1, False, 0.003, 0.25, 0.0),  # plucked string
    _Instrument(1.0, False, 0.12, None, 0.006),  # bowed strings
    _Instrument(2.2, False, 0.06, None, 0.009),  # flute
    _Instrument(1.2, True, 0.04, None, 0.0),  # clarinet
    _Instrument(0.8, False, 0.03, None, 0.002),  # organ
)
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))
_VIBRATO_RANGE_HZ = (4.5, 6.5)
_CHORD_DEGREES = (0, 3, 4, 5)
_CHORD_BEATS = 4
_NOTE_BEATS = (0.5, 1.0, 1.0, 2.0)


def music(length: int, rng: np.random.Generator) -> FloatArray:
    """Generate a melody with chords, each played by a random instrument in a random key and tempo."""
    melody, chords = (_INSTRUMENTS[index] for index in rng.choice(len(_INSTRUMENTS), 2, replace=False))
    scale = _SCALES[rng.integers(len(_SCALES))]
    tonic_hz = 110 * 2 ** (rng.integers(12) / 12)
    beat_s = 60 / rng.uniform(70, 140)
    audio = np.zeros(length)
    for start_s in np.arange(0, length / SAMPLE_RATE, _CHORD_BEATS * beat_s):
        degree = int(rng.choice(_CHORD_DEGREES))
        for step in (0, 2, 4):
            pitch_hz = tonic_hz * _pitch(scale, degree + step)
            _add_note(audio, chords, float(start_s), _CHORD_BEATS * beat_s, pitch_hz, 0.4, rng)
    start_s, degree = 0.0, 7
    while start_s < length / SAMPLE_RATE:
        note_s = float(rng.choice(_NOTE_BEATS)) * beat_s
        degree = int(np.clip(degree + rng.integers(-3, 4), 3, 18))
        if rng.random() > 0.1:  # otherwise a rest
            _add_note(audio, melody, start_s, note_s, tonic_hz * _pitch(scale, degree), 1.0, rng)
        start_s += note_s
    return normalize_power(audio)


def _pitch(scale: Sequence[int], degree: int) -> float:
    """Return the ratio of a scale degree to the tonic."""
    octave, index = divmod(degree, len(scale))
    return float(2 ** (octave + scale[index] / 12))


def _add_note(
    audio: DoubleArray,
    instrument: _Instrument,
    start_s: float,
    duration_s: float,
    pitch_hz: float,
    strength: float,
    rng: np.random.Generator,
) -> None:
    start = round(start_s * SAMPLE_RATE)
    length = min(round(duration_s * SAMPLE_RATE), len(audio) - start)
    if length <= 0:
        return
    times = _times(length)
    vibrato = instrument.vibrato * np.sin(2 * np.pi * rng.uniform(*_VIBRATO_RANGE_HZ) * times)
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + vibrato)) / SAMPLE_RATE
    note = np.zeros(length)
    for harmonic in range(1, int(_MAX_HARMONIC_HZ / pitch_hz) + 1, 2 if instrument.odd_only else 1):
        note += harmonic**-instrument.tilt * np.sin(harmonic * phase)
    envelope = np.minimum(1, times / instrument.attack_s)
    if instrument.decay_s is not None:
        envelope *= np.exp(-times / instrument.decay_s)
    envelope *= np.minimum(1, (length / SAMPLE_RATE - times) / 0.03)
    audio[start : start + length] += strength * note * envelope


def keyboard_clicks(length: int, rng: np.random.Generator) -> FloatArray:
    """Generate bursts of keystrokes. Each has a sharp press and a softer release."""
    audio = np.zeros(length)
    body_hz, sharp_hz = rng.uniform(150, 350), rng.uniform(2000, 5000)  # of this keyboard
    at_s = rng.uniform(0, 1)
    while at_s < length / SAMPLE_RATE:
        for _ in range(rng.integers(2, 25)):
            strength = rng.lognormal(0, 0.4)
            _add_click(audio, at_s, strength, body_hz, sharp_hz, rng)
            _add_click(audio, at_s + rng.uniform(0.06, 0.12), 0.4 * strength, body_hz, sharp_hz, rng)
            at_s += 0.05 + rng.lognormal(np.log(0.1), 0.5)
        at_s += rng.exponential(1.5)
    return normalize_power(audio)


def _add_click(
    audio: DoubleArray, at_s: float, strength: float, body_hz: float, sharp_hz: float, rng: np.random.Generator
) -> None:
    start = round(at_s * SAMPLE_RATE)
    length = min(round(0.08 * SAMPLE_RATE), len(audio) - start)
    if length <= 0:
        return
    times = _times(length)
    sharp = rng.standard_normal(length) * np.exp(-times / rng.uniform(0.002, 0.006))
    ring = np.sin(2 * np.pi * sharp_hz * rng.uniform(0.8, 1.25) * times) * np.exp(-times / 0.005)
    body = np.sin(2 * np.pi * body_hz * rng.uniform(0.9, 1.1) * times) * np.exp(-times / 0.02)
    audio[start : start + length] += strength * (sharp + 0.7 * ring + 0.5 * body)


def breath(length: int, rng: np.random.Generator) -> FloatArray:
    """Generate inhalations and exhalations: noise with broad resonances, 12 to 20 breaths per minute."""
    audio = np.zeros(length)
    times = _times(length)
    inhale = _band_noise(length, rng, ((rng.uniform(800, 1600), 500), (rng.uniform(2500, 4500), 1500)))
    exhale = _band_noise(length, rng, ((rng.uniform(400, 900), 300), (rng.uniform(1500, 2500), 800)))
    start_s = rng.uniform(-1, 0)
    while start_s < length / SAMPLE_RATE:
        period_s = 60 / rng.uniform(12, 20)
        inhale_s, exhale_s = rng.uniform(0.25, 0.35) * period_s, rng.uniform(0.35, 0.45) * period_s
        audio += inhale * _arch(times, start_s, inhale_s) * rng.uniform(0.4, 1)
        audio += exhale * _arch(times, start_s + inhale_s + 0.05 * period_s, exhale_s) * rng.uniform(0.4, 1)
        start_s += period_s
    return normalize_power(audio)


def _arch(times: DoubleArray, start_s: float, duration_s: float) -> DoubleArray:
    """Return an envelope that rises and falls within the duration, faster than it falls."""
    progress = np.clip((times - start_s) / duration_s, 0, 1)
    envelope: DoubleArray = np.sin(np.pi * progress**0.7) ** 1.5
    return envelope


def _band_noise(length: int, rng: np.random.Generator, bands: Sequence[tuple[float, float]]) -> FloatArray:
    """Generate noise of mean power 1 with resonances, each given by its center and its width in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequencies = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum *= sum(np.exp(-0.5 * ((frequencies - center) / width) ** 2) for center, width in bands)
    return normalize_power(np.fft.irfft(spectrum, length))


def _times(length: int) -> DoubleArray:
    return np.arange(length) / SAMPLE_RATE


SOUNDS: dict[str, Callable[[int, np.random.Generator], FloatArray]] = {
    "silence": _silence,
    "white noise": white_noise,
    "pink noise": pink_noise,
    "mains hum": mains_hum,
    "music": music,
    "keyboard": keyboard_clicks,
    "breath": breath,
}
"""Functions that generate a segment of a sound, of any level. Digital silence is the same at all levels."""
