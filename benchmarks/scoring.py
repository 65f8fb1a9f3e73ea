"""Word error rate, micro-averaged over normalized texts: upper-case A to Z, digits, apostrophes and spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer


@dataclass(frozen=True, slots=True)
class Score:
    """Word errors of a set of texts.

    Attributes:
        wer: word error rate in percent.
        substitutions: number of substituted words.
        insertions: number of inserted words.
        deletions: number of deleted words.
        words: number of words in the references.
    """

    wer: float
    substitutions: int
    insertions: int
    deletions: int
    words: int


_APOSTROPHES = re.compile("[’‘ʼ＇`´]")
_QUOTATION_MARKS = re.compile(r"(?<![A-Z0-9])'+|'+(?![A-Z0-9])")
"""Apostrophes that do not connect two letters. Those of quotations and of words such as ``'TIS`` are the same marks."""


def normalize(text: str) -> str:
    """Convert a text to upper case without accents and punctuation, for comparison with others.

    Hyphens and other punctuation separate words, apostrophes inside a word stay, and numbers stay as they are written:
    ``1990`` is not ``NINETEEN NINETY``.
    """
    decomposed = unicodedata.normalize("NFKD", _APOSTROPHES.sub("'", text))
    letters = "".join(character for character in decomposed if not unicodedata.combining(character)).upper()
    return " ".join(re.sub(r"[^A-Z0-9']", " ", _QUOTATION_MARKS.sub(" ", letters)).split())


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Compare each hypothesis with the reference of the same index."""
    output = jiwer.process_words([normalize(text) for text in references], [normalize(text) for text in hypotheses])
    words = output.hits + output.substitutions + output.deletions
    return Score(100 * output.wer, output.substitutions, output.insertions, output.deletions, words)
