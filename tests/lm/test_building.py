from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from stream_asr.errors import InputError
from stream_asr.lm.building import build
from stream_asr.lm.storage import load


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of text in a separate folder."""
    path = tmp_path / "texts" / "one.txt"
    path.parent.mkdir()
    path.write_text("\ufeffThe cat sat.\n\nThe dog, too.", encoding="utf-8")
    return path


def build_bigrams(texts: list[Path], output: Path, cutoffs: str = "1", words: Sequence[Path] = ()) -> None:
    build(texts, output, order=2, cutoffs=cutoffs, words=words, english=True)


def test_model_is_built_from_a_folder_and_a_list_of_words(text: Path, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text("Visser\nAnneke\n", encoding="utf-8")
    build_bigrams([text.parent], tmp_path / "my.lm", words=[names])
    assert load(tmp_path / "my.lm").vocabulary == ("anneke", "cat", "dog", "sat", "the", "too", "visser")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.lm", "names", "texts"], "no temporary files remain"


def test_unreadable_and_unwritable_files_are_rejected(text: Path, tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Käse".encode("latin-1"))
    with pytest.raises(InputError, match="cannot read"):
        build_bigrams([tmp_path / "missing.txt"], tmp_path / "my.lm")
    with pytest.raises(InputError, match="not UTF-8"):
        build_bigrams([latin], tmp_path / "my.lm")
    with pytest.raises(InputError, match="cannot write"):
        build_bigrams([text], tmp_path / "missing" / "my.lm")


def test_malformed_cutoffs_are_rejected(text: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whole numbers"):
        build_bigrams([text], tmp_path / "my.lm", cutoffs="1;2")


def test_input_files_are_not_overwritten(text: Path) -> None:
    with pytest.raises(InputError, match="would be overwritten"):
        build_bigrams([text], text)


def test_folder_without_text_files_is_rejected(text: Path, tmp_path: Path) -> None:
    text.unlink()
    with pytest.raises(InputError, match=r"has no \*\.txt"):
        build_bigrams([text.parent], tmp_path / "my.lm")
