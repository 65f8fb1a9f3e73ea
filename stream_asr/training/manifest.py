"""Read manifests: tables of recordings and their texts.

A manifest is a tab-separated table (TSV) whose first line names the columns, or a file of JSON lines. The columns
``path`` and ``text`` are required. ``speaker``, ``start`` and ``end`` (seconds) are optional; ``start`` and ``end``
select the part of the recording that contains the text. Other columns are ignored. Relative paths are relative to the
folder of the manifest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_asr.errors import InputError

_REQUIRED = ("path", "text")
_COLUMNS = "path and text are required; speaker, start and end (seconds) are optional"


@dataclass(frozen=True, slots=True)
class Row:
    """A valid row of a manifest.

    Attributes:
        line: line number in the file, starting at 1.
        end_s: None for the end of the recording.
    """

    line: int
    path: Path
    text: str
    speaker: str = ""
    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of a manifest that cannot be used.

    Attributes:
        line: line number in the file, starting at 1.
        reason: what is wrong, with the offending value.
    """

    line: int
    reason: str


def read_manifest(path: Path) -> tuple[list[Row], list[BadRow]]:
    """Read a manifest, without opening the recordings.

    Returns:
        The valid rows and the malformed rows.

    Raises:
        InputError: the file cannot be read, is not UTF-8, has no rows, or its header lacks a required column.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); a manifest is a TSV or JSON lines file") from error
    except OSError as error:
        raise InputError(f"cannot read the manifest {path}: {error.strerror or error}") from error
    rows: list[Row] = []
    bad_rows: list[BadRow] = []
    first = next((line for line in lines if line.strip()), "")
    for number, fields in _read_json_lines(lines) if first.lstrip().startswith("{") else _read_tsv(path, lines):
        try:
            rows.append(_parse_row(number, fields, path.parent))
        except ValueError as error:
            bad_rows.append(BadRow(number, str(error)))
    if not rows and not bad_rows:
        raise InputError(f"{path} has no rows; {_COLUMNS}")
    return rows, bad_rows


_Fields = Mapping[str, Any] | ValueError
"""The fields of a row, or the reason why it is malformed."""


def _read_tsv(path: Path, lines: list[str]) -> Iterator[tuple[int, _Fields]]:
    numbered = [(number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]
    header = [name.strip() for name in numbered[0][1].split("\t")] if numbered else []
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        raise InputError(
            f"the first line of {path} must name the columns, separated by tabs; missing: {', '.join(missing)}. "
            f"{_COLUMNS}. JSON lines are also accepted"
        )
    for number, line in numbered[1:]:
        values = line.split("\t")
        if len(values) > len(header):
            yield number, ValueError(f"{len(values)} columns, but the header has {len(header)}")
        else:
            yield number, dict(zip(header, values, strict=False))


def _read_json_lines(lines: list[str]) -> Iterator[tuple[int, _Fields]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            yield number, ValueError(f"invalid JSON: {error}")
            continue
        yield number, fields if isinstance(fields, dict) else ValueError(f"not a JSON object: {line.strip()[:40]}")


def _parse_row(line: int, fields: _Fields, folder: Path) -> Row:
    """Raise ValueError with the reason if the row is malformed."""
    if isinstance(fields, ValueError):
        raise fields
    for name in _REQUIRED:
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise ValueError(f"no {name}")
    start_s, end_s = _parse_seconds(fields, "start"), _parse_seconds(fields, "end")
    if end_s is not None and end_s <= (start_s or 0.0):
        raise ValueError(f"end ({end_s:g} s) is not after start ({start_s or 0:g} s)")
    return Row(
        line,
        folder / Path(fields["path"].strip()).expanduser(),
        fields["text"].strip(),
        str(fields.get("speaker") or "").strip(),
        start_s or 0.0,
        end_s,
    )


def _parse_seconds(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} is {value!r}; it must be a number of seconds, 0 or more")
    return seconds
