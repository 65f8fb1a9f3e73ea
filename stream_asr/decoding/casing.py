"""Captions with capitals, from models that know but one case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.base import Decoder, DecoderState, Hypothesis

Casing = Callable[[str, bool], str]
"""How a word is written, given whether it begins the utterance. Never by what follows: stable text must stay."""

_SELF = frozenset(("i", "i'm", "i'll", "i've", "i'd"))
"""What English writes with a capital wherever it stands."""


def sentence_case(word: str, first: bool) -> str:
    """A capital where an utterance begins, and for "I"."""
    return word[:1].upper() + word[1:] if first or word in _SELF else word


def first_capital(word: str, first: bool) -> str:
    """A capital where an utterance begins; "i" is a word like others in most languages."""
    return word[:1].upper() + word[1:] if first else word


def capitals(word: str, first: bool) -> str:
    """As models write it that have no small letters."""
    return word.upper()


def casing_of(labels: Labels, *, raw: bool) -> Casing | None:
    """How the words of a model are to be written; None for as they come.

    Args:
        raw: as the model itself would.
    """
    if raw:
        return capitals if labels.capitals else None
    letters = "".join(labels.tokens)
    if letters != letters.lower():
        return None  # it knows better
    # Of the languages that need no letters beyond these, English is by far the most likely.
    return sentence_case if letters.isascii() else first_capital


@dataclass(frozen=True, slots=True)
class CasedDecoder:
    """See `Decoder`: another's words in another case."""

    decoder: Decoder
    casing: Casing

    def start(self, frame: int) -> CasedState:
        return CasedState(self.decoder.start(frame), self.casing)


@dataclass(frozen=True, slots=True)
class CasedState:
    """See `DecoderState`."""

    decoding: DecoderState
    casing: Casing

    @property
    def stop_frame(self) -> int:
        return self.decoding.stop_frame

    @property
    def stable(self) -> str:
        words = self.decoding.stable.split()
        return " ".join(self.casing(word, not place) for place, word in enumerate(words))

    def commit(self, log_probs: FloatArray, stop_frame: int) -> CasedState:
        return CasedState(self.decoding.commit(log_probs, stop_frame), self.casing)

    def preview(self, log_probs: FloatArray) -> Hypothesis:
        return self._cased(self.decoding.preview(log_probs))

    def finish(self) -> Hypothesis:
        return self._cased(self.decoding.finish())

    def _cased(self, heard: Hypothesis) -> Hypothesis:
        words = (replace(word, word=self.casing(word.word, not place)) for place, word in enumerate(heard.words))
        return replace(heard, words=tuple(words))
