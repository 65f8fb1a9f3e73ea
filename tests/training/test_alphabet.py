"""Conversion of texts to training targets."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.acoustic.labels import Labels
from stream_asr.training.alphabet import Alphabet, OutOfAlphabetError, alphabet_characters

LETTERS = Labels(("", " ", *"abcdefghijklmnopqrstuvwxyz'"), blank=0)


def test_text_is_normalized_to_the_alphabet() -> None:
    target = Alphabet(LETTERS).encode("  Well — it's TWENTY-one,\tisn’t it? ")
    assert target.text == "well it's twenty one isn't it"
    assert "".join(LETTERS.tokens[index] for index in target.ids) == target.text
    assert target.dropped == "—-,?"


@pytest.mark.parametrize(
    ("text", "missing"), [("at 5 o'clock", "5"), ("50 %", "%05"), ("café", "é"), ("R&D", "&"), ("1 €", "1€")]
)
def test_spoken_characters_outside_the_alphabet_are_errors(text: str, missing: str) -> None:
    with pytest.raises(OutOfAlphabetError) as caught:
        Alphabet(LETTERS).encode(text)
    assert str(caught.value) == f"the model cannot write {missing}"


@pytest.mark.parametrize("text", ["", "...", " - "])
def test_text_without_letters_is_an_error(text: str) -> None:
    with pytest.raises(OutOfAlphabetError, match="no characters that the model can write"):
        Alphabet(LETTERS).encode(text)


def test_capitals_and_punctuation_are_kept_if_the_model_writes_them() -> None:
    alphabet = Alphabet(Labels(("", " ", *"abNo,"), blank=0))
    assert alphabet.encode("No, ab!").text == "No, ab"
    assert alphabet.characters == ",Nabo"


def test_apostrophe_outside_the_alphabet_leaves_no_space() -> None:
    assert Alphabet(Labels(("", " ", *"dont"), blank=0)).encode("don't").text == "dont"


def test_combining_accents_are_composed() -> None:
    assert Alphabet(Labels(("", *"caf\u00e9"), blank=0)).encode("cafe\u0301").ids == (1, 2, 3, 4)


def test_alphabet_without_a_space_accepts_single_words_only() -> None:
    alphabet = Alphabet(Labels(("", *"abc"), blank=0))
    assert alphabet.encode("ab").ids == (1, 2)
    with pytest.raises(OutOfAlphabetError, match="the space"):
        alphabet.encode("a b")


def test_repeated_tokens_need_an_extra_frame() -> None:
    assert Alphabet(LETTERS).encode("aab bb").min_frames == 6 + 2


@given(st.text(alphabet="abcxyz' ", min_size=1).filter(lambda text: text.strip()))
def test_normalized_text_is_unchanged(text: str) -> None:
    normalized = " ".join(text.split())
    target = Alphabet(LETTERS).encode(normalized)
    assert (target.text, target.dropped) == (normalized, "")


@given(st.lists(st.text(st.characters(categories=["L", "M", "Nd", "Po", "Zs"], exclude_characters="%&@#§‰"))))
def test_alphabet_from_texts_can_write_all_their_letters(texts: list[str]) -> None:
    def letters(text: str) -> str:
        return "".join(character for character in text if unicodedata.category(character)[0] in "LMN")

    alphabet = Alphabet(Labels(("", " ", *alphabet_characters(texts)), blank=0))
    for text in texts:
        lower = unicodedata.normalize("NFC", text.lower())
        if letters(lower):
            assert letters(alphabet.encode(text).text) == letters(lower)
