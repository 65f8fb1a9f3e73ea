"""Where a run is, and what can be told about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Position:
    """Where a run is.

    Attributes:
        step: updates of the weights so far.
        epoch: whole epochs before the current one.
        batch: batches of the current epoch that are done.
        elapsed_s: of all parts of a resumed run together.
        audio_s: of audio learnt from.
        skipped: steps left out because their gradients were no numbers.
        best: the lowest score of an evaluation.
        best_step: when it was reached.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    elapsed_s: float = 0.0
    audio_s: float = 0.0
    skipped: int = 0
    best: float = math.inf
    best_step: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What a progress display and a log want to know.

    Attributes:
        epochs: epochs done, with fractions.
        progress: part of the run that is done, 0 to 1.
        loss: mean since the last report, of the steps whose loss was a number; NaN when none was.
        audio_rate: seconds of audio a second since the last report.
        remaining_s: seconds to go, at the pace so far; None while nothing can be said.
    """

    step: int
    epochs: float
    progress: float
    loss: float
    learning_rate: float
    audio_rate: float
    elapsed_s: float
    remaining_s: float | None
    skipped: int


class Timer:
    """Seconds of this run and of the parts before it."""

    def __init__(self, before_s: float, clock: Callable[[], float]) -> None:
        self._clock, self._zero = clock, clock() - before_s

    def now(self) -> float:
        return self._clock() - self._zero


class Meter:
    """Collects what happens between two reports. Losses stay where they are: fetching each would hold up a GPU."""

    def __init__(self, position: Position, progress: float) -> None:
        self._start_s, self._start = position.elapsed_s, progress
        self._reset(position)

    def _reset(self, position: Position) -> None:
        self._losses: list[Tensor] = []
        self.since_s, self._audio_s = position.elapsed_s, position.audio_s

    @property
    def steps(self) -> int:
        return len(self._losses)

    def add(self, loss: Tensor) -> None:
        self._losses.append(loss)

    def report(self, position: Position, epochs: float, progress: float, rate: float) -> Report:
        elapsed_s, gained = position.elapsed_s - self._start_s, progress - self._start
        losses = torch.stack(self._losses)
        report = Report(
            step=position.step,
            epochs=epochs,
            progress=progress,
            loss=float(losses[losses.isfinite()].mean()),
            learning_rate=rate,
            audio_rate=(position.audio_s - self._audio_s) / max(1e-9, position.elapsed_s - self.since_s),
            elapsed_s=position.elapsed_s,
            remaining_s=elapsed_s * (1 - progress) / gained if gained > 0 else None,
            skipped=position.skipped,
        )
        self._reset(position)
        return report
