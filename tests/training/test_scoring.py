"""Edit distance, and word and character error rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.training.scoring import ErrorRates, edit_distance, plain_text

WORDS = st.text(alphabet="abc", max_size=6)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "distance"),
    [("", "", 0), ("kitten", "sitting", 3), ("abc", "", 3), ("", "abc", 3), ("abcd", "acbd", 2), ("abc", "xabc", 1)],
)
def test_edit_distance_of_known_pairs(reference: str, hypothesis: str, distance: int) -> None:
    assert edit_distance(reference, hypothesis) == distance


@given(WORDS, WORDS, WORDS)
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


@given(WORDS, st.integers(0, 6), st.sampled_from("abc"))
def test_one_insertion_has_distance_one(word: str, index: int, letter: str) -> None:
    assert edit_distance(word, word[:index] + letter + word[index:]) == 1


def test_error_rates_are_micro_averaged() -> None:
    rates = ErrorRates.of(["a b c d", "e"], ["a b c d", "x y"])
    assert (rates.words, rates.word_errors, rates.wer) == (5, 2, 40.0)
    assert (rates.characters, rates.character_errors) == (8, 3)
    assert rates.cer == 37.5


def test_empty_reference_does_not_divide_by_zero() -> None:
    assert ErrorRates.of([""], ["a"]).wer == 100


def test_plain_text_has_neither_case_nor_punctuation() -> None:
    assert plain_text(" It’s well-known: Zoë, P. O. Box_7! ") == "it's well known zoë p o box 7"
