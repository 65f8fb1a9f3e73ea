"""A training loop over batches. It depends on a loss and an optimizer, not on speech."""

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
from stream_asr.training.checkpoint import State, preserve_random_state, random_state, set_random_state
from stream_asr.training.progress import Meter, Position, Report, Timer
from stream_asr.training.schedule import Budget, Schedule
from stream_asr.training.settings import MAX_CONSECUTIVE_SKIPS, MAX_GRADIENT_NORM, REPORT_INTERVAL_S


class Batch(Protocol):
    """A batch of any kind."""

    @property
    def seconds(self) -> float:
        """Duration of the audio, for statistics."""


B = TypeVar("B", bound=Batch)
B_co = TypeVar("B_co", bound=Batch, covariant=True)


class Batches(Protocol[B_co]):
    """Training data. The order of an epoch depends on its number only, so that a run can be resumed at any position."""

    def count(self, epoch: int) -> int:
        """Return the number of batches in an epoch, at least 1."""

    def epoch(self, number: int, start: int) -> Generator[B_co, None, None]:
        """Yield the batches of an epoch from index ``start``. Closing the generator stops their preparation."""


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """Settings of the loop.

    Attributes:
        accumulate: batches per optimizer step.
        max_gradient_norm: longer gradients are clipped to this norm.
        evaluate_minutes: interval of evaluations; None evaluates after each epoch.
        checkpoint_minutes: interval of checkpoints.
        autocast: dtype of mixed precision; None computes in the dtype of the weights.
    """

    accumulate: int = 1
    max_gradient_norm: float = MAX_GRADIENT_NORM
    evaluate_minutes: float | None = None
    checkpoint_minutes: float = 5.0
    autocast: torch.dtype | None = None


class Hooks(Protocol):
    """Callbacks of the loop."""

    def report(self, report: Report) -> None:
        """Show or log the progress."""

    def evaluate(self, position: Position) -> float:
        """Evaluate the model and return a score; lower is better."""

    def save_best(self, position: Position) -> None:
        """Save the model: the last evaluation had the best score so far."""

    def save_checkpoint(self, state: State) -> None:
        """Save the state of the run."""

    def stop(self) -> bool:
        """Return whether to stop the run, to be resumed later. Called after each step."""


class Trainer(Generic[B]):
    """Trains a model until a budget is used up.

    Args:
        model: switched to training mode for steps and to evaluation mode for evaluations.
        batches: the training data.
        loss: computes the loss of a batch, a scalar.
        optimizer: the learning rates of its parameter groups are peak rates.
        schedule: factor of the learning rates.
        budget: when the run ends.
        config: settings of the loop.
        hooks: callbacks.
        clock: monotonic time in seconds.

    Attributes:
        position: current position of the run.
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
        self._peak_rates = [group["lr"] for group in optimizer.param_groups]
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._device = self._parameters[0].device
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.autocast is torch.float16)
        self._consecutive_skips = 0

    def state_dict(self) -> State:
        """Return the state of the run. Its tensors are not copies: save or copy them before the next step."""
        return {
            "position": asdict(self.position),
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": random_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore a `state_dict`. Model, optimizer and batches must have been constructed in the same way."""
        self.position = Position(**state["position"])
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"])

    def run(self) -> bool:
        """Train, evaluate and save. Ends with an evaluation unless it is stopped.

        Returns:
            True if the budget is used up, False if ``hooks.stop`` stopped the run.

        Raises:
            StreamASRError: training diverged.
        """
        position = self.position
        timer = Timer(position.elapsed_s, self._clock)
        evaluated_s = saved_s = position.elapsed_s
        meter = Meter(position, self._progress())
        self._model.train()
        with closing(self._stream()) as stream:
            while self._progress() < 1:
                epochs_before = self._completed_epochs()
                meter.add(self._step(stream, timer))
                if position.elapsed_s - meter.since_s >= REPORT_INTERVAL_S:
                    self._report(meter)
                interval = self._config.evaluate_minutes
                if interval is None:
                    evaluation_due = self._completed_epochs() > epochs_before
                else:
                    evaluation_due = _is_due(position, evaluated_s, interval)
                if evaluation_due and self._progress() < 1:
                    self._evaluate(timer)
                    evaluated_s = position.elapsed_s
                if self._hooks.stop():
                    self._hooks.save_checkpoint(self.state_dict())
                    return False
                if _is_due(position, saved_s, self._config.checkpoint_minutes):
                    self._hooks.save_checkpoint(self.state_dict())
                    saved_s = position.elapsed_s
        if meter.steps:
            self._report(meter)
        self._evaluate(timer)
        self._hooks.save_checkpoint(self.state_dict())
        return True

    def _stream(self) -> Generator[B, None, None]:
        """Yield batches endlessly. A batch counts as done when it is yielded."""
        while True:
            with closing(self._batches.epoch(self.position.epoch, self.position.batch)) as batches:
                for batch in batches:
                    self.position.batch += 1
                    yield batch
            self.position.epoch += 1
            self.position.batch = 0

    def _step(self, stream: Iterator[B], timer: Timer) -> Tensor:
        """Update the weights once, from ``accumulate`` batches or what the budget leaves, and return the loss."""
        progress_before = self._progress()
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
        self.position.elapsed_s = timer.elapsed_s()
        # The schedule is evaluated in the middle of the step, so that no step has a learning rate of 0.
        factor = self._schedule((progress_before + self._progress()) / 2)
        for group, peak_rate in zip(self._optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak_rate * factor
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.max_gradient_norm)
        if math.isfinite(norm):
            self._consecutive_skips = 0
            self._scaler.step(self._optimizer)
        else:
            self._count_skip()
        self._scaler.update()
        self._optimizer.zero_grad()
        return total

    def _count_skip(self) -> None:
        self.position.skipped += 1
        self._consecutive_skips += 1
        if self._consecutive_skips >= MAX_CONSECUTIVE_SKIPS:
            raise StreamASRError(
                f"the gradients of {MAX_CONSECUTIVE_SKIPS} steps in a row were not finite (step {self.position.step}); "
                "try a lower learning rate, or float32"
            )

    def _evaluate(self, timer: Timer) -> None:
        position = self.position
        self._model.eval()
        with preserve_random_state(), torch.no_grad():
            score = self._hooks.evaluate(position)
        self._model.train()
        position.elapsed_s = timer.elapsed_s()
        if score < position.best:
            position.best, position.best_step = score, position.step
            self._hooks.save_best(position)
            # Without a checkpoint, a resumed run could replace the saved model by a worse one.
            self._hooks.save_checkpoint(self.state_dict())

    def _report(self, meter: Meter) -> None:
        learning_rate = float(self._optimizer.param_groups[0]["lr"])
        self._hooks.report(meter.report(self.position, self._epochs(), self._progress(), learning_rate))

    def _epochs(self) -> float:
        return self.position.epoch + self.position.batch / self._batches.count(self.position.epoch)

    def _completed_epochs(self) -> int:
        return int(self._epochs())

    def _progress(self) -> float:
        return self._budget.progress(self._epochs(), self.position.step, self.position.elapsed_s)


def _is_due(position: Position, since_s: float, interval_minutes: float) -> bool:
    return position.elapsed_s - since_s >= 60 * interval_minutes
