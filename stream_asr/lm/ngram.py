"""A backoff n-gram model over words.

N-grams form a trie: the children of an n-gram are the words that were seen after it, side by side and ordered by their
ids. Probabilities and backoff weights are stored as negative natural logarithms, quantized to steps of 1/16; the
quantization error is far below the uncertainty of the estimate.

Source: the layout is that of the TRIE of Heafield, "KenLM: Faster and Smaller Language Model Queries", 2011.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

UNKNOWN, START, END = 0, 1, 2
"""Ids of the out-of-vocabulary word and of the start and the end of a paragraph."""

FIRST_WORD_ID = 3
"""The ids of words follow those of the special tokens, in alphabetical order."""

MAX_VOCABULARY_SIZE = 2**16 - FIRST_WORD_ID
"""Word ids are stored in 16 bits."""

STEPS_PER_NAT = 16
"""Quantization of logarithms."""

Context: TypeAlias = tuple[int, ...]
"""Ids of the last words, without those that make no difference to what follows."""

_MAX_CACHE_ENTRIES = 200_000
"""Entries of each cache; a full cache is emptied."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The n-grams of one order, sorted by their words' ids.

    Attributes:
        words: id of the last word of each n-gram, uint16, shape (n-grams,).
        costs: negative log-probability of the last word after the words before it, in steps, uint8, shape (n-grams,).
        backoffs: negative logarithm of the backoff weight, in steps, uint8, shape (n-grams,); empty on the last level.
        children: index on the next level of the first child of each n-gram, uint32, shape (n-grams + 1,); empty on
            the last level.
    """

    words: npt.NDArray[np.uint16]
    costs: npt.NDArray[np.uint8]
    backoffs: npt.NDArray[np.uint8]
    children: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class NgramModel:
    """A backoff n-gram model.

    Threads may share a model: its caches affect speed only.

    Attributes:
        vocabulary: the words in alphabetical order; the id of the first word is `FIRST_WORD_ID`.
        levels: the n-grams of each order, unigrams first; the index of a unigram is its word's id.
        about: a description of the model's text, for people.
    """

    vocabulary: tuple[str, ...]
    levels: tuple[Level, ...]
    about: str = ""
    _ids: dict[str, int] = field(init=False, repr=False)
    _log_prob_cache: dict[tuple[Context, int], float] = field(init=False, repr=False, default_factory=dict)
    _context_cache: dict[Context, Context] = field(init=False, repr=False, default_factory=dict)
    _prefix_cache: dict[str, float] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        ids = {word: word_id for word_id, word in enumerate(self.vocabulary, FIRST_WORD_ID)}
        object.__setattr__(self, "_ids", ids)

    @property
    def order(self) -> int:
        """Number of words in the longest n-grams."""
        return len(self.levels)

    @property
    def oov_log_prob(self) -> float:
        """Unigram log-probability of all out-of-vocabulary words together."""
        return -float(self.levels[0].costs[UNKNOWN]) / STEPS_PER_NAT

    def word_id(self, word: str) -> int:
        """Return the id of a word; `UNKNOWN` if the word is out of vocabulary."""
        return self._ids.get(word, UNKNOWN)

    def log_prob(self, context: Context, word_id: int) -> float:
        """Return the natural log-probability of a word, or of `END`, in a context."""
        key = (context, word_id)
        if (log_prob := self._log_prob_cache.get(key)) is None:
            _empty_if_full(self._log_prob_cache)
            log_prob = self._log_prob_cache[key] = -self._cost(context, word_id) / STEPS_PER_NAT
        return log_prob

    def next_context(self, context: Context, word_id: int) -> Context:
        """Return the context after one more word: the longest suffix that the model has seen continued."""
        longest = (*context, word_id)[1 - self.order :] if self.order > 1 else ()
        if (suffix := self._context_cache.get(longest)) is None:
            _empty_if_full(self._context_cache)
            suffix = longest
            while suffix and not self._has_children(suffix):
                suffix = suffix[1:]
            self._context_cache[longest] = suffix
        return suffix

    def max_unigram_log_prob(self, prefix: str) -> float | None:
        """Return the highest unigram log-probability of the words that begin with ``prefix``; None without such a word.

        It is the look-ahead score of a partial word.
        """
        if (log_prob := self._prefix_cache.get(prefix)) is None:
            _empty_if_full(self._prefix_cache)
            first = bisect_left(self.vocabulary, prefix)
            stop = bisect_left(self.vocabulary, prefix + "\U0010ffff")
            costs = self.levels[0].costs[FIRST_WORD_ID + first : FIRST_WORD_ID + stop]
            log_prob = self._prefix_cache[prefix] = -float(costs.min()) / STEPS_PER_NAT if len(costs) else -inf
        return log_prob if log_prob > -inf else None

    def _cost(self, context: Context, word_id: int) -> int:
        """Return the negative log-probability of a word in a context, in steps, backing off where it must."""
        cost = 0
        for skipped in range(len(context)):
            if (index := self._find(context[skipped:])) is None:
                continue
            level = len(context) - skipped
            if (child := self._find_child(level, index, word_id)) is not None:
                return cost + int(self.levels[level].costs[child])
            cost += int(self.levels[level - 1].backoffs[index])
        return cost + int(self.levels[0].costs[word_id])

    def _has_children(self, context: Context) -> bool:
        index = self._find(context)
        if index is None:
            return False
        children = self.levels[len(context) - 1].children
        return bool(children[index] < children[index + 1])

    def _find(self, ids: Context) -> int | None:
        """Return the index of an n-gram on its level."""
        index: int | None = ids[0]
        for level, word_id in enumerate(ids[1:], 1):
            assert index is not None
            if (index := self._find_child(level, index, word_id)) is None:
                return None
        return index

    def _find_child(self, level: int, parent: int, word_id: int) -> int | None:
        """Return the index on ``level`` of the n-gram that adds a word to the n-gram ``parent`` of the level above."""
        children, words = self.levels[level - 1].children, self.levels[level].words
        first, stop = int(children[parent]), int(children[parent + 1])
        index = first + int(words[first:stop].searchsorted(np.uint16(word_id)))
        return index if index < stop and words[index] == word_id else None


def _empty_if_full(cache: dict[Any, Any]) -> None:
    if len(cache) >= _MAX_CACHE_ENTRIES:
        cache.clear()
