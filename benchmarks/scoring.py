"""Word error rate, micro-averaged over normalized texts: upper-case A to Z, apostrophes and spaces."""

from __future__ import annotations

import re
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


def normalize(text: str) -> str:
    """Convert to upper case and replace everything except letters and apostrophes by single spaces."""
    return " ".join(re.sub(r"[^A-Z']", " ", text.upper()).split())


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Compare each hypothesis with the reference of the same index."""
    output = jiwer.process_words([normalize(text) for text in references], [normalize(text) for text in hypotheses])
    words = output.hits + output.substitutions + output.deletions
    return Score(100 * output.wer, output.substitutions, output.insertions, output.deletions, words)
