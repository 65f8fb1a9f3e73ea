"""Manifests and alphabets: what is read, what is refused, and with which words."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.acoustic.labels import Labels
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Alphabet, UnwritableError, collected
from stream_asr.training.manifest import BadRow, Row, read_manifest
from stream_asr.training.validation import check

LETTERS = Labels(("", " ", *"abcdefghijklmnopqrstuvwxyz'"), blank=0)


class Limits:
    """A model of 50 frames a second."""

    def frames(self, samples: int) -> int:
        return samples // 320


def written(tmp_path: Path, text: str, name: str = "train.tsv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


# --- reading ----------------------------------------------------------------------------------------------


def test_a_table_with_columns_in_any_order(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "text\tduration\tpath\tspeaker\tstart\tend\n"
        'she said "yes"\t9\ta.wav\tanna\t1.5\t2\n'
        "\n"
        f"no\t9\t{tmp_path}/b.wav\n",
    )
    assert read_manifest(path) == (
        [
            Row(2, tmp_path / "a.wav", 'she said "yes"', "anna", 1.5, 2.0),
            Row(4, tmp_path / "b.wav", "no"),
        ],
        [],
    )


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_table_from_a_spreadsheet(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(("\ufeffpath\ttext" + newline + "a.wav\tyes" + newline).encode())
    assert read_manifest(path) == ([Row(2, tmp_path / "a.wav", "yes")], [])


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"path": "a.wav", "text": "yes", "start": 1, "end": None, "other": [1]}, {"path": "b.wav", "text": "no"}]
    path = written(tmp_path, "\n".join(map(json.dumps, rows)))
    assert read_manifest(path) == ([Row(1, tmp_path / "a.wav", "yes", "", 1.0), Row(2, tmp_path / "b.wav", "no")], [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("\tyes", "no path"),
        ("a.wav\t ", "no text"),
        ("a.wav", "no text"),
        ("a.wav\tyes\tsoon", "start is 'soon'; seconds are needed, 0 or more"),
        ("a.wav\tyes\t-1", "start is '-1'; seconds are needed, 0 or more"),
        ("a.wav\tyes\tnan", "start is 'nan'; seconds are needed, 0 or more"),
        ("a.wav\tyes\t2\t2", "end (2 s) is not after start (2 s)"),
        ("a.wav\tyes\t\t0", "end (0 s) is not after start (0 s)"),
        ("a.wav\tyes\t1\t2\t3", "5 columns where the header names 4"),
    ],
)
def test_a_bad_line_of_a_table_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = written(tmp_path, f"path\ttext\tstart\tend\ngood.wav\tyes\n{line}\n")
    assert read_manifest(path) == ([Row(2, tmp_path / "good.wav", "yes")], [BadRow(3, why)])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"path": "a.wav"}', "no text"),
        ('{"path": "a.wav", "text": 7}', "no text"),
        ('{"path": "a.wav", "text": "yes", "end": true}', "end is True; seconds are needed, 0 or more"),
        ("[1]", "no JSON object"),
        ('{"path": ', "no JSON: "),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = written(tmp_path, '{"path": "good.wav", "text": "yes"}\n' + line)
    rows, bad = read_manifest(path)
    assert rows == [Row(1, tmp_path / "good.wav", "yes")]
    assert bad[0].line == 2
    assert why in bad[0].why


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must name the columns.*no path and no text there"),
        (b"file\ttext\na.wav\tyes\n", "must name the columns.*no path there"),
        (b"path\ttext\n\n", "has no rows"),
        (b"path\ttext\na.wav\t\xff\n", "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_manifest(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_manifest(path)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the manifest .*no\.tsv: No such file"):
        read_manifest(tmp_path / "no.tsv")


# --- alphabets --------------------------------------------------------------------------------------------


def test_a_text_is_written_as_the_model_does() -> None:
    spelling = Alphabet(LETTERS).spell("  Well — it's TWENTY-one,\tisn’t it? ")
    assert spelling.text == "well it's twenty one isn't it"
    assert "".join(LETTERS.pieces[index] for index in spelling.ids) == spelling.text
    assert spelling.dropped == "—-,?"


@pytest.mark.parametrize(
    ("text", "missing"), [("at 5 o'clock", "5"), ("50 %", "%05"), ("café", "é"), ("R&D", "&"), ("1 €", "1€")]
)
def test_what_is_spoken_but_cannot_be_written_is_an_error(text: str, missing: str) -> None:
    with pytest.raises(UnwritableError) as caught:
        Alphabet(LETTERS).spell(text)
    assert str(caught.value) == missing


@pytest.mark.parametrize("text", ["", "...", " - "])
def test_nothing_but_punctuation_is_an_error(text: str) -> None:
    with pytest.raises(UnwritableError, match="nothing that can be written"):
        Alphabet(LETTERS).spell(text)


def test_a_model_that_writes_capitals_and_marks_keeps_them() -> None:
    alphabet = Alphabet(Labels(("", " ", *"abNo,"), blank=0))
    assert alphabet.spell("No, ab!").text == "No, ab"
    assert alphabet.characters == ",Nabo"


def test_an_apostrophe_that_cannot_be_written_leaves_no_space() -> None:
    assert Alphabet(Labels(("", " ", *"dont"), blank=0)).spell("don't").text == "dont"


def test_accents_may_come_in_two_pieces() -> None:
    assert Alphabet(Labels(("", *"caf\u00e9"), blank=0)).spell("cafe\u0301").ids == (1, 2, 3, 4)


def test_a_model_without_a_space_writes_single_words() -> None:
    alphabet = Alphabet(Labels(("", *"abc"), blank=0))
    assert alphabet.spell("ab").ids == (1, 2)
    with pytest.raises(UnwritableError, match="the space"):
        alphabet.spell("a b")


def test_repetitions_take_a_frame_more() -> None:
    assert Alphabet(LETTERS).spell("aab bb").fewest_frames == 6 + 2


@given(st.text(alphabet="abcxyz' ", min_size=1).filter(lambda text: text.strip()))
def test_clean_text_stays_as_it_is(text: str) -> None:
    clean = " ".join(text.split())
    spelling = Alphabet(LETTERS).spell(clean)
    assert (spelling.text, spelling.dropped) == (clean, "")


@given(st.lists(st.text(st.characters(categories=["L", "M", "Nd", "Po", "Zs"], exclude_characters="%&@#§‰"))))
def test_an_alphabet_of_texts_writes_all_their_letters(texts: list[str]) -> None:
    def letters(text: str) -> str:
        return "".join(character for character in text if unicodedata.category(character)[0] in "LMN")

    alphabet = Alphabet(Labels(("", " ", *collected(texts)), blank=0))
    for text in texts:
        lower = unicodedata.normalize("NFC", text.lower())
        if letters(lower):
            assert letters(alphabet.spell(text).text) == letters(lower)


# --- recordings against texts -----------------------------------------------------------------------------


@pytest.fixture
def second(tmp_path: Path) -> Path:
    path = tmp_path / "second.wav"
    soundfile.write(path, np.zeros(8_000), 8_000)
    return path


def why(row: Row) -> str:
    checked = check([row], Alphabet(LETTERS), Limits(), longest_s=60.0)
    assert not checked.utterances
    assert checked.bad[0].line == row.line
    return checked.bad[0].why


def test_a_usable_row(second: Path) -> None:
    checked = check(
        [Row(2, second, "Yes, yes."), Row(3, second, "no", "anna", 0.25, 1.04)], Alphabet(LETTERS), Limits(), 60.0
    )
    whole, part = checked.utterances
    assert (whole.seconds, whole.spelling.text, whole.end_s) == (1.0, "yes yes", None)
    assert (part.seconds, part.speaker, part.start_s) == (pytest.approx(0.75, abs=0.001), "anna", 0.25)
    assert checked.dropped == {",": 1, ".": 1}


def test_rows_that_cannot_be_used(second: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "cut.flac").write_bytes(b"")
    assert "No such file" in why(Row(2, tmp_path / "no.wav", "yes"))
    assert "not audio that can be decoded" in why(Row(2, tmp_path / "text.wav", "yes"))
    assert "is empty" in why(Row(2, tmp_path / "cut.flac", "yes"))
    assert "cannot write 5; it writes \"'abc" in why(Row(2, second, "at 5"))
    assert "start (2 s) lies beyond the 1.00 s" in why(Row(2, second, "yes", start_s=2))
    assert "end (1.2 s) lies beyond the 1.00 s" in why(Row(2, second, "yes", end_s=1.2))
    assert "nothing is left" in why(Row(2, second, "yes", start_s=1.0))
    assert "50 frames of the model, too short for 51 characters, which take 51" in why(Row(2, second, 17 * "abc"))
    assert "too short for 26 characters, which take 51" in why(Row(2, second, 26 * "a"))


def test_a_clip_longer_than_a_batch(second: Path) -> None:
    checked = check([Row(2, second, "yes")], Alphabet(LETTERS), Limits(), longest_s=0.5)
    assert "a batch holds 0.5 s (--batch-seconds)" in checked.bad[0].why


def test_a_damaged_recording_is_found_by_decoding_it(tmp_path: Path) -> None:
    path = tmp_path / "damaged.flac"
    soundfile.write(path, np.random.default_rng(0).normal(scale=0.1, size=160_000), 16_000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    assert "damaged.flac" in why(Row(7, path, "yes"))


def test_progress_counts_recordings_not_rows(second: Path) -> None:
    seen: list[tuple[int, int]] = []
    rows = [Row(2, second, "yes"), Row(3, second, "no"), Row(4, second.with_name("other.wav"), "no")]
    check(rows, Alphabet(LETTERS), Limits(), 60.0, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
