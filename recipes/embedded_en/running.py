"""How the model is trained: in several processes of one thread each, with averaged weights, and what is measured, shown
and stored on the way.

On a processor two processes that average their gradients learn faster than one with two threads: most of a small
model's operations are too short to be divided.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
import typer
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.optim import Optimizer

from stream_asr.training.checkpoint import State, load_checkpoint, save_checkpoint
from stream_asr.training.loop import Batch, Batches, LoopConfig, Trainer
from stream_asr.training.output import Log
from stream_asr.training.progress import Position, Report
from stream_asr.training.schedule import Budget, Schedule

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
_REPORTS_A_LINE = 15
_CHECKPOINT_MINUTES = 5

T = TypeVar("T")
B = TypeVar("B", bound=Batch)


def processes() -> int:
    """One for each processor that this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(work: Callable[[int, int, T], None], task: T, folder: Path, processes: int) -> None:
    """Have the same work done by processes that meet in a folder, until all have done it.

    Args:
        work: a function of a module; called with the number of the process, how many there are, and ``task``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meeting = folder / ".processes"
    meeting.unlink(missing_ok=True)
    if processes == 1:
        _process(0, 1, work, task, meeting)
    else:
        spawn(_process, (processes, work, task, meeting), nprocs=processes)


def _process(rank: int, processes: int, work: Callable[[int, int, T], None], task: T, meeting: Path) -> None:
    torch.set_num_threads(1)
    # The others wait for the first while it evaluates.
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting.absolute()}",
        rank=rank,
        world_size=processes,
        timeout=timedelta(hours=1),
    )
    work(rank, processes, task)
    dist.destroy_process_group()


class Average:
    """A running average of a model's weights, which does better than the weights of any one step.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; here with
    exponentially falling shares, and fewer steps in it while there are few.
    """

    def __init__(self, model: nn.Module, stays: float) -> None:
        self._model, self._stays, self._steps = model, stays, 0
        self._weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self._steps += 1
        stays = min(self._stays, self._steps / (self._steps + 10))
        for name, weight in self._model.state_dict().items():
            self._weights[name].lerp_(weight, 1 - stays)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        own = {name: weight.clone() for name, weight in self._model.state_dict().items()}
        self._model.load_state_dict(self._weights)
        try:
            yield
        finally:
            self._model.load_state_dict(own)

    def state_dict(self) -> State:
        return {"steps": self._steps, "weights": self._weights}

    def load_state_dict(self, state: State) -> None:
        self._steps = state["steps"]
        for name, weight in state["weights"].items():
            self._weights[name].copy_(weight)


class Keeper:
    """See `stream_asr.training.loop.Hooks`. Only the first process measures, shows and stores.

    Args:
        folder: for the checkpoint, the log and the best weights, which are averages.
        measure: error rates in percent by their short names, of the model with the averaged weights; the first of them
            says which weights are best.
        first: this is that process.
    """

    def __init__(
        self, folder: Path, average: Average, measure: Callable[[], Mapping[str, float]], *, first: bool
    ) -> None:
        self._folder, self._average, self._measure = folder, average, measure
        self._first, self._reports = first, 0
        self._log = Log(folder / "log.jsonl")
        self.evaluate_minutes = 10.0 if first else 1e9

    def report(self, report: Report) -> None:
        self._reports += 1
        if not self._first or self._reports % _REPORTS_A_LINE:
            return
        self._log("training", **asdict(report))
        typer.echo(
            f"step {report.step}  epoch {report.epochs:.2f}  loss {report.loss:.3f}  "
            f"{report.audio_rate:.0f} s of audio a second and process  "
            f"{report.progress:.0%}, {(report.remaining_s or 0) / 60:.0f} min to go"
        )

    def evaluate(self, position: Position) -> float:
        if not self._first:
            return 0.0
        with self._average.applied():
            rates = self._measure()
        values = {"step": position.step, "audio_s": position.audio_s, "elapsed_s": position.elapsed_s}
        self._log("evaluation", **values, **rates)
        shown = ", ".join(f"{name.upper()} {rate:.2f} %" for name, rate in rates.items())
        typer.echo(f"step {position.step}: {shown}")
        return next(iter(rates.values()))

    def improved(self, position: Position) -> None:
        if self._first:
            save_checkpoint(self._folder / BEST, self._average.state_dict()["weights"])

    def checkpoint(self, state: State) -> None:
        if self._first:
            saved = {"trainer": state, "average": self._average.state_dict()}
            save_checkpoint(self._folder / CHECKPOINT, saved)

    def stop(self) -> bool:
        return False


def learn(
    model: nn.Module,
    data: Batches[B],
    loss: Callable[[B], Tensor],
    optimizer: Optimizer,
    schedule: Schedule,
    budget: Budget,
    average: Average,
    measure: Callable[[], Mapping[str, float]],
    folder: Path,
    *,
    first: bool,
) -> None:
    """Train to the end, from the checkpoint in the folder if there is one.

    Args:
        model, data, loss, optimizer, schedule, budget: see `Trainer`.
        average: of the model's weights, or of those of a part of it.
        measure, folder, first: see `Keeper`.
    """
    optimizer.register_step_post_hook(lambda *_: average.update())
    keeper = Keeper(folder, average, measure, first=first)
    config = LoopConfig(evaluate_minutes=keeper.evaluate_minutes, checkpoint_minutes=_CHECKPOINT_MINUTES)
    trainer = Trainer(model, data, loss, optimizer, schedule, budget, config, keeper)
    if (folder / CHECKPOINT).exists():
        saved = load_checkpoint(folder / CHECKPOINT)
        trainer.load_state_dict(saved["trainer"])
        average.load_state_dict(saved["average"])
    trainer.run()
