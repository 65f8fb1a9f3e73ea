"""Position, statistics and progress display of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stream_asr.training.scoring import ErrorRates


@dataclass(slots=True)
class Position:
    """Position of a run.

    Attributes:
        step: optimizer steps done.
        epoch: completed epochs.
        batch: completed batches of the current epoch.
        elapsed_s: wall-clock time, summed over all parts of a resumed run.
        audio_s: processed audio.
        skipped: steps skipped because their gradients were not finite.
        best: lowest score of all evaluations.
        best_step: step of the best evaluation.
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
    """Statistics for a progress display and a log.

    Attributes:
        step: optimizer steps done.
        epochs: epochs done, with a fraction.
        progress: share of the run that is done, 0 to 1.
        loss: mean of the finite losses since the last report; NaN if there were none.
        learning_rate: learning rate of the last step.
        audio_rate: seconds of audio per second since the last report.
        elapsed_s: wall-clock time, summed over all parts of a resumed run.
        remaining_s: estimated time to the end of the run; None if unknown.
        skipped: steps skipped because their gradients were not finite.
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


class ProgressDisplay(Protocol):
    """Shows the progress of a run to the user."""

    def show_message(self, text: str) -> None:
        """Show a line of text."""

    def show_task(self, task: str, done: int, total: int) -> None:
        """Show the progress of a task other than training."""

    def show_report(self, report: Report) -> None:
        """Show the progress of training."""

    def show_evaluation(self, label: str, rates: ErrorRates) -> None:
        """Show the result of an evaluation; ``label`` says of which model."""


class Timer:
    """Wall-clock time of a run, including earlier parts of a resumed run."""

    def __init__(self, earlier_s: float, clock: Callable[[], float]) -> None:
        self._clock, self._zero = clock, clock() - earlier_s

    def elapsed_s(self) -> float:
        return self._clock() - self._zero


class Meter:
    """Collects statistics between two reports.

    Losses stay on their device until the report, because fetching each one would stall a GPU.
    """

    def __init__(self, position: Position, progress: float) -> None:
        self._start_s, self._start_progress = position.elapsed_s, progress
        self._reset(position)

    def _reset(self, position: Position) -> None:
        self._losses: list[Tensor] = []
        self.since_s, self._audio_s = position.elapsed_s, position.audio_s

    @property
    def steps(self) -> int:
        """Steps since the last report."""
        return len(self._losses)

    def add(self, loss: Tensor) -> None:
        self._losses.append(loss)

    def report(self, position: Position, epochs: float, progress: float, learning_rate: float) -> Report:
        elapsed_s, gained = position.elapsed_s - self._start_s, progress - self._start_progress
        losses = torch.stack(self._losses)
        report = Report(
            step=position.step,
            epochs=epochs,
            progress=progress,
            loss=float(losses[losses.isfinite()].mean()),
            learning_rate=learning_rate,
            audio_rate=(position.audio_s - self._audio_s) / max(1e-9, position.elapsed_s - self.since_s),
            elapsed_s=position.elapsed_s,
            remaining_s=elapsed_s * (1 - progress) / gained if gained > 0 else None,
            skipped=position.skipped,
        )
        self._reset(position)
        return report
