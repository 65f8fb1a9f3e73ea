"""The interface of voice detectors."""

from __future__ import annotations

from typing import Protocol


class VoiceDetector(Protocol):
    """Classifies the frames of one stream, in order, as voiced or not.

    A detector may keep a state, so each stream needs its own. The result depends on the samples alone.
    """

    @property
    def frame_samples(self) -> int:
        """Length of a frame in samples at 16 kHz."""

    def __call__(self, frame: bytes) -> bool:
        """Return whether the next frame, 16-bit little-endian PCM, is voiced."""
