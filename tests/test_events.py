"""Words and their bare forms, and finals in the wire format."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.events import Final, Word, bare_text, strip_punctuation


@pytest.mark.parametrize(
    ("text", "stripped", "bare"),
    [
        ("Titian,", "Titian", "titian"),
        ("it's", "it's", "it's"),
        ("It’s", "It’s", "it's"),
        ("dogs'", "dogs", "dogs"),
        ("1990.", "1990", "1990"),
        ("3.5", "3.5", "3.5"),
        ("well-known;", "well-known", "well-known"),
        ("“Ça", "Ça", "ça"),
        ("¿Qué?", "Qué", "qué"),
        ("(Straße)", "Straße", "straße"),
        ("$5,", "$5", "$5"),
        ("50%.", "50%", "50%"),
        ("C#", "C#", "c#"),
        ("नमस्ते।", "नमस्ते", "नमस्ते"),
        ("&", "&", "&"),
        ("—", "", ""),
        ("...", "", ""),
        ("♪", "", ""),
        ("", "", ""),
    ],
)
def test_bare_word_has_no_punctuation_around_it_and_no_capitals(text: str, stripped: str, bare: str) -> None:
    assert strip_punctuation(text) == stripped
    assert Word(text, 0.0, 1.0, 0.9).bare == bare


def test_bare_text_leaves_out_what_is_only_punctuation() -> None:
    assert bare_text("Titian — Holbein, and “Turner”.") == "titian holbein and turner"


@given(
    st.lists(st.text(min_size=1).filter(lambda text: not any(map(str.isspace, text))), max_size=5), st.integers(0, 5)
)
def test_bare_text_of_a_prefix_is_a_prefix(words: list[str], count: int) -> None:
    assert bare_text(" ".join(words)).startswith(bare_text(" ".join(words[:count])))


def test_finals_are_read_from_their_wire_format() -> None:
    final = Final(3, 0.5, 2.25, "Yes, I do.", 0.875, (Word("Yes,", 0.5, 0.75, 1.0), Word("I", 1.0, 1.0, 0.75)))
    message = json.loads(json.dumps(final.to_json()))
    assert Final.from_json(message) == final
    del message["words"]  # as with "words": false
    assert Final.from_json(message).words == ()
