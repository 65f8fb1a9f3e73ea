"""Check all recordings and texts before training begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Alphabet, OutOfAlphabetError, Target
from stream_asr.training.clips import measure_duration_s
from stream_asr.training.dataset import Utterance
from stream_asr.training.manifest import BadRow, Row
from stream_asr.training.settings import TIME_TOLERANCE_S, VALIDATION_THREADS


class FrameCounter(Protocol):
    """Knows how many frames a model outputs."""

    def frame_count(self, samples: int) -> int:
        """Return the number of output frames of a clip."""


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The usable and unusable rows of a manifest.

    Attributes:
        utterances: the usable rows.
        bad_rows: the unusable rows, in order.
        dropped: counts of the punctuation that was removed from the texts.
    """

    utterances: tuple[Utterance, ...]
    bad_rows: tuple[BadRow, ...]
    dropped: Counter[str]


def validate_rows(
    rows: Sequence[Row],
    alphabet: Alphabet,
    frame_counter: FrameCounter,
    max_clip_s: float,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ValidationResult:
    """Decode every recording once, and compare its duration with its text and the limits of the model.

    Args:
        rows: rows of one manifest.
        alphabet: alphabet of the model.
        frame_counter: the model.
        max_clip_s: maximum duration of a clip.
        on_progress: called with the number of decoded recordings and the total number.
    """
    durations_s = _measure_durations_s({row.path for row in rows}, on_progress)
    utterances: list[Utterance] = []
    bad_rows: list[BadRow] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        try:
            utterance = _validate_row(row, durations_s[row.path], alphabet, frame_counter, max_clip_s)
        except ValueError as error:
            bad_rows.append(BadRow(row.line, str(error)))
        else:
            utterances.append(utterance)
            dropped.update(utterance.target.dropped)
    return ValidationResult(tuple(utterances), tuple(bad_rows), dropped)


def _measure_durations_s(
    paths: Iterable[Path], on_progress: Callable[[int, int], None]
) -> dict[Path, float | InputError]:
    ordered = sorted(paths)
    durations_s: dict[Path, float | InputError] = {}
    with ThreadPoolExecutor(VALIDATION_THREADS) as pool:
        try:
            for path, duration_s in zip(ordered, pool.map(_duration_or_error, ordered), strict=True):
                durations_s[path] = duration_s
                on_progress(len(durations_s), len(ordered))
        finally:
            pool.shutdown(cancel_futures=True)
    return durations_s


def _duration_or_error(path: Path) -> float | InputError:
    try:
        return measure_duration_s(path)
    except InputError as error:
        return error


def _validate_row(
    row: Row, duration_s: float | InputError, alphabet: Alphabet, frame_counter: FrameCounter, max_clip_s: float
) -> Utterance:
    """Raise ValueError (InputError is a subclass) with the reason if the row is unusable."""
    if isinstance(duration_s, InputError):
        raise duration_s
    target = _encode(row.text, alphabet)
    for name, time_s in (("start", row.start_s), ("end", row.end_s)):
        if time_s is not None and time_s > duration_s + TIME_TOLERANCE_S:
            raise ValueError(f"{name} ({time_s:g} s) is beyond the end of {row.path} ({duration_s:.2f} s)")
    seconds = (duration_s if row.end_s is None else min(row.end_s, duration_s)) - row.start_s
    samples = round(seconds * SAMPLE_RATE)
    if samples < 1:
        raise ValueError(f"no audio between start and end of {row.path}")
    if seconds > max_clip_s:
        raise ValueError(f"{seconds:.1f} s; the longest batch is {max_clip_s:g} s (--batch-seconds) ({row.path})")
    frames = frame_counter.frame_count(samples)
    if frames < target.min_frames:
        raise ValueError(
            f"{seconds:.2f} s are {frames} frames of the model, too few for {len(target.ids)} tokens, which need "
            f"{target.min_frames}: is {target.text[:40]!r} the text of {row.path}?"
        )
    return Utterance(row.path, row.start_s, row.end_s, seconds, row.speaker, target, row.text.strip())


def _encode(text: str, alphabet: Alphabet) -> Target:
    try:
        return alphabet.encode(text)
    except OutOfAlphabetError as error:
        raise ValueError(f"{error}; its alphabet is {alphabet.characters!r}: {text[:60]!r}") from error
