"""Voice detectors by name."""

from __future__ import annotations

from collections.abc import Callable

from stream_asr.config import SegmenterConfig
from stream_asr.errors import InputError
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.silero import SileroDetector, SileroModel, SileroProbability
from stream_asr.vad.webrtc import WebrtcDetector

NAMES = ("webrtc", "silero")


def detectors(name: str, config: SegmenterConfig) -> Callable[[], VoiceDetector]:
    """What makes a detector for each stream.

    Args:
        name: one of `NAMES`.

    Raises:
        InputError: there is no detector of that name, or it is not installed.
    """
    if name == "webrtc":
        return lambda: WebrtcDetector(config.aggressiveness, config.vad_frame_ms)
    if name == "silero":
        model = SileroModel()
        threshold, hysteresis = config.silero_threshold, config.silero_hysteresis
        return lambda: SileroDetector(SileroProbability(model), threshold, hysteresis)
    raise InputError(f"there is no voice detector {name!r}; accepted are {' and '.join(NAMES)}")
