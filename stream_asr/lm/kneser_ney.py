"""Estimate an n-gram model from text: interpolated modified Kneser-Ney, with count cut-offs.

What is cut off gives its probability to the back-off weight of its context, so every context still sums to one.

Source: Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1998, section 3;
discounts as in its equation 17.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt

from stream_asr.errors import InputError
from stream_asr.lm.ngram import END, MOST_WORDS, SPECIAL, START, STEPS_PER_NAT, UNKNOWN, Level, NgramModel

_Keys = npt.NDArray[np.uint64]
_Real = npt.NDArray[np.float64]

_BITS = np.uint64(16)
LONGEST = 4
"""N-grams are counted as one 64-bit number each."""


@dataclass(frozen=True, slots=True, eq=False)
class _Grams:
    """All n-grams of one length.

    Attributes:
        keys: their ids, 16 bits each, the last in the lowest; ascending.
        seen: how often each occurs.
        counts: what its probability is estimated from: how often it occurs on the longest level and after the
            start of a paragraph, elsewhere how many different words come before it.
    """

    keys: _Keys
    seen: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


def estimate(
    paragraphs: Iterable[Sequence[str]],
    *,
    order: int = 3,
    cutoffs: Sequence[int] = (),
    extra_words: Iterable[str] = (),
    most_words: int = MOST_WORDS,
    about: str = "",
) -> NgramModel:
    """A model of some paragraphs, each a list of words.

    Args:
        order: words of its longest n-grams, 1 to 4.
        cutoffs: how often n-grams must occur to be kept, single words first; the last one holds for longer ones.
        extra_words: known words that need not occur; they get the probability of an unseen word.
        most_words: the vocabulary's size; the rarest are left out.
        about: where it comes from, for people.

    Raises:
        InputError: settings outside their ranges, or no words.
    """
    if not 1 <= order <= LONGEST:
        raise InputError(f"order is {order}; it takes 1 to {LONGEST}")
    if not 1 <= most_words <= MOST_WORDS:
        raise InputError(f"a vocabulary of {most_words} words; it takes 1 to {MOST_WORDS}")
    least = [*cutoffs, *[cutoffs[-1] if cutoffs else 1] * order][:order]
    if any(first > second for first, second in pairwise(least)) or least[0] < 1:
        raise InputError(f"cut-offs are {least}; each must be at least 1 and no smaller than the one before it")
    said = [list(paragraph) for paragraph in paragraphs]
    frequency = Counter(chain.from_iterable(said))
    known = [word for word, count in frequency.most_common(most_words) if count >= least[0]]
    if not known:
        raise InputError("the text has no words to make a language model of")
    room = (word for word in dict.fromkeys(extra_words) if word not in frequency)
    vocabulary = tuple(sorted({*known, *(word for word, _ in zip(room, range(most_words - len(known)), strict=False))}))
    grams = _count(_ids(said, vocabulary), order)
    levels = _levels(grams, least, SPECIAL + len(vocabulary))
    return NgramModel(vocabulary, levels, about)


def _ids(said: list[list[str]], vocabulary: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """All paragraphs one after the other, each between `START` and `END`."""
    ids = {word: at for at, word in enumerate(vocabulary, SPECIAL)}
    spelt = (chain((START,), (ids.get(word, UNKNOWN) for word in paragraph), (END,)) for paragraph in said)
    return np.fromiter(chain.from_iterable(spelt), dtype=np.uint64)


def _count(ids: npt.NDArray[np.uint64], order: int) -> list[_Grams]:
    all_keys: list[_Keys] = []
    keys, inside = ids, np.ones(len(ids), dtype=bool)
    for length in range(1, order + 1):
        if length > 1:
            # An n-gram may begin with the start of a paragraph and end with its end, and crosses neither.
            keys = (keys[:-1] << _BITS) | ids[length - 1 :]
            inside = inside[:-1] & (ids[length - 1 :] != START) & (ids[length - 2 : -1] != END)
        all_keys.append(keys[inside])
    grams: list[_Grams] = []
    longer: _Keys | None = None
    for length in range(order, 0, -1):
        unique, seen = np.unique(all_keys[length - 1], return_counts=True)
        counts = seen.astype(np.int64)
        if longer is not None:
            suffixes, before = np.unique(longer & np.uint64((1 << 16 * length) - 1), return_counts=True)
            counts = counts.copy()
            place = np.searchsorted(unique, suffixes)
            begins = (suffixes >> np.uint64(16 * (length - 1))) == START
            counts[place[~begins]] = before[~begins]
        grams.insert(0, _Grams(unique, seen.astype(np.int64), counts))
        longer = unique
    return grams


def _discounts(counts: npt.NDArray[np.int64]) -> _Real:
    """What is taken off a count of 0, 1, 2, and 3 or more."""
    n1, n2, n3, n4 = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    if not (n1 and n2 and n3):  # too little text for the formula
        return np.array([0.0, 0.5, 0.75, 0.75])
    base = n1 / (n1 + 2 * n2)
    by_count = [
        times - (times + 1) * base * more / some for times, some, more in ((1, n1, n2), (2, n2, n3), (3, n3, n4))
    ]
    return np.array([0.0, *(min(max(value, 0.1), times - 0.05) for times, value in enumerate(by_count, 1))])


def _levels(grams: Sequence[_Grams], least: Sequence[int], ids: int) -> tuple[Level, ...]:
    keys, probabilities = np.arange(ids, dtype=np.uint64), _unigrams(grams[0], ids)
    levels: list[Level] = []
    for length, (longer, fewest) in enumerate(zip(grams[1:], least[1:], strict=True), 1):
        keep = longer.seen >= fewest
        for place in range(length + 1):  # an unknown word tells nothing about its neighbours
            keep &= (longer.keys >> np.uint64(16 * place)) & np.uint64(0xFFFF) != UNKNOWN
        contexts, context = np.unique(longer.keys >> _BITS, return_inverse=True)
        total = np.bincount(context, weights=longer.counts)
        discounted = longer.counts - _discounts(longer.counts)[np.minimum(longer.counts, 3)]
        share = np.where(keep, discounted, 0.0) / total[context]
        left = 1 - np.bincount(context, weights=share)
        longer_keys = longer.keys[keep]
        # Cut-offs do not fall with length, so what is kept has its beginning and its end among the shorter ones.
        ending = np.searchsorted(keys, longer_keys & np.uint64((1 << 16 * length) - 1))
        longer_probabilities = share[keep] + left[context[keep]] * probabilities[ending]
        # Nothing follows some n-grams, such as those with the end of a paragraph: they are no context at all.
        kept = np.isin(contexts, keys)
        backoffs = np.ones(len(keys))
        backoffs[np.searchsorted(keys, contexts[kept])] = left[kept]
        children = np.append(np.searchsorted(longer_keys >> _BITS, keys), len(longer_keys))
        levels.append(Level(_last_words(keys), _steps(probabilities), _steps(backoffs), children.astype(np.uint32)))
        keys, probabilities = longer_keys, longer_probabilities
    nothing = np.zeros(0, dtype=np.uint8)
    levels.append(Level(_last_words(keys), _steps(probabilities), nothing, nothing.astype(np.uint32)))
    return tuple(levels)


def _unigrams(grams: _Grams, ids: int) -> _Real:
    """Probabilities of all ids; the discounts are shared out evenly, so that no word has none."""
    counts = np.zeros(ids, dtype=np.int64)
    counts[grams.keys.astype(np.int64)] = grams.counts
    counts[START] = 0
    discounted = (counts - _discounts(counts)[np.minimum(counts, 3)]) / counts.sum()
    probabilities = discounted + (1 - discounted.sum()) / (ids - 1)
    probabilities[START] = 0
    return np.asarray(probabilities, dtype=np.float64)


def _last_words(keys: _Keys) -> npt.NDArray[np.uint16]:
    return np.asarray(keys & np.uint64(0xFFFF), dtype=np.uint16)


def _steps(probabilities: _Real) -> npt.NDArray[np.uint8]:
    """Minus the logarithms in steps, at most 255, which is a probability of one in eight million."""
    costs = -np.log(np.maximum(probabilities, 1e-9)) * STEPS_PER_NAT
    return np.asarray(np.clip(np.rint(costs), 0, 255), dtype=np.uint8)
