"""Evaluation, logging, model selection and checkpoints of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import typer

from recipes.embedded_en.averaging import WeightAverage
from recipes.embedded_en.settings import REPORTS_PER_LINE
from stream_asr.training.artifacts import EventLog
from stream_asr.training.checkpoint import State, save_checkpoint
from stream_asr.training.progress import Position, Report

CHECKPOINT, BEST, LOG = "checkpoint.pt", "best.pt", "log.jsonl"


class RecipeHooks:
    """Implements `stream_asr.training.loop.Hooks`. Only the first process evaluates, prints and saves.

    Args:
        folder: folder for the checkpoint, the log and the best weights, which are averaged.
        average: average of the model's weights.
        measure: returns error rates in percent by name, for the model with averaged weights. The first rate selects
            the best weights.
        first: whether this is the first process.
    """

    def __init__(
        self, folder: Path, average: WeightAverage, measure: Callable[[], Mapping[str, float]], *, first: bool
    ) -> None:
        self._folder, self._average, self._measure = folder, average, measure
        self._first, self._reports = first, 0
        self._log = EventLog(folder / LOG)

    def report(self, report: Report) -> None:
        self._reports += 1
        if not self._first or self._reports % REPORTS_PER_LINE:
            return
        self._log.write("training", **asdict(report))
        typer.echo(
            f"step {report.step}  epoch {report.epochs:.2f}  loss {report.loss:.3f}  "
            f"{report.audio_rate:.0f} s of audio per second and process  "
            f"{report.progress:.0%}, {(report.remaining_s or 0) / 60:.0f} min to go"
        )

    def evaluate(self, position: Position) -> float:
        if not self._first:
            return 0.0
        with self._average.applied():
            rates = self._measure()
        values = {"step": position.step, "audio_s": position.audio_s, "elapsed_s": position.elapsed_s}
        self._log.write("evaluation", **values, **rates)
        text = ", ".join(f"{name.upper()} {rate:.2f} %" for name, rate in rates.items())
        typer.echo(f"step {position.step}: {text}")
        return next(iter(rates.values()))

    def save_best(self, position: Position) -> None:
        if self._first:
            save_checkpoint(self._folder / BEST, self._average.state_dict()["weights"])

    def save_checkpoint(self, state: State) -> None:
        if self._first:
            save_checkpoint(self._folder / CHECKPOINT, {"trainer": state, "average": self._average.state_dict()})

    def stop(self) -> bool:
        return False
