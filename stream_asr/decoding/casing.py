"""Case and punctuation: capitals for models that write in one case only, and bare words for the raw mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.base import Decoder, DecoderState, Hypothesis
from stream_asr.events import Word, bare_text

Casing = Callable[[str, bool], str]
"""Changes the case of a word, given whether it is the first word of the utterance.

It must not depend on later words: stable text does not change.
"""

_PRONOUN_I = frozenset(("i", "i'm", "i'll", "i've", "i'd"))
"""The English words that always have a capital letter."""


def sentence_case(word: str, first: bool) -> str:
    """Capitalize the first word of an utterance and the English pronoun "I"."""
    return word[:1].upper() + word[1:] if first or word in _PRONOUN_I else word


def capitalize_first(word: str, first: bool) -> str:
    """Capitalize the first word of an utterance."""
    return word[:1].upper() + word[1:] if first else word


def upper_case(word: str, first: bool) -> str:
    """Write every word in capitals, as a model without small letters does."""
    return word.upper()


def choose_casing(labels: Labels, *, raw: bool) -> Casing | None:
    """Choose the casing of a model's words.

    Args:
        labels: the model's tokens.
        raw: whether to write words as the model itself does.

    Returns:
        None if the words stay as they are.
    """
    if raw:
        return upper_case if labels.uppercase else None
    letters = "".join(labels.tokens)
    if letters != letters.lower():
        return None  # the model writes both cases itself
    # Of the languages that are written with ASCII letters only, English is by far the most likely.
    return sentence_case if letters.isascii() else capitalize_first


def raw_text(text: str, *, uppercase: bool = False) -> str:
    """Return the text of a model that writes punctuation as a CTC model would write it.

    The result for a prefix of whole words is a prefix of the result for the text, so that stable text stays stable.

    Args:
        text: words with punctuation and capitals, separated by spaces.
        uppercase: write capitals, as a CTC model without small letters does; otherwise small letters.
    """
    bare = bare_text(text)
    return bare.upper() if uppercase else bare


def raw_words(words: Iterable[Word], *, uppercase: bool = False) -> tuple[Word, ...]:
    """Return words as `raw_text` writes them. Words that are only punctuation are left out."""
    bare = ((word, raw_text(word.word, uppercase=uppercase)) for word in words)
    return tuple(replace(word, word=text) for word, text in bare if text)


def raw_hypothesis(hypothesis: Hypothesis, *, uppercase: bool = False) -> Hypothesis:
    """Return a hypothesis with its words as `raw_words` writes them."""
    complete = raw_words(hypothesis.words[: hypothesis.complete], uppercase=uppercase)
    others = raw_words(hypothesis.words[hypothesis.complete :], uppercase=uppercase)
    return replace(hypothesis, words=complete + others, complete=len(complete))


@dataclass(frozen=True, slots=True)
class CasedDecoder:
    """Changes the case of another decoder's words. See `stream_asr.decoding.base.Decoder`."""

    decoder: Decoder
    casing: Casing

    def start(self, frame: int) -> CasedState:
        """Return the state of an utterance whose first frame is ``frame`` on the absolute grid."""
        return CasedState(self.decoder.start(frame), self.casing)


@dataclass(frozen=True, slots=True)
class CasedState:
    """The state of another decoder, with its words in another case. See `stream_asr.decoding.base.DecoderState`."""

    state: DecoderState
    casing: Casing

    @property
    def stop_frame(self) -> int:
        """Index of the next frame on the stream's absolute grid."""
        return self.state.stop_frame

    @property
    def stable(self) -> str:
        """The text that can no longer change."""
        words = self.state.stable.split()
        return " ".join(self.casing(word, index == 0) for index, word in enumerate(words))

    def commit(self, log_probs: FloatArray, stop_frame: int) -> CasedState:
        """Return the state after the frames of a commit window."""
        return CasedState(self.state.commit(log_probs, stop_frame), self.casing)

    def preview(self, log_probs: FloatArray) -> Hypothesis:
        """Return the hypothesis after some more frames."""
        return self._apply(self.state.preview(log_probs))

    def finish(self) -> Hypothesis:
        """Return the hypothesis if no frames follow."""
        return self._apply(self.state.finish())

    def _apply(self, hypothesis: Hypothesis) -> Hypothesis:
        words = (replace(word, word=self.casing(word.word, index == 0)) for index, word in enumerate(hypothesis.words))
        return replace(hypothesis, words=tuple(words))
