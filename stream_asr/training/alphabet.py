"""What a model can write, and how a text has to be written for it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stream_asr.acoustic.labels import Labels

_APOSTROPHES = "'’ʼ‘`´"
_SPOKEN_MARKS = "%&@#§‰"
"""Marks that stand for words, though Unicode counts them among the punctuation."""


class UnwritableError(ValueError):
    """A text has characters that the alphabet lacks and that are no mere punctuation; the message names them."""


@dataclass(frozen=True, slots=True)
class TokenGraph:
    """A text in the outputs of a model.

    Attributes:
        text: as the model should write it: captions of it would read the same.
        ids: its outputs, in order, without blanks.
        dropped: punctuation that the model cannot write, each as often as it was left out.
    """

    text: str
    ids: tuple[int, ...]
    dropped: str

    @property
    def fewest_frames(self) -> int:
        """CTC has to put a blank between two equal outputs, so each repetition takes a frame more."""
        return len(self.ids) + sum(a == b for a, b in zip(self.ids, self.ids[1:], strict=False))


class Alphabet:
    """Writes texts as a model does.

    Case: as captions have it, lower case unless the model writes both. Space: single. Punctuation that the model
    cannot write becomes a space, an apostrophe nothing. Everything else that it cannot write is an error, marks that
    stand for words included ("%", "&", "€"): left out, they would teach the model not to hear.

    Args:
        labels: what the outputs of the model spell.
        pieces: for a vocabulary of pieces of words, the outputs of a text as the tokenizer divides it; without it,
            every character is an output.
    """

    def __init__(self, labels: Labels, pieces: Callable[[str], list[int]] | None = None) -> None:
        self._ids = {piece: index for index, piece in enumerate(labels.tokens) if len(piece) == 1}
        self._pieces = pieces
        self._writable = frozenset("".join(labels.tokens) if pieces else self._ids) - {" "}
        self._folds = all(character == character.lower() for character in self._writable)
        self._labels = labels

    @property
    def characters(self) -> str:
        """All that it writes but the space, sorted."""
        return "".join(sorted(self._writable))

    def spell(self, text: str) -> TokenGraph:
        """The text as the model should write it.

        Raises:
            UnwritableError: it has letters, digits or spoken marks that the model has not, or nothing else.
        """
        written: list[str] = []
        dropped: list[str] = []
        missing: Counter[str] = Counter()
        for character in unicodedata.normalize("NFC", text.lower() if self._folds else text):
            if character in self._writable:
                written.append(character)
            elif character in _APOSTROPHES:
                if "'" in self._writable:
                    written.append("'")
                else:
                    dropped.append(character)
            elif character.isspace():
                written.append(" ")
            elif _is_punctuation(character):
                written.append(" ")
                dropped.append(character)
            elif unicodedata.category(character) in ("Cf", "Cc"):
                dropped.append(character)
            else:
                missing[character] += 1
        if missing:
            raise UnwritableError("".join(sorted(missing)))
        clean = " ".join("".join(written).split())
        if not clean:
            raise UnwritableError("nothing that can be written")
        return TokenGraph(clean, self._encode(clean), "".join(dropped))

    def _encode(self, text: str) -> tuple[int, ...]:
        if self._pieces is None:
            if " " in text and " " not in self._ids:
                raise UnwritableError("the space between words")
            return tuple(self._ids[character] for character in text)
        ids = tuple(self._pieces(text))
        if not all(self._labels.tokens[index] for index in ids):  # the unknown piece, for one, spells nothing
            raise UnwritableError(text)
        return ids


def collected(texts: Iterable[str]) -> str:
    """The characters that an alphabet for these texts needs: letters, in lower case, their marks, digits, apostrophe.

    Returns:
        Each once, sorted, without the space.
    """
    used = set(unicodedata.normalize("NFC", " ".join(texts).lower()))
    letters = {character for character in used if unicodedata.category(character)[0] in "LMN"}
    return "".join(sorted(letters | ({"'"} if used & set(_APOSTROPHES) else set())))


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" and character not in _SPOKEN_MARKS
