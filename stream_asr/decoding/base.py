"""What turns the frames of an utterance into words: the interface behind which every way of doing it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stream_asr.array_types import FloatArray
from stream_asr.events import Word


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The words of a path.

    Attributes:
        words: in order, with times in seconds since the stream began.
        complete: how many of them, from the first, are followed by the start of another word or by a
            space; the one after them may still get more letters.
        fragment: that one is no word as it stands, as far as the decoder knows any.
    """

    words: tuple[Word, ...]
    complete: int
    fragment: bool = False

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)

    @property
    def complete_text(self) -> str:
        return " ".join(word.word for word in self.words[: self.complete])

    @property
    def confidence(self) -> float:
        """Mean of the words' confidences; 0 without words."""
        return sum(word.confidence for word in self.words) / len(self.words) if self.words else 0.0


class DecoderState(Protocol):
    """What was made of the frames so far. It never changes: each step gives a new one.

    Log-probabilities are natural, float32, of shape (frames, outputs), and continue where the last ended.
    """

    @property
    def stop_frame(self) -> int:
        """Place of the next frame on the stream's absolute grid."""

    @property
    def stable(self) -> str:
        """The words that every continuation begins with."""

    def commit(self, log_probs: FloatArray, stop_frame: int) -> DecoderState:
        """With the frames of a commit window, for good; the text may depend on where commit windows end.

        A model whose receptive field exceeds its stride gives a frame less than the window is long. What is
        missing up to ``stop_frame`` is blank, lest the grid slips by it.
        """

    def preview(self, log_probs: FloatArray) -> Hypothesis:
        """What the text would be after some more frames, which may be thrown away; it begins with `stable`."""

    def finish(self) -> Hypothesis:
        """The text when no frames follow; it begins with `stable`."""


class Decoder(Protocol):
    """Makes decodings of one model's frames; shared by all streams."""

    def start(self, frame: int) -> DecoderState:
        """Nothing heard yet; the first frame to come is ``frame`` of the absolute grid."""
