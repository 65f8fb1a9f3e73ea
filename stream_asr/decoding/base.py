"""The interface of decoders, which turn the frames of an utterance into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stream_asr.array_types import FloatArray
from stream_asr.events import Word


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The words of a decoded utterance, or of its audio so far.

    Attributes:
        words: in order, with times in seconds since the stream began.
        complete: number of words, from the first, that are followed by a space or by another word. The one word after
            them may still get more letters.
        fragment: whether the incomplete last word is out of vocabulary as it stands, so that it is most likely the
            beginning of a longer word. False for a decoder without a vocabulary.
    """

    words: tuple[Word, ...]
    complete: int
    fragment: bool = False

    @property
    def text(self) -> str:
        """The words, joined by spaces."""
        return " ".join(word.word for word in self.words)

    @property
    def complete_words(self) -> list[str]:
        """The words that can get no more letters."""
        return [word.word for word in self.words[: self.complete]]

    @property
    def confidence(self) -> float:
        """The mean confidence of the words, 0 to 1; 0 without words."""
        return sum(word.confidence for word in self.words) / len(self.words) if self.words else 0.0


class DecoderState(Protocol):
    """The decoder's state after some frames of an utterance. It is immutable: each step returns a new state.

    Log-probabilities are natural logarithms, float32, of shape (frames, tokens). The first row is frame `stop_frame`.
    """

    @property
    def stop_frame(self) -> int:
        """Index of the next frame on the stream's absolute grid."""

    @property
    def stable(self) -> str:
        """The text that can no longer change; see `stream_asr.decoding.agreement`."""

    def commit(self, log_probs: FloatArray, stop_frame: int) -> DecoderState:
        """Return the state after the frames of a commit window.

        The text may depend on where commit windows end, but not on previews. Frames that are missing before
        ``stop_frame`` count as blank, which keeps the state on the absolute grid: a model whose receptive field is
        longer than its stride returns fewer frames than the window has.
        """

    def preview(self, log_probs: FloatArray) -> Hypothesis:
        """Return the hypothesis after some more frames, without changing the state; it begins with `stable`."""

    def finish(self) -> Hypothesis:
        """Return the hypothesis if no frames follow; it begins with `stable`."""


class Decoder(Protocol):
    """Starts a `DecoderState` for each utterance. One decoder serves all streams."""

    def start(self, frame: int) -> DecoderState:
        """Return the state of an utterance whose first frame is ``frame`` on the stream's absolute grid."""
