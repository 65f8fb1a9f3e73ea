"""What turns the frames of an utterance into words: the greedy way, and the seam for others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stream_asr.arrays import FloatArray
from stream_asr.ctc import Hypothesis, Labels, Path, decode


class Decoding(Protocol):
    """What was made of the frames so far. It never changes: each step gives a new one.

    Log-probabilities are natural, float32, of shape (frames, vocabulary), and continue where the last ended.
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


@dataclass(frozen=True, slots=True)
class GreedyDecoder:
    """The best output of each frame, whatever its neighbours are.

    Args:
        labels, frame_samples: of the model.
    """

    labels: Labels
    frame_samples: int

    def start(self, frame: int) -> GreedyDecoding:
        return GreedyDecoding(self, Path.empty(frame))


@dataclass(frozen=True, slots=True)
class GreedyDecoding:
    """See `Decoding`. The frames are collapsed once, joined, so that no letter at a join is lost or doubled."""

    decoder: GreedyDecoder
    path: Path

    @property
    def stop_frame(self) -> int:
        return self.path.stop_frame

    @property
    def stable(self) -> str:
        return self.finish().complete_text

    def keep(self, log_probs: FloatArray, stop_frame: int) -> GreedyDecoding:
        path = self.path.joined(Path.best(log_probs, self.stop_frame))
        return GreedyDecoding(self.decoder, path.padded(stop_frame, self.decoder.labels.blank))

    def glimpse(self, log_probs: FloatArray) -> Hypothesis:
        return self.keep(log_probs, self.stop_frame + len(log_probs)).finish()

    def finish(self) -> Hypothesis:
        return decode(self.path, self.decoder.labels, self.decoder.frame_samples)
