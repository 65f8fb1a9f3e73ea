"""Reading manifests: accepted formats, malformed rows, and error messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_asr.errors import InputError
from stream_asr.training.manifest import BadRow, Row, read_manifest


def write_manifest(folder: Path, content: str) -> Path:
    path = folder / "train.tsv"
    path.write_text(content, encoding="utf-8")
    return path


def test_columns_may_be_in_any_order(tmp_path: Path) -> None:
    path = write_manifest(
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
def test_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(("\ufeffpath\ttext" + newline + "a.wav\tyes" + newline).encode())
    assert read_manifest(path) == ([Row(2, tmp_path / "a.wav", "yes")], [])


def test_json_lines_are_accepted(tmp_path: Path) -> None:
    rows = [{"path": "a.wav", "text": "yes", "start": 1, "end": None, "other": [1]}, {"path": "b.wav", "text": "no"}]
    path = write_manifest(tmp_path, "\n".join(map(json.dumps, rows)))
    assert read_manifest(path) == ([Row(1, tmp_path / "a.wav", "yes", "", 1.0), Row(2, tmp_path / "b.wav", "no")], [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("\tyes", "no path"),
        ("a.wav\t ", "no text"),
        ("a.wav", "no text"),
        ("a.wav\tyes\tsoon", "start is 'soon'; it must be a number of seconds, 0 or more"),
        ("a.wav\tyes\t-1", "start is '-1'; it must be a number of seconds, 0 or more"),
        ("a.wav\tyes\tnan", "start is 'nan'; it must be a number of seconds, 0 or more"),
        ("a.wav\tyes\t2\t2", "end (2 s) is not after start (2 s)"),
        ("a.wav\tyes\t\t0", "end (0 s) is not after start (0 s)"),
        ("a.wav\tyes\t1\t2\t3", "5 columns, but the header has 4"),
    ],
)
def test_bad_row_of_a_table_is_returned_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = write_manifest(tmp_path, f"path\ttext\tstart\tend\ngood.wav\tyes\n{line}\n")
    assert read_manifest(path) == ([Row(2, tmp_path / "good.wav", "yes")], [BadRow(3, reason)])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"path": "a.wav"}', "no text"),
        ('{"path": "a.wav", "text": 7}', "no text"),
        ('{"path": "a.wav", "text": "yes", "end": true}', "end is True; it must be a number of seconds, 0 or more"),
        ("[1]", "not a JSON object"),
        ('{"path": ', "invalid JSON: "),
    ],
)
def test_bad_row_of_json_lines_is_returned_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = write_manifest(tmp_path, '{"path": "good.wav", "text": "yes"}\n' + line)
    rows, bad_rows = read_manifest(path)
    assert rows == [Row(1, tmp_path / "good.wav", "yes")]
    assert bad_rows[0].line == 2
    assert reason in bad_rows[0].reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must name the columns.*missing: path, text"),
        (b"file\ttext\na.wav\tyes\n", r"must name the columns.*missing: path\."),
        (b"path\ttext\n\n", "has no rows"),
        (b"path\ttext\na.wav\t\xff\n", "is not UTF-8"),
    ],
)
def test_file_that_is_not_a_manifest_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_manifest(path)


def test_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the manifest .*missing\.tsv: No such file"):
        read_manifest(tmp_path / "missing.tsv")
