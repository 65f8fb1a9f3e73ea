"""Settings of segmenter and detectors against each other.

A detector hears each scene once; its verdicts, or Silero's probabilities, are then judged under every setting that
does not change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from itertools import product

import numpy as np
from detection import Quality, judge
from rich.progress import track
from scenes import Scene
from sound import pcm16

from stream_asr.array_types import FloatArray
from stream_asr.config import SegmenterConfig
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.silero import SileroDetector, SileroModel, SileroProbability
from stream_asr.vad.webrtc import WebrtcDetector

_MIN_SPEECH_MS = (100, 140, 210)
_VOICED_RATIOS = (0.05, 0.1)
_MODES, _FRAMES_MS = (1, 2, 3), (10, 20, 30)
_THRESHOLDS, _HYSTERESES = (0.3, 0.4, 0.5, 0.6), (0.1, 0.15, 0.25)


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting.

    Attributes:
        clean: in clean sound.
        noisy: the mean over the scenes with noise.
    """

    detector: str
    setting: str
    clean: Quality
    noisy: Quality


@dataclass
class _Heard:
    clean: list[Quality] = field(default_factory=list)
    noisy: list[Quality] = field(default_factory=list)


class _Replayed:
    """A `VoiceDetector` whose verdicts are known."""

    def __init__(self, frame_samples: int, verdicts: Iterable[bool]) -> None:
        self.frame_samples = frame_samples
        self._verdicts = iter(verdicts)

    def __call__(self, frame: bytes) -> bool:
        return next(self._verdicts)


def trials(heard: list[Scene], detectors: Iterable[str]) -> Iterator[Trial]:
    """All settings of these detectors."""
    for name in detectors:
        judged: dict[str, _Heard] = {}
        for scene in track(heard, name, transient=True):
            for setting, config, detector in {"webrtc": _webrtc, "silero": _silero}[name](scene):
                kept = judged.setdefault(setting, _Heard())
                (kept.clean if scene.snr_db is None else kept.noisy).append(judge(scene, config, detector))
        for setting, kept in judged.items():
            yield Trial(name, setting, _mean(kept.clean), _mean(kept.noisy))


def _webrtc(scene: Scene) -> Iterator[tuple[str, SegmenterConfig, VoiceDetector]]:
    for mode, frame_ms in product(_MODES, _FRAMES_MS):
        detector = WebrtcDetector(mode, frame_ms)
        verdicts = _verdicts(scene.audio, detector.frame_samples, detector)
        for config in _configs(aggressiveness=mode, vad_frame_ms=frame_ms):
            name = f"mode {mode}, frames of {frame_ms} ms, {_shared(config)}"
            yield name, config, _Replayed(detector.frame_samples, verdicts)


def _silero(scene: Scene) -> Iterator[tuple[str, SegmenterConfig, VoiceDetector]]:
    probabilities = _verdicts(scene.audio, SileroDetector.frame_samples, SileroProbability(SileroModel()))
    for threshold, hysteresis in product(_THRESHOLDS, _HYSTERESES):
        for config in _configs(silero_threshold=threshold, silero_hysteresis=hysteresis):
            known = iter(probabilities)
            name = f"{threshold:g} less {hysteresis:g}, {_shared(config)}"
            yield name, config, SileroDetector(lambda frame, known=known: next(known), threshold, hysteresis)


def _configs(**settings: float) -> Iterator[SegmenterConfig]:
    for least_ms, tolerated in product(_MIN_SPEECH_MS, _VOICED_RATIOS):
        yield SegmenterConfig(min_speech_ms=least_ms, endpoint_voiced_ratio=tolerated, **settings)


def _shared(config: SegmenterConfig) -> str:
    return f"{config.min_speech_ms} of {config.start_window_ms} ms, {config.endpoint_voiced_ratio:.0%} voiced at end"


def _verdicts(audio: FloatArray, frame_samples: int, detector: Callable[[bytes], float]) -> list[float]:
    pcm = pcm16(audio)
    size = 2 * frame_samples
    return [detector(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]


def _mean(qualities: list[Quality]) -> Quality:
    """Figure by figure."""
    return Quality(
        *(float(np.mean([getattr(quality, field.name) for quality in qualities])) for field in fields(Quality))
    )
