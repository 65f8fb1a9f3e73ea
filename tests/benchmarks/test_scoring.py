"""Error rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.training.scoring import Score, edit_distance

WORDS = st.text(alphabet="abc", max_size=6)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "distance"),
    [("", "", 0), ("kitten", "sitting", 3), ("abc", "", 3), ("", "abc", 3), ("abcd", "acbd", 2), ("abc", "xabc", 1)],
)
def test_known_distances(reference: str, hypothesis: str, distance: int) -> None:
    assert edit_distance(reference, hypothesis) == distance


@given(WORDS, WORDS, WORDS)
def test_it_is_a_distance(a: str, b: str, c: str) -> None:
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


@given(WORDS, st.integers(0, 6), st.sampled_from("abc"))
def test_one_edit_is_one(word: str, place: int, letter: str) -> None:
    assert edit_distance(word, word[:place] + letter + word[place:]) == 1


def test_rates_count_long_texts_by_their_length() -> None:
    score = Score.of(["a b c d", "e"], ["a b c d", "x y"])
    assert (score.words, score.word_errors, score.wer) == (5, 2, 40.0)
    assert (score.characters, score.character_errors) == (8, 3)
    assert score.cer == 37.5


def test_nothing_said_is_no_division_by_zero() -> None:
    assert Score.of([""], ["a"]).wer == 100
