"""Manifests: which recordings there are, and what is said in them.

A manifest is a table with tabs (TSV) whose first line names the columns, or JSON lines. ``path`` and ``text`` are
needed; ``speaker``, ``start`` and ``end`` (seconds: the part of the recording that the text is of) are optional,
other columns are ignored. Relative paths are relative to the manifest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_asr.errors import InputError

_NEEDED = ("path", "text")
_COLUMNS = "path and text are needed, speaker, start and end (seconds) are optional"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a manifest.

    Attributes:
        line: its number in the file; the first is 1.
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
    """A line of a manifest that cannot be used.

    Attributes:
        why: what is wrong with it, and with what.
    """

    line: int
    why: str


def read_manifest(path: Path) -> tuple[list[Row], list[BadRow]]:
    """The rows of a manifest, and those that say too little or nonsense. The recordings are not looked at.

    Raises:
        InputError: the file cannot be read, is not text in UTF-8, or its header does not name what is needed.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); a manifest is text: TSV or JSON lines") from error
    except OSError as error:
        raise InputError(f"cannot read the manifest {path}: {error.strerror or error}") from error
    rows: list[Row] = []
    bad: list[BadRow] = []
    first = next((line for line in lines if line.strip()), "")
    for number, fields in _json_lines(lines) if first.lstrip().startswith("{") else _tsv(path, lines):
        try:
            rows.append(_row(number, fields, path.parent))
        except ValueError as error:
            bad.append(BadRow(number, str(error)))
    if not rows and not bad:
        raise InputError(f"{path} has no rows; {_COLUMNS}")
    return rows, bad


_Fields = Mapping[str, Any] | ValueError


def _tsv(path: Path, lines: list[str]) -> Iterator[tuple[int, _Fields]]:
    numbered = [(number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]
    header = [name.strip() for name in numbered[0][1].split("\t")] if numbered else []
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise InputError(
            f"the first line of {path} must name the columns, separated by tabs; no {' and no '.join(missing)} there: "
            f"{_COLUMNS} (JSON lines are taken as well)"
        )
    for number, line in numbered[1:]:
        values = line.split("\t")
        if len(values) > len(header):
            yield number, ValueError(f"{len(values)} columns where the header names {len(header)}")
        else:
            yield number, dict(zip(header, values, strict=False))


def _json_lines(lines: list[str]) -> Iterator[tuple[int, _Fields]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            yield number, ValueError(f"no JSON: {error}")
            continue
        yield number, fields if isinstance(fields, dict) else ValueError(f"no JSON object: {line.strip()[:40]}")


def _row(line: int, fields: _Fields, folder: Path) -> Row:
    """Raises ValueError for what makes it unusable."""
    if isinstance(fields, ValueError):
        raise fields
    for name in _NEEDED:
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise ValueError(f"no {name}")
    start_s, end_s = _seconds(fields, "start"), _seconds(fields, "end")
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


def _seconds(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} is {value!r}; seconds are needed, 0 or more")
    return seconds
