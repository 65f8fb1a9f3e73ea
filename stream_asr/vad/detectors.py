"""Voice detectors by name."""

from __future__ import annotations

from collections.abc import Callable

from stream_asr.config import SegmenterConfig
from stream_asr.errors import InputError
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.silero import SileroDetector, SileroModel, SileroProbability
from stream_asr.vad.webrtc import WebrtcDetector

DETECTORS = ("webrtc", "silero")


def detector_factory(name: str, config: SegmenterConfig) -> Callable[[], VoiceDetector]:
    """Return a function that makes a voice detector for each stream.

    Args:
        name: one of `DETECTORS`.
        config: thresholds and frame length.

    Raises:
        InputError: the name is unknown, or the detector is not installed.
    """
    if name == "webrtc":
        return lambda: WebrtcDetector(config.aggressiveness, config.vad_frame_ms)
    if name == "silero":
        model = SileroModel()
        threshold, hysteresis = config.silero_threshold, config.silero_hysteresis
        return lambda: SileroDetector(SileroProbability(model), threshold, hysteresis)
    raise InputError(f"unknown voice detector {name!r}; accepted: {' and '.join(DETECTORS)}")
