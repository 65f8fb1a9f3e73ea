"""What turns the frames of an utterance into words: the interface behind which every way of doing it stands."""

from __future__ import annotations

from typing import Protocol

from stream_asr.arrays import FloatArray
from stream_asr.ctc import Hypothesis


class Decoding(Protocol):
    """What was made of the frames so far. It never changes: each step gives a new one.

    Log-probabilities are natural, float32, of shape (frames, outputs), and continue where the last ended.
    """

    @property
    def stop_frame(self) -> int:
        """Place of the next frame on the stream's absolute grid."""

    @property
    def stable(self) -> str:
        """The words that every continuation begins with."""

    def keep(self, log_probs: FloatArray, stop_frame: int) -> Decoding:
        """With the frames of a commit window, for good; the text may depend on where commit windows end.

        A model whose receptive field exceeds its stride gives a frame less than the window is long. What is
        missing up to ``stop_frame`` is blank, lest the grid slips by it.
        """

    def glimpse(self, log_probs: FloatArray) -> Hypothesis:
        """What the text would be after some more frames, which may be thrown away; it begins with `stable`."""

    def finish(self) -> Hypothesis:
        """The text when no frames follow; it begins with `stable`."""


class Decoder(Protocol):
    """Makes decodings of one model's frames; shared by all streams."""

    def start(self, frame: int) -> Decoding:
        """Nothing heard yet; the first frame to come is ``frame`` of the absolute grid."""
