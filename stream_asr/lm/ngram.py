"""A back-off n-gram model over words: what is likely to follow, and which words begin with some letters.

N-grams form a trie: the children of a node are the words seen after it, stored side by side in the order of
their ids. Probabilities and back-off weights are natural logarithms in steps of 1/16, which is far finer than
what a text tells about them.

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
SPECIAL = 3
"""Ids below this one are no words; those of the words follow in alphabetical order."""

STEPS_PER_NAT = 16
MOST_WORDS = 2**16 - SPECIAL
"""Word ids are stored in 16 bits."""

Context: TypeAlias = tuple[int, ...]
"""Ids of the last words, as many as make a difference to what follows."""

_MEMORY = 200_000
"""Answers remembered, of each kind; then all are forgotten at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The n-grams of one length, ordered by their words' ids.

    Attributes:
        words: id of each one's last word, uint16, shape (n-grams,).
        costs: minus its log-probability after the words before it, in steps, uint8, shape (n-grams,).
        backoffs: minus the logarithm of its back-off weight, in steps, uint8; empty on the last level.
        children: where its children begin on the next level, uint32, shape (n-grams + 1,); empty on the last.
    """

    words: npt.NDArray[np.uint16]
    costs: npt.NDArray[np.uint8]
    backoffs: npt.NDArray[np.uint8]
    children: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class NgramModel:
    """What follows what. Threads may share one: no answer depends on what is still remembered of earlier ones.

    Attributes:
        vocabulary: the words in alphabetical order; the id of the first is `SPECIAL`.
        levels: unigrams first; their place is their id.
        about: where it comes from, for people.
    """

    vocabulary: tuple[str, ...]
    levels: tuple[Level, ...]
    about: str = ""
    _ids: dict[str, int] = field(init=False, repr=False)
    _scores: dict[tuple[Context, int], float] = field(init=False, repr=False, default_factory=dict)
    _contexts: dict[Context, Context] = field(init=False, repr=False, default_factory=dict)
    _prefixes: dict[str, float] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        ids = {word: at for at, word in enumerate(self.vocabulary, SPECIAL)}
        object.__setattr__(self, "_ids", ids)

    @property
    def order(self) -> int:
        return len(self.levels)

    @property
    def unknown(self) -> float:
        """Log-probability of all words together that are not in the vocabulary."""
        return -float(self.levels[0].costs[UNKNOWN]) / STEPS_PER_NAT

    def id(self, word: str) -> int:
        """The id of a word, or `UNKNOWN`."""
        return self._ids.get(word, UNKNOWN)

    def word(self, number: int) -> str:
        """The word with that id."""
        return self.vocabulary[number - SPECIAL]

    def score(self, context: Context, word: int) -> float:
        """Natural log-probability of a word (or `END`) after ``context``."""
        key = (context, word)
        if (known := self._scores.get(key)) is None:
            _make_room(self._scores)
            known = self._scores[key] = -self._steps(context, word) / STEPS_PER_NAT
        return known

    def after(self, context: Context, word: int) -> Context:
        """The context once ``word`` was said: the longest that was seen with something after it."""
        longer = (*context, word)[1 - self.order :] if self.order > 1 else ()
        if (known := self._contexts.get(longer)) is None:
            _make_room(self._contexts)
            known = longer
            while known and not self._leads_on(known):
                known = known[1:]
            self._contexts[longer] = known
        return known

    def likeliest(self, letters: str) -> float | None:
        """Log-probability, by itself, of the likeliest word that begins with ``letters``; None when none does."""
        if (known := self._prefixes.get(letters)) is None:
            _make_room(self._prefixes)
            first = bisect_left(self.vocabulary, letters)
            stop = bisect_left(self.vocabulary, letters + "\U0010ffff")
            costs = self.levels[0].costs[SPECIAL + first : SPECIAL + stop]
            known = self._prefixes[letters] = -float(costs.min()) / STEPS_PER_NAT if len(costs) else -inf
        return known if known > -inf else None

    def _steps(self, context: Context, word: int) -> int:
        steps = 0
        for skipped in range(len(context)):
            if (node := self._find(context[skipped:])) is None:
                continue
            level = len(context) - skipped
            if (child := self._child(level, node, word)) is not None:
                return steps + int(self.levels[level].costs[child])
            steps += int(self.levels[level - 1].backoffs[node])
        return steps + int(self.levels[0].costs[word])

    def _leads_on(self, context: Context) -> bool:
        node = self._find(context)
        if node is None:
            return False
        children = self.levels[len(context) - 1].children
        return bool(children[node] < children[node + 1])

    def _find(self, ids: Context) -> int | None:
        node: int | None = ids[0]
        for level, word in enumerate(ids[1:], 1):
            assert node is not None
            if (node := self._child(level, node, word)) is None:
                return None
        return node

    def _child(self, level: int, parent: int, word: int) -> int | None:
        """The place on ``level`` of the n-gram that is ``parent`` of the level above and then ``word``."""
        children, words = self.levels[level - 1].children, self.levels[level].words
        first, stop = int(children[parent]), int(children[parent + 1])
        place = first + int(words[first:stop].searchsorted(np.uint16(word)))
        return place if place < stop and words[place] == word else None


def _make_room(memory: dict[Any, Any]) -> None:
    if len(memory) >= _MEMORY:
        memory.clear()
