"""Word error rates: micro-averaged over upper-case A to Z and the apostrophe, everything else being a space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer


@dataclass(frozen=True, slots=True)
class Score:
    """``wer`` in percent; the others count words, ``words`` those of the references."""

    wer: float
    substitutions: int
    insertions: int
    deletions: int
    words: int


def normalized(text: str) -> str:
    return " ".join(re.sub(r"[^A-Z']", " ", text.upper()).split())


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Texts of the same places belong together."""
    output = jiwer.process_words([normalized(text) for text in references], [normalized(text) for text in hypotheses])
    words = output.hits + output.substitutions + output.deletions
    return Score(100 * output.wer, output.substitutions, output.insertions, output.deletions, words)
