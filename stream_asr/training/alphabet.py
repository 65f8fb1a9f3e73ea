"""The characters that a model can write, and the conversion of texts to training targets."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stream_asr.acoustic.labels import Labels
from stream_asr.lm.text import APOSTROPHES, SPOKEN_PUNCTUATION


class OutOfAlphabetError(ValueError):
    """A text cannot be written in an alphabet. The message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A text in the form in which a model is trained to write it.

    Attributes:
        text: the normalized text, as the model writes it.
        ids: token ids, in order, without blanks.
        dropped: removed punctuation, with repetitions.
        tokens: tokens of the attention decoder, without begin and end; empty for a model without one.
    """

    text: str
    ids: tuple[int, ...]
    dropped: str
    tokens: tuple[int, ...] = ()

    @property
    def min_frames(self) -> int:
        """Minimum number of frames for CTC, which needs a blank between two equal tokens."""
        return len(self.ids) + sum(a == b for a, b in zip(self.ids, self.ids[1:], strict=False))


class Alphabet:
    """Converts texts to targets for a model.

    Text is converted to lower case unless the model writes both cases. White space becomes single spaces. Punctuation
    that the model cannot write becomes a space; such an apostrophe is removed. All other characters that the model
    cannot write are errors, including symbols that are spoken as words ("%", "&", "€"): dropping them would train the
    model to skip words.

    Args:
        labels: the output tokens of the model.
        tokenize: converts a text to token ids, for models with subword tokens; None if every character is a token.
    """

    def __init__(self, labels: Labels, tokenize: Callable[[str], list[int]] | None = None) -> None:
        self._ids = {token: index for index, token in enumerate(labels.tokens) if len(token) == 1}
        self._tokenize = tokenize
        self._characters = frozenset("".join(labels.tokens) if tokenize else self._ids) - {" "}
        self._lower_case = all(character == character.lower() for character in self._characters)
        self._labels = labels

    @property
    def characters(self) -> str:
        """All characters of the alphabet except the space, sorted."""
        return "".join(sorted(self._characters))

    def encode(self, text: str) -> Target:
        """Convert a text to a target.

        Raises:
            OutOfAlphabetError: the text contains letters, digits or spoken symbols that the model cannot write, or
                nothing that it can.
        """
        kept: list[str] = []
        dropped: list[str] = []
        missing: set[str] = set()
        for character in unicodedata.normalize("NFC", text.lower() if self._lower_case else text):
            if character in self._characters:
                kept.append(character)
            elif character in APOSTROPHES:
                if "'" in self._characters:
                    kept.append("'")
                else:
                    dropped.append(character)
            elif character.isspace():
                kept.append(" ")
            elif _is_punctuation(character):
                kept.append(" ")
                dropped.append(character)
            elif unicodedata.category(character) in ("Cf", "Cc"):
                dropped.append(character)
            else:
                missing.add(character)
        if missing:
            raise OutOfAlphabetError(f"the model cannot write {''.join(sorted(missing))}")
        normalized = " ".join("".join(kept).split())
        if not normalized:
            raise OutOfAlphabetError("the text has no characters that the model can write")
        return Target(normalized, self._token_ids(normalized), "".join(dropped))

    def _token_ids(self, text: str) -> tuple[int, ...]:
        if self._tokenize is None:
            if " " in text and " " not in self._ids:
                raise OutOfAlphabetError("the model cannot write the space between words")
            return tuple(self._ids[character] for character in text)
        ids = tuple(self._tokenize(text))
        if not all(self._labels.tokens[index] for index in ids):  # the text of an unknown token is empty
            raise OutOfAlphabetError(f"the model cannot write {text}")
        return ids


def alphabet_characters(texts: Iterable[str]) -> str:
    """Return the characters that an alphabet needs for texts: lower-case letters, combining marks, digits, apostrophe.

    Returns:
        Each character once, sorted, without the space.
    """
    used = set(unicodedata.normalize("NFC", " ".join(texts).lower()))
    letters = {character for character in used if unicodedata.category(character)[0] in "LMN"}
    return "".join(sorted(letters | ({"'"} if used & set(APOSTROPHES) else set())))


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" and character not in SPOKEN_PUNCTUATION
