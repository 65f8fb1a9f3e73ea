"""Words and phrases that are more likely here than elsewhere: names, products, terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

from stream_asr.errors import InputError
from stream_asr.lm.text import unaccented, words_of

HotwordList: TypeAlias = "Mapping[str, float] | Iterable[str]"
"""Words and phrases, with their weights where it is a mapping; 1.0 is usual, 0 does nothing."""

MOST_WEIGHT = 10.0


class Hotwords:
    """What a text is worth for spelling hotwords.

    A phrase is worth its weight for each letter, from its first letter on; what was paid for one that breaks off
    is charged back. The words before it are ``phrase``: words of a hotword phrase, each with a space after it.

    Args:
        weights: nats a letter of each phrase.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._begun: dict[str, float] = {}
        self._whole: dict[str, float] = {}
        for phrase, weight in weights.items():
            text = " ".join(words_of(phrase))
            worth = weight * (len(text) - text.count(" "))
            if not text or worth < self._whole.get(text, 0.0):
                continue
            self._whole[text] = worth
            for beginning in accumulate(text):
                letters = len(beginning) - beginning.count(" ")
                self._begun[beginning] = max(self._begun.get(beginning, 0.0), weight * letters)

    def __bool__(self) -> bool:
        return bool(self._whole)

    def still(self, phrase: str, letters: str) -> str:
        """The phrase that ``letters`` go on with, or none."""
        return phrase if not letters or phrase + letters in self._begun else ""

    def spells(self, phrase: str, letters: str) -> bool:
        """Do the letters begin or go on with a hotword?"""
        return phrase + letters in self._begun

    def pending(self, phrase: str, letters: str) -> float:
        """What an unfinished phrase was paid so far, beyond those that were finished on its way."""
        begun = self._begun.get(phrase + letters, 0.0)
        return max(0.0, begun - self._finished(phrase)) if phrase else begun

    def said(self, phrase: str, word: str) -> tuple[str, float]:
        """After a whole word: the phrase that may go on, and what is paid for good."""
        if not self._whole:
            return "", 0.0
        text = phrase + word
        paid = max(0.0, self._whole[text] - self._finished(phrase)) if text in self._whole else 0.0
        words = text.split(" ")
        endings = (" ".join(words[first:]) + " " for first in range(len(words)))
        return next((ending for ending in endings if ending in self._begun), ""), paid

    def _finished(self, phrase: str) -> float:
        """What was paid for good for a phrase that ``phrase`` begins with."""
        words = phrase.split()
        beginnings = (" ".join(words[:count]) for count in range(len(words), 0, -1))
        return next((self._whole[text] for text in beginnings if text in self._whole), 0.0)


NO_HOTWORDS = Hotwords({})


def compiled(listed: HotwordList, letters: frozenset[str], letter_bonus: float) -> Hotwords:
    """Hotwords for a model that writes ``letters``, at ``letter_bonus`` nats a letter for weight 1.

    Accents that it does not write are taken off.

    Raises:
        InputError: a phrase that it cannot write; the message names it.
    """
    weights = listed if isinstance(listed, Mapping) else dict.fromkeys(listed, 1.0)
    found = {}
    for phrase, weight in weights.items():
        text = " ".join(words_of(phrase))
        if not letters.issuperset(text.replace(" ", "")):
            text = unaccented(text)
        strange = sorted({*text} - letters - {" "}) or [letter for letter in phrase if letter.isdigit()]
        if not text or strange:
            what = f"the model does not write {' '.join(strange)}" if strange else "it has no letters"
            raise InputError(f"hotword {phrase!r}: {what}; spell it as it is spoken")
        if not 0 <= weight <= MOST_WEIGHT:
            raise InputError(f"hotword {phrase!r} has weight {weight}; it takes 0 to {MOST_WEIGHT:g}")
        if weight:  # or else a list of zeros would make a difference: to unknown words, and to how we decode
            found[text] = weight * letter_bonus
    return Hotwords(found)


def read_hotwords(path: str | Path) -> dict[str, float]:
    """Words or phrases, one a line, with a weight after a colon where it is not 1: ``Anneke Visser : 1.5``.

    Empty lines and lines that begin with # are left out.

    Raises:
        InputError: the file cannot be read as text, or a weight is no number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the hotwords in {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8; hotwords are one word or phrase a line") from error
    weights = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        phrase, _colon, weight = line.rpartition(":") if ":" in line else (line, "", "1")
        try:
            weights[phrase.strip()] = float(weight)
        except ValueError:
            raise InputError(f"{path}, line {number}: {weight.strip()!r} is no weight, such as 1.5") from None
    return weights
