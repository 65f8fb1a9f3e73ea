"""Spot phrases in the output of a CTC model.

A phrase is compared with the best path through the same frames: its score is the log-probability of its best alignment
minus that of the best path, so it is 0 where the model writes exactly this phrase, and lower elsewhere. All phrases
are searched in one pass, and may start and end in any frame.

Source: Andrusenko et al., "Fast Context-Biasing for CTC and Transducer ASR Models with CTC-based Word Spotter", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.decoding.alignment import ForcedAligner
from stream_asr.decoding.alignment_lattice import Indices, Lattice


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A place where a phrase may have been spoken.

    Attributes:
        phrase: index of the phrase.
        first_frame: first frame of its first token.
        stop_frame: frame after the last frame of its last token.
        score: log-probability of the phrase relative to the best path, at most 0.
    """

    phrase: int
    first_frame: int
    stop_frame: int
    score: float


class PhraseSpotter:
    """Searches phrases. One spotter serves all streams.

    Args:
        aligner: makes the lattices of phrases.
        phrases: the words of each phrase.
        min_scores: lowest score of an occurrence of each phrase.
    """

    def __init__(self, aligner: ForcedAligner, phrases: Sequence[Sequence[str]], min_scores: Sequence[float]) -> None:
        lattices = [aligner.phrase_lattice(words) for words in phrases]
        sizes = [len(lattice.tokens) for lattice in lattices]
        offsets = np.cumsum([0, *sizes])
        degree = max((len(lattice.predecessors) for lattice in lattices), default=1)
        self._tokens = np.concatenate([lattice.tokens for lattice in lattices] or [np.zeros(0, dtype=np.int64)])
        self._predecessors = np.zeros((degree, offsets[-1]), dtype=np.int64)
        for lattice, offset, size in zip(lattices, offsets, sizes, strict=False):
            # Rows are repeated up to the highest degree.
            rows = np.arange(degree) % len(lattice.predecessors)
            self._predecessors[:, offset : offset + size] = lattice.predecessors[rows] + offset
        self._entries = _join([_spoken(lattice, lattice.entries) for lattice in lattices], offsets)
        self._entry_set = frozenset(self._entries.tolist())
        finals = [_spoken(lattice, lattice.finals) for lattice in lattices]
        self._finals = _join(finals, offsets)
        self._phrases = np.repeat(np.arange(len(lattices)), [len(states) for states in finals])
        self._min_scores = np.array(min_scores, dtype=np.float32)

    def find(self, log_probs: FloatArray) -> list[Occurrence]:
        """Return where the phrases may have been spoken; occurrences of different phrases may overlap.

        Args:
            log_probs: natural logarithms, float32, shape (frames, tokens).
        """
        if not len(log_probs) or not len(self._tokens):
            return []
        relative = log_probs - log_probs.max(axis=1, keepdims=True)
        scores = np.empty((len(log_probs), len(self._tokens)), dtype=np.float32)
        before = np.full(len(self._tokens), -inf, dtype=np.float32)
        for after, frame in zip(scores, relative, strict=True):
            np.maximum.reduce(before[self._predecessors], axis=0, out=after)
            after[self._entries] = np.maximum(after[self._entries], 0)
            after += frame[self._tokens]
            before = after
        ends = scores[:, self._finals]
        found: list[Occurrence] = []
        for final in np.flatnonzero((ends >= self._min_scores[self._phrases]).any(axis=0)).tolist():
            found += self._trace(int(self._phrases[final]), int(self._finals[final]), scores)
        return _without_overlaps(found)

    def _trace(self, phrase: int, final: int, scores: FloatArray) -> list[Occurrence]:
        """Return the occurrences of a phrase that end in a state, best first and without overlaps."""
        found: list[Occurrence] = []
        ends = scores[:, final].copy()
        while ends[stop := int(ends.argmax())] >= self._min_scores[phrase]:
            state, frame = final, stop
            while frame:
                predecessors = self._predecessors[:, state]
                before = scores[frame - 1].take(predecessors)
                if state in self._entry_set and before.max() < 0:  # entering was better
                    break
                frame, state = frame - 1, int(predecessors[before.argmax()])
            found.append(Occurrence(phrase, frame, stop + 1, float(ends[stop])))
            ends[frame : stop + 1] = -inf
        return found


def _spoken(lattice: Lattice, states: Indices) -> Indices:
    """Return the states whose token adds to a word."""
    spoken: Indices = states[lattice.words[0, states] < lattice.words[1, states]]
    return spoken


def _join(states: Sequence[Indices], offsets: Indices) -> Indices:
    shifted = [own + offset for own, offset in zip(states, offsets, strict=False)]
    joined: Indices = np.concatenate([*shifted, np.zeros(0, dtype=np.int64)])
    return joined


def _without_overlaps(found: Sequence[Occurrence]) -> list[Occurrence]:
    """Drop occurrences that overlap a better one of the same phrase."""
    kept: list[Occurrence] = []
    for occurrence in sorted(found, key=lambda occurrence: -occurrence.score):
        if not any(
            other.phrase == occurrence.phrase
            and occurrence.first_frame < other.stop_frame
            and other.first_frame < occurrence.stop_frame
            for other in kept
        ):
            kept.append(occurrence)
    return kept
