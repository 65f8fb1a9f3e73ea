from __future__ import annotations

from pathlib import Path

import pytest

from stream_asr.config import BeamConfig
from stream_asr.decoding.hotwords import Hotwords, compile_hotwords, read_hotwords
from stream_asr.errors import InputError

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz'")


def test_letters_score_as_long_as_they_spell_a_hotword() -> None:
    hotwords = Hotwords({"new york": 2.0, "new": 1.0})
    assert [hotwords.provisional_score("", letters) for letters in ("n", "ne", "new", "next")] == [2, 4, 6, 0]
    context, score = hotwords.complete_word("", "new")
    assert (context, score) == ("new ", 3.0), "the word is a hotword, and the beginning of another one"
    assert hotwords.provisional_score(context, "") == 6 - 3, "without the score of the completed hotword"
    assert hotwords.provisional_score(context, "yo") == 10 - 3
    assert hotwords.complete_word(context, "york") == ("", 14 - 3)
    assert hotwords.matching_context(context, "jersey") == ""
    assert hotwords.complete_word("", "old") == ("", 0.0)


def test_phrase_may_begin_with_the_end_of_another_phrase() -> None:
    hotwords = Hotwords({"new york": 1.0, "york minster": 1.0})
    context, _ = hotwords.complete_word("new ", "york")
    assert hotwords.complete_word(context, "minster") == ("", 11.0)


def test_file_of_hotwords_is_read(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("# people\nAnneke Visser : 1.5\n\n  Zürich\nO'Neill: 2\n", encoding="utf-8")
    assert read_hotwords(path) == {"Anneke Visser": 1.5, "Zürich": 1.0, "O'Neill": 2.0}


def test_unreadable_files_of_hotwords_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("Anneke: much\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: 'much' is not a weight"):
        read_hotwords(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_hotwords(path)
    with pytest.raises(InputError, match="cannot read"):
        read_hotwords(tmp_path / "missing.txt")


def test_weight_and_bonus_multiply_to_the_score_of_a_letter() -> None:
    hotwords = compile_hotwords({"Anneke Visser": 1.5}, LETTERS, BeamConfig(hotword_bonus=2.0))
    assert hotwords.provisional_score("anneke ", "visser") == 12 * 1.5 * 2


def test_accents_that_the_model_does_not_write_are_removed() -> None:
    hotwords = compile_hotwords(["Zürich"], LETTERS, BeamConfig(hotword_bonus=2.0))
    assert hotwords.provisional_score("", "zurich") == 6 * 2


@pytest.mark.parametrize(
    ("hotwords", "message"),
    [
        (["R2D2"], "does not write 2;"),
        (["Москва"], "does not write"),
        (["C++"], r"does not write \+;"),
        (["AT&T"], "does not write &"),
        (["?!"], "no letters"),
        ({"Anneke": -1.0}, "weight -1"),
        ({"Anneke": 11.0}, "between 0 and 10"),
    ],
)
def test_unusable_hotwords_are_rejected(hotwords: list[str] | dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile_hotwords(hotwords, LETTERS, BeamConfig())
