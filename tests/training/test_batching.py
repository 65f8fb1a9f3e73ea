"""Grouping of utterances into batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.training.batching import plan_batches

LENGTHS = st.lists(st.floats(0.1, 30), min_size=1, max_size=60)


@given(LENGTHS, st.floats(1, 100), st.integers(0, 9))
def test_each_utterance_is_in_exactly_one_batch(lengths: list[float], limit: float, seed: int) -> None:
    batches = plan_batches(lengths, limit, np.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))


@given(LENGTHS, st.floats(1, 100), st.integers(0, 9))
def test_padded_batch_does_not_exceed_the_limit(lengths: list[float], limit: float, seed: int) -> None:
    for batch in plan_batches(lengths, limit, np.random.default_rng(seed)):
        assert batch
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= limit


@given(LENGTHS, st.integers(0, 9))
def test_utterances_of_a_batch_have_similar_lengths(lengths: list[float], seed: int) -> None:
    for batch in plan_batches(lengths, 60, np.random.default_rng(seed)):
        inside = sorted(lengths[index] for index in batch)
        between = [length for length in lengths if inside[0] * 1.1 < length < inside[-1] / 1.1]
        assert len(between) <= len(inside)


@given(LENGTHS, st.integers(0, 9))
def test_same_seed_gives_the_same_batches(lengths: list[float], seed: int) -> None:
    first, second = (plan_batches(lengths, 40, np.random.default_rng(seed)) for _ in range(2))
    assert first == second


def test_other_seed_gives_other_batches_in_another_order() -> None:
    lengths = np.random.default_rng(0).uniform(1, 20, size=200).tolist()
    first, second = (plan_batches(lengths, 40, np.random.default_rng(seed)) for seed in (0, 1))
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    longest = [max(lengths[index] for index in batch) for batch in first]
    assert longest != sorted(longest)
