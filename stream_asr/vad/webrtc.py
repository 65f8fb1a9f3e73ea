"""webrtcvad: energies in six bands against what the background has been, for next to no work."""

from __future__ import annotations

import webrtcvad

from stream_asr.config import SAMPLE_RATE, ms_to_samples


class WebrtcDetector:
    """A `VoiceDetector`. It adapts to the background it hears.

    Args:
        aggressiveness: its mode, 0 to 3.
        frame_ms: 10, 20 or 30.
    """

    def __init__(self, aggressiveness: int, frame_ms: int) -> None:
        self.frame_samples = ms_to_samples(frame_ms)
        self._vad = webrtcvad.Vad(aggressiveness)

    def __call__(self, frame: bytes) -> bool:
        return bool(self._vad.is_speech(frame, SAMPLE_RATE))
