"""Looking at every recording and every text before the first hour of training, not after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Alphabet, TokenGraph, UnwritableError
from stream_asr.training.clips import measure
from stream_asr.training.dataset import Utterance
from stream_asr.training.manifest import BadRow, Row

_WORKERS = 4
_ROUNDING_S = 0.05
"""People write times with one or two decimals."""


class ClipLimits(Protocol):
    """What a model takes."""

    def frames(self, samples: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Checked:
    """What of a manifest can be used.

    Attributes:
        bad: the rows that cannot, in their order.
        dropped: punctuation that was left out of the texts, and how often.
    """

    utterances: tuple[Utterance, ...]
    bad: tuple[BadRow, ...]
    dropped: Counter[str]


def check(
    rows: Sequence[Row],
    alphabet: Alphabet,
    limits: ClipLimits,
    longest_s: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Checked:
    """Decode every recording once, and hold it against its text and against what the model takes.

    Args:
        rows: of one manifest.
        longest_s: longest clip that training has room for.
        progress: called with the recordings decoded and those there are.
    """
    lengths = _lengths({row.path for row in rows}, progress)
    utterances: list[Utterance] = []
    bad: list[BadRow] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        try:
            utterance = _utterance(row, lengths[row.path], alphabet, limits, longest_s)
        except ValueError as error:
            bad.append(BadRow(row.line, str(error)))
        else:
            utterances.append(utterance)
            dropped.update(utterance.spelling.dropped)
    return Checked(tuple(utterances), tuple(bad), dropped)


def _lengths(paths: Iterable[Path], progress: Callable[[int, int], None]) -> dict[Path, float | InputError]:
    ordered = sorted(paths)
    lengths: dict[Path, float | InputError] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for path, length in zip(ordered, pool.map(_length, ordered), strict=True):
                lengths[path] = length
                progress(len(lengths), len(ordered))
        finally:
            pool.shutdown(cancel_futures=True)
    return lengths


def _length(path: Path) -> float | InputError:
    try:
        return measure(path)
    except InputError as error:
        return error


def _utterance(
    row: Row, length_s: float | InputError, alphabet: Alphabet, limits: ClipLimits, longest_s: float
) -> Utterance:
    """Raises ValueError (InputError is one) with what is wrong."""
    if isinstance(length_s, InputError):
        raise length_s
    spelling = _spelling(row.text, alphabet)
    for name, time_s in (("start", row.start_s), ("end", row.end_s)):
        if time_s is not None and time_s > length_s + _ROUNDING_S:
            raise ValueError(f"{name} ({time_s:g} s) lies beyond the {length_s:.2f} s of {row.path}")
    seconds = (length_s if row.end_s is None else min(row.end_s, length_s)) - row.start_s
    samples = round(seconds * SAMPLE_RATE)
    if samples < 1:
        raise ValueError(f"nothing is left of {row.path} between start and end")
    if seconds > longest_s:
        raise ValueError(f"{seconds:.1f} s; a batch holds {longest_s:g} s (--batch-seconds) ({row.path})")
    frames = limits.frames(samples)
    if frames < spelling.fewest_frames:
        raise ValueError(
            f"{seconds:.2f} s are {frames} frames of the model, too short for {len(spelling.ids)} characters, which "
            f"take {spelling.fewest_frames}: is {spelling.text[:40]!r} the text of {row.path}?"
        )
    return Utterance(row.path, row.start_s, row.end_s, seconds, row.speaker, spelling)


def _spelling(text: str, alphabet: Alphabet) -> TokenGraph:
    try:
        return alphabet.spell(text)
    except UnwritableError as error:
        raise ValueError(f"the model cannot write {error}; it writes {alphabet.characters!r}: {text[:60]!r}") from error
