from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.lm.text import normalize_word, spell_number, split_paragraphs, split_words


def test_english_text_becomes_spoken_words() -> None:
    text = "“Well,” said Mr. O’Neill--the ‘old’ man, _really_;\nin 1945 I paid 1,500 pounds (or 21).\n\nCafé, naïve!"
    assert [" ".join(words) for words in split_paragraphs(text)] == [
        "well said mister o'neill the old man really in nineteen forty five i paid one thousand five hundred pounds "
        "or twenty one",
        "cafe naive",
    ]


def test_other_languages_keep_accents_and_a_number_ends_the_paragraph() -> None:
    assert list(split_paragraphs("Café à 3 Euro", english=False)) == [["café", "à"], ["euro"]]


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("80", "eighty"),
        ("105", "one hundred five"),
        ("1066", "one thousand sixty six"),
        ("1900", "nineteen hundred"),
        ("1905", "nineteen o five"),
        ("2000000", "two million"),
        ("0021", "twenty one"),
        ("999,000,000,000", "nine hundred ninety nine billion"),
        ("12345678901234", "one two three four five six seven eight nine zero one two three four"),
        ("7" * 5000, " ".join(["seven"] * 5000)),
    ],
    ids=lambda text: text[:20],
)
def test_numbers_are_spelled_out(digits: str, words: str) -> None:
    assert spell_number(digits) == words


@pytest.mark.slow
@given(st.text())
def test_words_consist_of_lower_case_letters_and_apostrophes(text: str) -> None:
    for word in split_words(text):
        assert word == word.lower()
        assert word.replace("'", "").isalpha()


@pytest.mark.parametrize(
    ("written", "normalized"), [("cat", "cat"), ("Cat.", "cat"), ("O’Neill,", "o'neill"), ("'tis", "tis"), ("—", "")]
)
def test_words_are_normalized_whatever_their_case_and_punctuation(written: str, normalized: str) -> None:
    assert normalize_word(written) == normalized
