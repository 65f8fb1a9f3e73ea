"""Comparison of settings of the endpointer and of the voice detectors.

Each detector runs over a scene only once for each setting that changes its output. Its decisions, or the probabilities
of Silero, are replayed for all other settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import TypeVar

import numpy as np
from report import track_progress
from signals import pcm16
from vad_scenes import Scene
from vad_scoring import Quality, score_scene

from stream_asr.array_types import FloatArray
from stream_asr.config import SegmenterConfig
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.silero import SileroDetector, SileroModel, SileroProbability
from stream_asr.vad.webrtc import WebrtcDetector

_MIN_SPEECH_MS = (100, 140, 210)
_VOICED_RATIOS = (0.05, 0.1)
_AGGRESSIVENESS, _FRAMES_MS = (1, 2, 3), (10, 20, 30)
_THRESHOLDS, _HYSTERESES = (0.3, 0.4, 0.5, 0.6), (0.1, 0.15, 0.25)

_Setting = tuple[str, SegmenterConfig, VoiceDetector]
_Output = TypeVar("_Output")


@dataclass(frozen=True, slots=True)
class SettingResult:
    """Quality with one setting.

    Attributes:
        setting: description of the setting.
        clean: quality in the clean scene.
        noisy: mean over the scenes with noise.
    """

    detector: str
    setting: str
    clean: Quality
    noisy: Quality


@dataclass
class _Qualities:
    clean: list[Quality] = field(default_factory=list)
    noisy: list[Quality] = field(default_factory=list)


class _ReplayDetector:
    """A `VoiceDetector` that returns recorded decisions."""

    def __init__(self, frame_samples: int, decisions: Iterable[bool]) -> None:
        self.frame_samples = frame_samples
        self._decisions = iter(decisions)

    def __call__(self, frame: bytes) -> bool:
        return next(self._decisions)


class _ReplayProbability:
    """Returns recorded probabilities of speech, as `SileroProbability` does."""

    def __init__(self, probabilities: Iterable[float]) -> None:
        self._probabilities = iter(probabilities)

    def __call__(self, frame: bytes) -> float:
        return next(self._probabilities)


def run_sweep(scenes: list[Scene], detectors: Iterable[str]) -> Iterator[SettingResult]:
    """Measure all settings of the named detectors."""
    settings_of: dict[str, Callable[[Scene], Iterator[_Setting]]] = {
        "webrtc": _webrtc_settings,
        "silero": _silero_settings,
    }
    for name in detectors:
        qualities: dict[str, _Qualities] = {}
        for scene in track_progress(scenes, name):
            for setting, config, detector in settings_of[name](scene):
                found = qualities.setdefault(setting, _Qualities())
                (found.clean if scene.snr_db is None else found.noisy).append(score_scene(scene, config, detector))
        for setting, found in qualities.items():
            yield SettingResult(name, setting, _mean(found.clean), _mean(found.noisy))


def _webrtc_settings(scene: Scene) -> Iterator[_Setting]:
    for aggressiveness, frame_ms in product(_AGGRESSIVENESS, _FRAMES_MS):
        detector = WebrtcDetector(aggressiveness, frame_ms)
        decisions = _run_detector(scene.audio, detector.frame_samples, detector)
        for config in _endpointer_configs(SegmenterConfig(aggressiveness=aggressiveness, vad_frame_ms=frame_ms)):
            name = f"mode {aggressiveness}, {frame_ms} ms frames, {_describe(config)}"
            yield name, config, _ReplayDetector(detector.frame_samples, decisions)


def _silero_settings(scene: Scene) -> Iterator[_Setting]:
    probabilities = _run_detector(scene.audio, SileroDetector.frame_samples, SileroProbability(SileroModel()))
    for threshold, hysteresis in product(_THRESHOLDS, _HYSTERESES):
        base = SegmenterConfig(silero_threshold=threshold, silero_hysteresis=hysteresis)
        for config in _endpointer_configs(base):
            name = f"threshold {threshold:g}, hysteresis {hysteresis:g}, {_describe(config)}"
            yield name, config, SileroDetector(_ReplayProbability(probabilities), threshold, hysteresis)


def _endpointer_configs(base: SegmenterConfig) -> Iterator[SegmenterConfig]:
    for min_speech_ms, voiced_ratio in product(_MIN_SPEECH_MS, _VOICED_RATIOS):
        yield replace(base, min_speech_ms=min_speech_ms, endpoint_voiced_ratio=voiced_ratio)


def _describe(config: SegmenterConfig) -> str:
    return f"{config.min_speech_ms} of {config.start_window_ms} ms, {config.endpoint_voiced_ratio:.0%} voiced at end"


def _run_detector(audio: FloatArray, frame_samples: int, detector: Callable[[bytes], _Output]) -> list[_Output]:
    pcm = pcm16(audio)
    size = 2 * frame_samples
    return [detector(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]


def _mean(qualities: list[Quality]) -> Quality:
    return Quality(*(float(np.mean([getattr(each, figure.name) for each in qualities])) for figure in fields(Quality)))
