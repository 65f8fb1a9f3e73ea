"""The output alphabet of a CTC model."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from stream_asr.array_types import FloatArray


@dataclass(frozen=True, slots=True)
class Labels:
    """What the outputs of a model spell.

    Attributes:
        tokens: text of each output id. A space begins a new word ("|" of wav2vec 2.0 is " ", "▁the" of a
            SentencePiece is " the"); special tokens are empty.
        blank: the id of the CTC blank.
        capitals: the model itself has no small letters; the pieces have them in place of its capitals.
    """

    tokens: tuple[str, ...]
    blank: int
    capitals: bool = False

    def padded(self, log_probs: FloatArray, frames: int) -> FloatArray:
        """With frames of nothing after them, up to that many; float32, shape (frames, pieces)."""
        if len(log_probs) >= frames:
            return log_probs
        nothing = np.full((frames - len(log_probs), len(self.tokens)), -inf, dtype=np.float32)
        nothing[:, self.blank] = 0
        return np.concatenate([log_probs, nothing]) if len(log_probs) else nothing
