"""The voice detector of WebRTC: energies in six bands compared with a model of the background. It takes little CPU.

Source: the voice activity detector of the WebRTC project, https://webrtc.org.
"""

from __future__ import annotations

import webrtcvad

from stream_asr.config import SAMPLE_RATE, ms_to_samples


class WebrtcDetector:
    """A `VoiceDetector` that adapts to the background noise of its stream.

    Args:
        aggressiveness: mode of webrtcvad, 0 to 3.
        frame_ms: 10, 20 or 30.
    """

    def __init__(self, aggressiveness: int, frame_ms: int) -> None:
        self.frame_samples = ms_to_samples(frame_ms)
        self._vad = webrtcvad.Vad(aggressiveness)

    def __call__(self, frame: bytes) -> bool:
        return bool(self._vad.is_speech(frame, SAMPLE_RATE))
