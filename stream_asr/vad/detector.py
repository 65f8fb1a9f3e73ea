"""What the segmenter needs of a voice detector."""

from __future__ import annotations

from typing import Protocol


class VoiceDetector(Protocol):
    """Says of one frame of a stream after the other whether it is voiced.

    It may remember what it has heard, so each stream needs its own; its verdicts depend on the samples alone.
    """

    @property
    def frame_samples(self) -> int:
        """Length of the frames that it judges, at 16 kHz."""

    def __call__(self, frame: bytes) -> bool:
        """One frame of 16-bit little-endian PCM → is it voiced?"""
