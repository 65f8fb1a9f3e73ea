"""Word and character error rates.

Source: Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966 (edit distance);
Wagner and Fischer, "The String-to-String Correction Problem", 1974 (row-wise recurrence).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_APOSTROPHES = re.compile("[’ʼ`´]")
_SEPARATORS = re.compile(r"[^\w']|_")


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Return the minimum number of substitutions, insertions and deletions that turn one sequence into the other."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, actual in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(diagonal + (expected != actual), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def plain_text(text: str) -> str:
    """Return a text in lower case without punctuation, as CTC models write it. Apostrophes stay."""
    return " ".join(_SEPARATORS.sub(" ", _APOSTROPHES.sub("'", text.lower())).split())


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """Micro-averaged error counts: each text counts by its length.

    Attributes:
        word_errors: substitutions, insertions and deletions of words.
        words: words of the references.
        character_errors: substitutions, insertions and deletions of characters, spaces included.
        characters: characters of the references.
    """

    word_errors: int
    words: int
    character_errors: int
    characters: int

    @property
    def wer(self) -> float:
        """Word error rate in percent; may exceed 100 because of insertions."""
        return 100 * self.word_errors / max(1, self.words)

    @property
    def cer(self) -> float:
        """Character error rate in percent."""
        return 100 * self.character_errors / max(1, self.characters)

    @classmethod
    def of(cls, references: Iterable[str], hypotheses: Iterable[str]) -> ErrorRates:
        """Compare hypotheses with their references. Case and punctuation count."""
        word_errors = words = character_errors = characters = 0
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            words += len(reference.split())
            characters += len(reference)
            word_errors += edit_distance(reference.split(), hypothesis.split())
            character_errors += edit_distance(reference, hypothesis)
        return cls(word_errors, words, character_errors, characters)
