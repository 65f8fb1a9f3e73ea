"""The words of a language model by their sounds: a tree whose branches are phones, in arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stream_asr.lm.lexicon import Lexicon
from stream_asr.lm.ngram import STEPS_PER_NAT, NgramModel

ROOT = 0
"""Nothing was heard yet; it stands for "nowhere" as well, because no phone leads there."""


class SoundTree:
    """A node is all pronunciations that begin with the same phones.

    Args:
        model: that the lexicon belongs to.
        phones: names of all that may be heard, those of the lexicon among them; branches are their places.

    Attributes:
        further: the node that each phone leads to from each, int32, shape (nodes, phones); `ROOT` for none.
        likeliest: natural log-probability, by itself, of the likeliest word among all of a node's, float64, (nodes,).
        phones: how many a node's pronunciations have in common, int64, shape (nodes,).
        ends: some word sounds like that and no more, bool, shape (nodes,).
    """

    def __init__(self, lexicon: Lexicon, model: NgramModel, phones: Sequence[str]) -> None:
        self._lexicon, self._words = lexicon, lexicon.words
        self._costs = model.levels[0].costs[lexicon.words].astype(np.int64)
        lengths = np.fromiter(map(len, lexicon.pronunciations), dtype=np.int64)
        longest = int(lengths.max())
        known = np.arange(longest) < lengths[:, None]
        sounds = np.zeros(known.shape, dtype=np.int64)
        places = np.array([phones.index(phone) for phone in lexicon.phones])
        sounds[known] = places[np.frombuffer(b"".join(lexicon.pronunciations), dtype=np.uint8)]
        count = len(lengths)
        at = np.zeros(count, dtype=np.int64)  # the node of each pronunciation's phones so far
        differs = np.zeros(count, dtype=np.bool_)  # from the one before
        differs[0] = True
        firsts, stops, alike = [np.zeros(1, dtype=np.int64)], [np.full(1, count)], [(lengths == 0).sum()[None]]
        branches, nodes = [], 1
        for place in range(longest):
            differs[1:] |= sounds[1:, place] != sounds[:-1, place]
            differs[1:] |= known[1:, place] != known[:-1, place]
            rows = np.flatnonzero(known[:, place])
            new = differs[rows]
            own = nodes + np.cumsum(new) - 1
            first = rows[new]
            branches.append((at[first], sounds[first, place], own[new]))
            at[rows] = own
            sizes = np.bincount(own - nodes)
            ended = np.bincount(own - nodes, weights=lengths[rows] == place + 1).astype(np.int64)
            firsts, stops, alike = [*firsts, first], [*stops, first + sizes], [*alike, ended]
            nodes += len(first)
        self.phones = np.repeat(np.arange(longest + 1), [len(first) for first in firsts])
        self._first, self._stop, self._alike = map(np.concatenate, (firsts, stops, alike))
        self.ends = self._alike > 0
        self.further = np.full((nodes, len(phones)), ROOT, dtype=np.int32)
        for parents, further, children in branches:
            self.further[parents, further] = children
        self.likeliest = -self._least(nodes) / STEPS_PER_NAT
        self._known: dict[int, tuple[int, ...]] = {}

    def words(self, node: int) -> tuple[int, ...]:
        """Ids of those that sound like that and no more, the likeliest first."""
        if (words := self._known.get(node)) is None:
            first = int(self._first[node])
            part = slice(first, first + int(self._alike[node]))  # before the longer ones
            by_cost = self._words[part][np.argsort(self._costs[part], kind="stable")]
            words = self._known[node] = tuple(dict.fromkeys(by_cost.tolist()))
        return words

    def is_spoken(self, word: int) -> bool:
        """Is it known how the word with this id sounds?"""
        return bool(self._lexicon.of(word))

    def best_word(self, node: int) -> int:
        """The likeliest of all words that begin like that."""
        first, stop = int(self._first[node]), int(self._stop[node])
        return int(self._words[first + int(self._costs[first:stop].argmin())])

    def _least(self, nodes: int) -> npt.NDArray[np.float64]:
        """The lowest cost of each node's pronunciations."""
        bounds = np.stack([self._first, self._stop], axis=1).ravel()
        # The last may stop behind the last pronunciation, where `reduceat` needs one.
        costs = np.append(self._costs, np.iinfo(np.int64).max)
        least: npt.NDArray[np.float64] = np.minimum.reduceat(costs, bounds)[::2].astype(np.float64)
        assert len(least) == nodes
        return least
