"""The training loop: knows batches, a loss and an optimizer, and nothing of speech."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stream_asr.errors import StreamASRError
from stream_asr.training.checkpoint import State, random_state, set_random_state, untouched_randomness
from stream_asr.training.progress import Meter, Position, Report, Timer
from stream_asr.training.schedule import Budget, Schedule

_REPORT_S = 2.0
_PATIENCE = 10
"""Steps in a row whose gradients are no numbers before the run is given up."""


class Batch(Protocol):
    @property
    def seconds(self) -> float:
        """Of audio, for the statistics."""


B = TypeVar("B", bound=Batch)
B_co = TypeVar("B_co", bound=Batch, covariant=True)


class Batches(Protocol[B_co]):
    """Data in an order that depends on nothing but the number of the epoch: any position can be gone back to."""

    def count(self, epoch: int) -> int:
        """Batches in an epoch, at least 1."""

    def epoch(self, number: int, start: int) -> Generator[B_co, None, None]:
        """The batches of an epoch from place ``start`` on. Closing it ends what prepares them."""


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How the loop goes about it.

    Attributes:
        accumulate: batches for each update of the weights.
        clip_norm: longest gradient; a longer one is shortened.
        evaluate_minutes: from one evaluation to the next; None evaluates after each epoch.
        checkpoint_minutes: from one checkpoint to the next.
        autocast: what to calculate in, where that is safe; None for the dtype of the weights.
    """

    accumulate: int = 1
    clip_norm: float = 1.0
    evaluate_minutes: float | None = None
    checkpoint_minutes: float = 5.0
    autocast: torch.dtype | None = None


class Hooks(Protocol):
    """What the loop leaves to its owner."""

    def report(self, report: Report) -> None: ...

    def evaluate(self, position: Position) -> float:
        """A score of the model as it is now; lower is better."""

    def improved(self, position: Position) -> None:
        """The last evaluation gave the best score so far: keep this model."""

    def checkpoint(self, state: State) -> None:
        """Store the state of the run."""

    def stop(self) -> bool:
        """Asked after each step: whether to end now, to be resumed later."""


class Trainer(Generic[B]):
    """Trains until a budget is spent.

    Args:
        model: put into training mode for training and into evaluation mode for evaluations.
        batches: what to learn from.
        loss: of a batch; a scalar.
        optimizer: its groups' learning rates are those that the schedule is a factor of.
        clock: seconds; only differences count.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches[B],
        loss: Callable[[B], Tensor],
        optimizer: Optimizer,
        schedule: Schedule,
        budget: Budget,
        config: LoopConfig,
        hooks: Hooks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.position = Position()
        self._model, self._batches, self._loss, self._optimizer = model, batches, loss, optimizer
        self._schedule, self._budget, self._config, self._hooks, self._clock = schedule, budget, config, hooks, clock
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._device = self._parameters[0].device
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.autocast is torch.float16)
        self._unusable = 0

    def state_dict(self) -> State:
        """Everything that `load_state_dict` needs. The tensors are those in use: store or copy them at once."""
        return {
            "position": asdict(self.position),
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": random_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go back to where `state_dict` was taken. Model, optimizer and batches must be made as they were then."""
        self.position = Position(**state["position"])
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"])

    def run(self) -> bool:
        """Train, evaluate, save. The last thing it does is an evaluation, unless it was stopped.

        Returns:
            Whether the budget is spent; False where ``hooks.stop`` ended it.

        Raises:
            StreamASRError: the loss is no number any more.
        """
        position = self.position
        timer = Timer(position.elapsed_s, self._clock)
        evaluated_s = saved_s = position.elapsed_s
        meter = Meter(position, self._progress())
        self._model.train()
        with closing(self._stream()) as stream:
            while self._progress() < 1:
                epochs_before = self._whole_epochs()
                meter.add(self._step(stream, timer))
                if position.elapsed_s - meter.since_s >= _REPORT_S:
                    self._hooks.report(meter.report(position, self._epochs(), self._progress(), self._rate()))
                every = self._config.evaluate_minutes
                due = self._whole_epochs() > epochs_before if every is None else _past(position, evaluated_s, every)
                if due and self._progress() < 1:
                    self._evaluate(timer)
                    evaluated_s = position.elapsed_s
                if self._hooks.stop():
                    self._hooks.checkpoint(self.state_dict())
                    return False
                if _past(position, saved_s, self._config.checkpoint_minutes):
                    self._hooks.checkpoint(self.state_dict())
                    saved_s = position.elapsed_s
        if meter.steps:
            self._hooks.report(meter.report(position, self._epochs(), self._progress(), self._rate()))
        self._evaluate(timer)
        self._hooks.checkpoint(self.state_dict())
        return True

    def _stream(self) -> Generator[B, None, None]:
        """Batches without end; each one handed out counts as done."""
        while True:
            with closing(self._batches.epoch(self.position.epoch, self.position.batch)) as batches:
                for batch in batches:
                    self.position.batch += 1
                    yield batch
            self.position.epoch += 1
            self.position.batch = 0

    def _step(self, stream: Iterator[B], timer: Timer) -> Tensor:
        """One update of the weights, from `accumulate` batches or those that the budget leaves. Returns the loss."""
        progress = self._progress()
        total = torch.zeros((), device=self._device)
        for _ in range(self._config.accumulate):
            batch = next(stream)
            with torch.autocast(self._device.type, self._config.autocast, enabled=self._config.autocast is not None):
                loss = self._loss(batch) / self._config.accumulate
            self._scaler.scale(loss).backward()
            total += loss.detach()
            self.position.audio_s += batch.seconds
            if self._progress() >= 1:
                break
        self.position.step += 1
        self.position.elapsed_s = timer.now()
        # In the middle of the step: neither the first nor the last one has a rate of 0.
        factor = self._schedule((progress + self._progress()) / 2)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.clip_norm)
        if math.isfinite(norm):
            self._unusable = 0
            self._scaler.step(self._optimizer)
        else:
            self._give_up_after_too_many()
        self._scaler.update()
        self._optimizer.zero_grad()
        return total

    def _give_up_after_too_many(self) -> None:
        self.position.skipped += 1
        self._unusable += 1
        if self._unusable >= _PATIENCE:
            raise StreamASRError(
                f"the gradients of {_PATIENCE} steps in a row were no numbers (step {self.position.step}): "
                "a lower learning rate helps, or float32"
            )

    def _evaluate(self, timer: Timer) -> None:
        position = self.position
        self._model.eval()
        with untouched_randomness(), torch.no_grad():
            score = self._hooks.evaluate(position)
        self._model.train()
        position.elapsed_s = timer.now()
        if score < position.best:
            position.best, position.best_step = score, position.step
            self._hooks.improved(position)
            # Or else a resumed run might replace this model by one that is worse.
            self._hooks.checkpoint(self.state_dict())

    def _epochs(self) -> float:
        return self.position.epoch + self.position.batch / self._batches.count(self.position.epoch)

    def _whole_epochs(self) -> int:
        return int(self._epochs())

    def _progress(self) -> float:
        return self._budget.progress(self._epochs(), self.position.step, self.position.elapsed_s)

    def _rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])


def _past(position: Position, since_s: float, minutes: float) -> bool:
    return position.elapsed_s - since_s >= 60 * minutes
