"""Hotwords: names, products and terms that are more probable here than in general text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from itertools import accumulate
from numbers import Real
from pathlib import Path
from typing import TypeAlias

from stream_asr.config import BeamConfig
from stream_asr.errors import InputError
from stream_asr.lm.text import APOSTROPHES, SPOKEN_PUNCTUATION, split_words, strip_accents

HotwordList: TypeAlias = "Mapping[str, float] | Iterable[str]"
"""Words and phrases, with weights if it is a mapping; 1.0 is the default weight, 0 has no effect."""


class Hotwords:
    """Scores of texts that spell hotwords.

    Each letter of a phrase scores the weight of the phrase, from the first letter on. When a phrase breaks off, its
    score is charged back. A ``context`` is the complete words of a started phrase, each followed by a space.

    Args:
        weights: score of a letter of each phrase, in nats.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._prefix_scores: dict[str, float] = {}
        self._phrase_scores: dict[str, float] = {}
        for phrase, weight in weights.items():
            text = " ".join(split_words(phrase))
            score = weight * _letter_count(text)
            if not text or score < self._phrase_scores.get(text, 0.0):
                continue
            self._phrase_scores[text] = score
            for prefix in accumulate(text):
                prefix_score = weight * _letter_count(prefix)
                self._prefix_scores[prefix] = max(self._prefix_scores.get(prefix, 0.0), prefix_score)

    def __bool__(self) -> bool:
        return bool(self._phrase_scores)

    def has_prefix(self, context: str, letters: str) -> bool:
        """Return whether a phrase begins with the context and then the letters."""
        return context + letters in self._prefix_scores

    def matching_context(self, context: str, letters: str) -> str:
        """Return the context if a phrase continues it with the letters, else an empty string."""
        return context if not letters or context + letters in self._prefix_scores else ""

    def provisional_score(self, context: str, letters: str) -> float:
        """Return the score of an unfinished phrase, without the phrases that ended within it."""
        prefix_score = self._prefix_scores.get(context + letters, 0.0)
        return max(0.0, prefix_score - self._completed_score(context)) if context else prefix_score

    def complete_word(self, context: str, word: str) -> tuple[str, float]:
        """Return the context after a complete word, and the score of the phrase that the word completes."""
        if not self._phrase_scores:
            return "", 0.0
        text = context + word
        score = 0.0
        if text in self._phrase_scores:
            score = max(0.0, self._phrase_scores[text] - self._completed_score(context))
        words = text.split(" ")
        suffixes = (" ".join(words[first:]) + " " for first in range(len(words)))
        return next((suffix for suffix in suffixes if suffix in self._prefix_scores), ""), score

    def _completed_score(self, context: str) -> float:
        """Return the score of the longest phrase that the context begins with."""
        words = context.split()
        prefixes = (" ".join(words[:count]) for count in range(len(words), 0, -1))
        return next((self._phrase_scores[text] for text in prefixes if text in self._phrase_scores), 0.0)


NO_HOTWORDS = Hotwords({})


def hotword_weights(hotwords: HotwordList) -> Mapping[str, float]:
    """Return the weight of each hotword.

    Raises:
        InputError: it is a string, or a phrase is not a string, or a weight is not a number.
    """
    if isinstance(hotwords, str | bytes):
        raise InputError("hotwords must be a list of phrases or a mapping from phrases to weights, not a single string")
    weights = hotwords if isinstance(hotwords, Mapping) else dict.fromkeys(hotwords, 1.0)
    for phrase, weight in weights.items():
        if not isinstance(phrase, str):
            raise InputError(f"hotword {phrase!r} is not a string")
        if not isinstance(weight, Real):
            raise InputError(f"hotword {phrase!r} has weight {weight!r}, which is not a number")
    return weights


def compile_hotwords(hotwords: HotwordList, letters: frozenset[str], config: BeamConfig) -> Hotwords:
    """Check hotwords and convert their weights to scores.

    Accents that the acoustic model does not write are removed.

    Args:
        hotwords: words and phrases.
        letters: the letters that the acoustic model writes.
        config: score of a letter, and the largest weight.

    Raises:
        InputError: the acoustic model cannot write a phrase, or a weight is out of range.
    """
    weights = hotword_weights(hotwords)
    letter_scores = {}
    for phrase, weight in weights.items():
        text = " ".join(split_words(phrase))
        if not letters.issuperset(text.replace(" ", "")):
            text = strip_accents(text)
        foreign = sorted({*text} - letters - {" "}) or sorted(
            {character for character in phrase if _is_spoken_sign(character)}
        )
        if not text or foreign:
            reason = f"the model does not write {' '.join(foreign)}" if foreign else "it has no letters"
            raise InputError(f"hotword {phrase!r}: {reason}; spell it as it is spoken")
        if not 0 <= weight <= config.max_hotword_weight:
            raise InputError(
                f"hotword {phrase!r} has weight {weight}; it must be between 0 and {config.max_hotword_weight:g}"
            )
        if weight:  # without effect, also on the choice of the decoder and on the penalty of unknown words
            letter_scores[text] = weight * config.hotword_bonus
    return Hotwords(letter_scores)


def read_hotwords(path: str | Path) -> dict[str, float]:
    """Read a file of hotwords: one word or phrase a line, with an optional weight, as in ``Anneke Visser : 1.5``.

    Empty lines and lines that begin with # are ignored.

    Raises:
        InputError: the file cannot be read as text, or a weight is not a number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the hotwords in {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; a file of hotwords has one word or phrase a line") from error
    weights = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        phrase, weight = split_weight(line)
        try:
            weights[phrase.strip()] = float(weight)
        except ValueError:
            raise InputError(
                f"{path}, line {number}: {weight.strip()!r} is not a weight; a weight is a number such as 1.5"
            ) from None
    return weights


def split_weight(text: str) -> tuple[str, str]:
    """Split ``phrase:weight`` at the last colon. Without a colon, the weight is "1"."""
    phrase, colon, weight = text.rpartition(":")
    return (phrase, weight) if colon else (text, "1")


def _is_spoken_sign(character: str) -> bool:
    """Return whether a character is spoken but not a letter."""
    if character in APOSTROPHES:
        return False
    is_symbol = unicodedata.category(character)[0] == "S"
    return is_symbol or character.isdigit() or character in SPOKEN_PUNCTUATION


def _letter_count(text: str) -> int:
    return len(text) - text.count(" ")
