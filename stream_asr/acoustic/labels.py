"""The tokens of a CTC model."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from stream_asr.array_types import FloatArray


@dataclass(frozen=True, slots=True)
class Labels:
    """The text of each output of a CTC model.

    Attributes:
        tokens: text of each output. A space begins a new word: "|" of wav2vec 2.0 is " ", "▁the" of SentencePiece is
            " the". Special tokens are empty.
        blank: index of the CTC blank.
        uppercase: whether the model's own tokens have capital letters only; ``tokens`` has them in lower case.
    """

    tokens: tuple[str, ...]
    blank: int
    uppercase: bool = False

    def pad(self, log_probs: FloatArray, frames: int) -> FloatArray:
        """Append frames of blank until there are ``frames`` of them; float32, shape (frames, tokens)."""
        if len(log_probs) >= frames:
            return log_probs
        padding = np.full((frames - len(log_probs), len(self.tokens)), -inf, dtype=np.float32)
        padding[:, self.blank] = 0
        return np.concatenate([log_probs, padding]) if len(log_probs) else padding


def split_token(text: str) -> list[tuple[bool, str]]:
    """Split the text of a token at its spaces.

    Vocabularies have spaces at the beginning of tokens, but a space may be anywhere.

    Returns:
        The parts: whether a new word begins, and its letters, which may be none. The first part continues the word
        that is already being spelled.
    """
    head, *further = text.split(" ")
    return [(False, head), *[(True, letters) for letters in further]]
