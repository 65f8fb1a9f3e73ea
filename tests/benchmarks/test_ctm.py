"""CTM files."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import PlaylistItem, Utterance
from ctm import parse_ctm, place_words, read_ctm

from stream_asr import InputError
from stream_asr.events import Word
from tests.support.fakes import silence

CTM = """;; a comment
b 1 0.50 0.25 what
a 1 1.00 0.50 not 0.9
a 1 0.20 0.30 ask
"""


def make_item(name: str, start_s: float) -> PlaylistItem:
    return PlaylistItem(Utterance(Path(f"{name}.flac"), "", ""), silence(1), start_s)


def test_words_are_grouped_by_recording_and_sorted() -> None:
    words = parse_ctm(CTM.splitlines())
    assert words == {
        "a": [Word("ask", 0.2, 0.5, 1.0), Word("not", 1.0, 1.5, 0.9)],
        "b": [Word("what", 0.5, 0.75, 1.0)],
    }


@pytest.mark.parametrize("line", ["a 1 0.2 0.3", "a 1 0.2 long ask"])
def test_malformed_line_is_named(line: str) -> None:
    with pytest.raises(InputError, match=r"line 2 of words.ctm does not have the format RECORDING CHANNEL START"):
        parse_ctm(["a 1 0 1 ask", line], "words.ctm")


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*words\.ctm"):
        read_ctm(tmp_path / "words.ctm")


def test_words_are_shifted_to_their_recordings() -> None:
    items = [make_item("b", 0.0), make_item("a", 10.0), make_item("b", 20.0)]
    words = place_words(parse_ctm(CTM.splitlines()), items)
    assert [(word.word, word.start, word.end) for word in words] == [
        ("what", 0.5, 0.75),
        ("ask", 10.2, 10.5),
        ("not", 11.0, 11.5),
        ("what", 20.5, 20.75),
    ]


def test_recordings_without_words_are_named() -> None:
    with pytest.raises(InputError, match="no word times for c; there are times for a, b"):
        place_words(parse_ctm(CTM.splitlines()), [make_item("c", 0.0)])
