"""Estimate an n-gram model from text: interpolated modified Kneser-Ney smoothing with count cutoffs.

The probability of n-grams below a cutoff goes to the backoff weight of their context, so that the distribution of each
context still sums to one.

Source: Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1998, section 3;
discounts as in its equation 17.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import numpy as np
import numpy.typing as npt

from stream_asr.errors import InputError
from stream_asr.lm.ngram import (
    END,
    FIRST_WORD_ID,
    MAX_VOCABULARY_SIZE,
    START,
    STEPS_PER_NAT,
    UNKNOWN,
    Level,
    NgramModel,
)

_Keys = npt.NDArray[np.uint64]
_Floats = npt.NDArray[np.float64]

_ID_BITS = 16
MAX_ORDER = 4
"""An n-gram is one 64-bit key."""


@dataclass(frozen=True, slots=True, eq=False)
class _NgramCounts:
    """The counts of all n-grams of one order.

    Attributes:
        keys: the words' ids, 16 bits each, the last word in the lowest bits; ascending.
        counts: number of occurrences.
        adjusted_counts: the counts from which Kneser-Ney estimates probabilities. For n-grams of the highest order and
            those that begin with `START`, the number of occurrences; for others, the number of different words that
            precede them.
    """

    keys: _Keys
    counts: npt.NDArray[np.int64]
    adjusted_counts: npt.NDArray[np.int64]


def estimate(
    paragraphs: Iterable[Sequence[str]],
    *,
    order: int = 3,
    cutoffs: Sequence[int] = (),
    extra_words: Iterable[str] = (),
    max_words: int = MAX_VOCABULARY_SIZE,
    about: str = "",
) -> NgramModel:
    """Estimate a model.

    Args:
        paragraphs: the text; each paragraph is a list of words.
        order: number of words in the longest n-grams, 1 to 4.
        cutoffs: number of occurrences that an n-gram needs, unigrams first; the last number holds for all higher
            orders.
        extra_words: words of the vocabulary that need not occur; they get the probability of an unseen word.
        max_words: maximum size of the vocabulary; the rarest words are left out.
        about: a description of the text, for people.

    Raises:
        InputError: a setting is out of range, or no words are left.
    """
    if not 1 <= order <= MAX_ORDER:
        raise InputError(f"order is {order}; it must be 1 to {MAX_ORDER}")
    if not 1 <= max_words <= MAX_VOCABULARY_SIZE:
        raise InputError(f"the size of the vocabulary is {max_words}; it must be 1 to {MAX_VOCABULARY_SIZE}")
    min_counts = [*cutoffs, *[cutoffs[-1] if cutoffs else 1] * order][:order]
    if any(lower > higher for lower, higher in pairwise(min_counts)) or min_counts[0] < 1:
        raise InputError(f"cutoffs are {min_counts}; each must be at least 1 and no smaller than the one before it")
    text = [list(paragraph) for paragraph in paragraphs]
    frequencies = Counter(chain.from_iterable(text))
    frequent = [word for word, count in frequencies.most_common(max_words) if count >= min_counts[0]]
    if not frequent:
        raise InputError("the text has no words to make a language model of")
    unseen = (word for word in dict.fromkeys(extra_words) if word not in frequencies)
    vocabulary = tuple(sorted({*frequent, *islice(unseen, max_words - len(frequent))}))
    ngrams = _count(_to_ids(text, vocabulary), order)
    return NgramModel(vocabulary, _estimate_levels(ngrams, min_counts, FIRST_WORD_ID + len(vocabulary)), about)


def _to_ids(paragraphs: list[list[str]], vocabulary: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """Return the ids of all paragraphs one after the other, each between `START` and `END`."""
    ids = {word: word_id for word_id, word in enumerate(vocabulary, FIRST_WORD_ID)}
    sequences = (chain((START,), (ids.get(word, UNKNOWN) for word in words), (END,)) for words in paragraphs)
    return np.fromiter(chain.from_iterable(sequences), dtype=np.uint64)


def _count(ids: npt.NDArray[np.uint64], order: int) -> list[_NgramCounts]:
    """Count the n-grams of each order, unigrams first."""
    keys, valid = ids, np.ones(len(ids), dtype=bool)
    keys_of_order: list[_Keys] = []
    for length in range(1, order + 1):
        if length > 1:
            # An n-gram may begin with the start of a paragraph and end with its end, but does not span paragraphs.
            keys = (keys[:-1] << np.uint64(_ID_BITS)) | ids[length - 1 :]
            valid = valid[:-1] & (ids[length - 1 :] != START) & (ids[length - 2 : -1] != END)
        keys_of_order.append(keys[valid])
    ngrams: list[_NgramCounts] = []
    longer: _Keys | None = None
    for length in range(order, 0, -1):
        unique, occurrences = np.unique(keys_of_order[length - 1], return_counts=True)
        counts = occurrences.astype(np.int64)
        adjusted = counts
        if longer is not None:
            suffixes, preceding_words = np.unique(_last_words(longer, length), return_counts=True)
            adjusted = counts.copy()
            index = np.searchsorted(unique, suffixes)
            at_start = suffixes >> np.uint64(_ID_BITS * (length - 1)) == START
            adjusted[index[~at_start]] = preceding_words[~at_start]
        ngrams.insert(0, _NgramCounts(unique, counts, adjusted))
        longer = unique
    return ngrams


def _discounts(counts: npt.NDArray[np.int64]) -> _Floats:
    """Return the discounts of the counts 0, 1, 2, and 3 or more."""
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3):  # too little text for the formula
        return np.array([0.0, 0.5, 0.75, 0.75])
    y = n1 / (n1 + 2 * n2)
    discounts = [count - (count + 1) * y * n_next / n for count, n, n_next in ((1, n1, n2), (2, n2, n3), (3, n3, n4))]
    return np.array([0.0, *(min(max(discount, 0.1), count - 0.05) for count, discount in enumerate(discounts, 1))])


def _estimate_levels(ngrams: Sequence[_NgramCounts], min_counts: Sequence[int], id_count: int) -> tuple[Level, ...]:
    """Estimate the probabilities and backoff weights of each order from those of the order below.

    Args:
        ngrams: counts of each order, unigrams first.
        min_counts: cutoff of each order.
        id_count: number of word ids, those of special tokens included.
    """
    keys, probabilities = np.arange(id_count, dtype=np.uint64), _unigram_probabilities(ngrams[0], id_count)
    levels: list[Level] = []
    for length, (longer, min_count) in enumerate(zip(ngrams[1:], min_counts[1:], strict=True), 1):
        keep = longer.counts >= min_count
        for position in range(length + 1):  # an unknown word carries no information about its neighbors
            keep &= (longer.keys >> np.uint64(_ID_BITS * position)) & np.uint64(0xFFFF) != UNKNOWN
        contexts, context = np.unique(longer.keys >> np.uint64(_ID_BITS), return_inverse=True)
        totals = np.bincount(context, weights=longer.adjusted_counts)
        discounts = _discounts(longer.adjusted_counts)[np.minimum(longer.adjusted_counts, 3)]
        discounted = np.where(keep, longer.adjusted_counts - discounts, 0.0) / totals[context]
        backoff_weights = 1 - np.bincount(context, weights=discounted)
        longer_keys = longer.keys[keep]
        # Cutoffs do not decrease with the order, so the prefix and the suffix of a kept n-gram are kept, too.
        suffix = np.searchsorted(keys, _last_words(longer_keys, length))
        longer_probabilities = discounted[keep] + backoff_weights[context[keep]] * probabilities[suffix]
        # Nothing follows some n-grams, such as those that end a paragraph: they are not contexts.
        is_kept = np.isin(contexts, keys)
        kept_weights = np.ones(len(keys))
        kept_weights[np.searchsorted(keys, contexts[is_kept])] = backoff_weights[is_kept]
        children = np.append(np.searchsorted(longer_keys >> np.uint64(_ID_BITS), keys), len(longer_keys))
        levels.append(_make_level(keys, probabilities, _quantize(kept_weights), children))
        keys, probabilities = longer_keys, longer_probabilities
    levels.append(_make_level(keys, probabilities, np.zeros(0, dtype=np.uint8), np.zeros(0)))
    return tuple(levels)


def _unigram_probabilities(unigrams: _NgramCounts, id_count: int) -> _Floats:
    """Return the probabilities of all ids. All words share the discounts equally, so that none has probability 0."""
    counts = np.zeros(id_count, dtype=np.int64)
    counts[unigrams.keys.astype(np.int64)] = unigrams.adjusted_counts
    counts[START] = 0
    discounted = (counts - _discounts(counts)[np.minimum(counts, 3)]) / counts.sum()
    probabilities = discounted + (1 - discounted.sum()) / (id_count - 1)
    probabilities[START] = 0
    return np.asarray(probabilities, dtype=np.float64)


def _last_words(keys: _Keys, count: int) -> _Keys:
    """Return the keys of the last ``count`` words of each n-gram."""
    return np.asarray(keys & np.uint64((1 << _ID_BITS * count) - 1), dtype=np.uint64)


def _make_level(
    keys: _Keys, probabilities: _Floats, backoffs: npt.NDArray[np.uint8], children: npt.NDArray[np.generic]
) -> Level:
    words = _last_words(keys, 1).astype(np.uint16)
    return Level(words, _quantize(probabilities), backoffs, children.astype(np.uint32))


def _quantize(probabilities: _Floats) -> npt.NDArray[np.uint8]:
    """Return the negative logarithms in steps, at most 255, which is a probability of one in eight million."""
    costs = -np.log(np.maximum(probabilities, 1e-9)) * STEPS_PER_NAT
    return np.asarray(np.clip(np.rint(costs), 0, 255), dtype=np.uint8)
