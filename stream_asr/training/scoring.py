"""Word and character error rates.

Source: the edit distance of Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals",
1966, by the row-wise recurrence of Wagner and Fischer, "The String-to-String Correction Problem", 1974.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The fewest substitutions, insertions and deletions that make one of the other."""
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, got in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(diagonal + (wanted != got), row[j] + 1, row[j - 1] + 1)
    return row[-1]


@dataclass(frozen=True, slots=True)
class Score:
    """How far texts are from what was said; micro-averaged: long texts count by their length.

    Attributes:
        word_errors: substitutions, insertions and deletions.
        words: of the references.
        character_errors: the same among characters, the spaces included.
        characters: of the references.
    """

    word_errors: int
    words: int
    character_errors: int
    characters: int

    @property
    def wer(self) -> float:
        """Word error rate in percent; above 100 where more is made up than was said."""
        return 100 * self.word_errors / max(1, self.words)

    @property
    def cer(self) -> float:
        """Character error rate in percent."""
        return 100 * self.character_errors / max(1, self.characters)

    @classmethod
    def of(cls, references: Iterable[str], hypotheses: Iterable[str]) -> Score:
        """Hold texts against what was said. Both must be written alike: case and punctuation count."""
        word_errors = words = character_errors = characters = 0
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            words += len(reference.split())
            characters += len(reference)
            word_errors += edit_distance(reference.split(), hypothesis.split())
            character_errors += edit_distance(reference, hypothesis)
        return cls(word_errors, words, character_errors, characters)
