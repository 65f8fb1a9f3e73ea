"""Reference word times in NIST's CTM format, which forced aligners write.

Each line describes one word: ``RECORDING CHANNEL START DURATION WORD [CONFIDENCE]``. Times are in seconds since the
start of the recording. RECORDING is the file name of the recording without its suffix. Lines that start with ``;;``
are comments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from corpus import PlaylistItem

from stream_asr.errors import InputError
from stream_asr.events import Word

_FORMAT = "RECORDING CHANNEL START DURATION WORD"
_REQUIRED_COLUMNS = len(_FORMAT.split())
_MAX_LISTED = 5
"""Recordings named in an error message."""


def parse_ctm(lines: Iterable[str], source: str = "the CTM file") -> dict[str, list[Word]]:
    """Parse CTM lines.

    Args:
        source: name of the file, for error messages.

    Returns:
        The words of each recording, sorted by their ends.

    Raises:
        InputError: a line is malformed; the message has its number.
    """
    words: dict[str, list[Word]] = {}
    for number, line in enumerate(lines, 1):
        columns = line.split()
        if not columns or line.startswith(";;"):
            continue
        try:
            if len(columns) < _REQUIRED_COLUMNS:
                raise ValueError(f"it has {len(columns)} columns")
            start_s, duration_s = float(columns[2]), float(columns[3])
            confidence = float(columns[5]) if len(columns) > _REQUIRED_COLUMNS else 1.0
        except ValueError as error:
            raise InputError(f"line {number} of {source} does not have the format {_FORMAT}: {error}") from None
        words.setdefault(columns[0], []).append(Word(columns[4], start_s, start_s + duration_s, confidence))
    return {name: sorted(found, key=lambda word: word.end) for name, found in words.items()}


def read_ctm(path: Path) -> dict[str, list[Word]]:
    """Read a CTM file; returns and raises as `parse_ctm`, and raises InputError for an unreadable file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    return parse_ctm(lines, str(path))


def place_words(words: Mapping[str, Sequence[Word]], items: Sequence[PlaylistItem]) -> list[Word]:
    """Shift the words of recordings to their positions in a playlist.

    Raises:
        InputError: a recording of the playlist has no words.
    """
    if missing := {item.name for item in items} - words.keys():
        available = f"there are times for {_shorten(words)}" if words else "the file is empty"
        raise InputError(f"there are no word times for {_shorten(missing)}; {available}")
    return [
        replace(word, start=word.start + item.start_s, end=word.end + item.start_s)
        for item in items
        for word in words[item.name]
    ]


def _shorten(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:_MAX_LISTED])
