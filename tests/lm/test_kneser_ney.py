from __future__ import annotations

from math import exp
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_asr.errors import InputError
from stream_asr.lm.kneser_ney import estimate
from stream_asr.lm.ngram import END, FIRST_WORD_ID, START, STEPS_PER_NAT, UNKNOWN
from tests.support.lm import PARAGRAPHS

texts = st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12), min_size=1, max_size=8)


@settings(max_examples=60)
@example([["a"]], 4, 1)  # too short for any n-gram of that order
@given(texts, st.integers(1, 4), st.integers(1, 3))
def test_probabilities_in_a_context_sum_to_one(text: list[list[str]], order: int, last_cutoff: int) -> None:
    model = estimate(text, order=order, cutoffs=[1] * (order - 1) + [last_cutoff if order > 1 else 1])
    ids = [UNKNOWN, END, *range(FIRST_WORD_ID, FIRST_WORD_ID + len(model.vocabulary))]
    for paragraph in text:
        context = model.next_context((), START)
        for word in paragraph:
            # Quantization is off by half a step at most, and a backed-off probability is a product of several numbers.
            total = sum(exp(model.log_prob(context, word_id)) for word_id in ids)
            assert total == pytest.approx(1, abs=order * 0.6 / STEPS_PER_NAT)
            context = model.next_context(context, model.word_id(word))


def test_seen_ngrams_are_more_probable_than_unseen_ones() -> None:
    model = estimate(PARAGRAPHS, order=3)
    after_sat = model.next_context((), model.word_id("sat"))
    on, dog = (model.log_prob(after_sat, model.word_id(word)) for word in ("on", "dog"))
    assert on > dog > -12


def test_frequent_words_are_more_probable_than_rare_and_unknown_ones() -> None:
    model = estimate(PARAGRAPHS, order=1)
    the, mat = (model.log_prob((), model.word_id(word)) for word in ("the", "mat"))
    assert the > mat > model.log_prob((), UNKNOWN)


def test_cutoffs_remove_rare_words_and_ngrams() -> None:
    model = estimate(PARAGRAPHS, order=3, cutoffs=[2, 2, 3])
    assert model.vocabulary == ("a", "cat", "dog", "on", "sat", "the")
    assert len(model.levels[1].words) < len(estimate(PARAGRAPHS, order=3).levels[1].words)
    assert len(model.levels[2].words) == 0


def test_limited_vocabulary_has_the_most_frequent_words() -> None:
    assert estimate(PARAGRAPHS, max_words=2).vocabulary == ("cat", "the")


def test_extra_words_fill_the_vocabulary_up_to_its_limit() -> None:
    model = estimate(PARAGRAPHS, cutoffs=[4], extra_words=["zebra", "the", "zebra", "yak", "emu"], max_words=3)
    assert model.vocabulary == ("the", "yak", "zebra")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 5}, "1 to 4"),
        ({"cutoffs": [2, 1]}, "no smaller"),
        ({"cutoffs": [0]}, "at least 1"),
        ({"max_words": 0}, "1 to"),
        ({"cutoffs": [99]}, "no words"),
    ],
)
def test_settings_out_of_range_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate(PARAGRAPHS, **arguments)
