"""When the words of a recording are spoken: reference times in the format that aligners write.

CTM has a line for each word: ``RECORDING CHANNEL START DURATION WORD [CONFIDENCE]``, times in seconds since the
start of the recording, whose name is that of its file without the ending. Lines that begin with ``;;`` are comments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from corpus import Placed

from stream_asr.events import Word

_COLUMNS = 5


def parse_ctm(lines: Iterable[str], source: str = "the CTM") -> dict[str, list[Word]]:
    """From a recording's name to its words in the order in which they end.

    Raises:
        SystemExit: a line is no CTM; says which one.
    """
    found: dict[str, list[Word]] = {}
    for number, line in enumerate(lines, 1):
        columns = line.split()
        if not columns or line.startswith(";;"):
            continue
        try:
            if len(columns) < _COLUMNS:
                raise ValueError(f"{len(columns)} columns")
            start, length = float(columns[2]), float(columns[3])
            confidence = float(columns[5]) if len(columns) > _COLUMNS else 1.0
        except ValueError as error:
            wanted = "RECORDING CHANNEL START DURATION WORD"
            raise SystemExit(f"line {number} of {source} is not of the form {wanted}: {error}") from None
        found.setdefault(columns[0], []).append(Word(columns[4], start, start + length, confidence))
    return {name: sorted(words, key=lambda word: word.end) for name, words in found.items()}


def placed_words(by_recording: Mapping[str, Sequence[Word]], places: Sequence[Placed]) -> list[Word]:
    """The words of recordings that were put one after the other, on the time axis of the whole.

    Raises:
        SystemExit: there are no words of some recording; says of which.
    """
    missing = sorted({place.name for place in places} - by_recording.keys())
    if missing:
        raise SystemExit(f"there are no word times of {', '.join(missing[:5])}; there are of {_some(by_recording)}")
    return [
        replace(word, start=word.start + place.start_s, end=word.end + place.start_s)
        for place in places
        for word in by_recording[place.name]
    ]


def read_words(path: Path, places: Sequence[Placed]) -> list[Word]:
    """The words of a CTM file for these recordings.

    Raises:
        SystemExit: as `parse_ctm` and `placed_words`.
    """
    return placed_words(parse_ctm(path.read_text(encoding="utf-8").splitlines(), str(path)), places)


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:5]) or "nothing"
