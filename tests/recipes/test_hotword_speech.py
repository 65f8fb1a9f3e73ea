"""The recipe of the recordings of the hotword benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
from hotwords import BUNDLED_NAMES

from recipes.hotword_speech.__main__ import SENTENCES, VOICES, read_sentences, transcript, write_tables
from recipes.hotword_speech.phonemes import to_kokoro


@pytest.mark.parametrize(
    ("phonemes", "accent", "expected"),
    [
        ("tˈe^ɪkɪŋ", "en-us", "tˈAkɪŋ"),
        ("mˈɛsɪd^ʒ", "en-us", "mˈɛsɪʤ"),
        ("ˈo^ʊnli", "en-us", "ˈOnli"),
        ("ˈə^ʊnlɪ", "en-gb", "ˈQnlɪ"),
        ("dˈɑː^ɹk", "en-us", "dˈɑɹk"),
        ("bˈiːt^ʃ", "en-us", "bˈiʧ"),
        ("bˈiːt^ʃ", "en-gb", "bˈiːʧ"),
        ("bˈɑːɾɚɹ", "en-us", "bˈɑTəɹ"),
        ("mˈɪdə^l", "en-us", "mˈɪdᵊl"),
    ],
)
def test_phonemes_are_written_in_the_alphabet_of_kokoro(phonemes: str, accent: str, expected: str) -> None:
    assert to_kokoro(phonemes, accent) == expected


def test_transcript_has_only_letters_apostrophes_and_spaces() -> None:
    assert transcript("Thank you, it's me. Really?") == "Thank you it's me Really"


def test_bundled_tables_are_those_of_the_sentences(tmp_path: Path) -> None:
    sentences = read_sentences(SENTENCES)
    speakers = [VOICES[number % len(VOICES)] for number in range(len(sentences))]
    paths = [f"audio/{number:02}.ogg" for number in range(1, len(sentences) + 1)]
    write_tables(tmp_path, sentences, paths, speakers)
    for name in ("manifest.tsv", "names.txt"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (BUNDLED_NAMES / name).read_text(encoding="utf-8")
    assert all(each.sentence.count(each.name) == 1 for each in sentences)
