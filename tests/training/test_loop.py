"""The training loop with a tiny model: resuming, budgets, evaluations, reports and unusable gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stream_asr.errors import InputError, StreamASRError
from stream_asr.training.checkpoint import State, load_checkpoint, save_checkpoint
from stream_asr.training.loop import LoopConfig, Trainer
from stream_asr.training.progress import Position, Report
from stream_asr.training.schedule import Budget, linear_schedule

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class FakeBatch:
    inputs: Tensor
    seconds: float = 2.0


class FakeBatches:
    """Implements `Batches`. Epochs have five to seven batches."""

    def count(self, epoch: int) -> int:
        return 5 + epoch % 3

    def epoch(self, number: int, start: int) -> Generator[FakeBatch, None, None]:
        for index in range(start, self.count(number)):
            generator = torch.Generator().manual_seed(1000 * number + index)
            yield FakeBatch(torch.randn(4, 3, generator=generator))


class FakeClock:
    """Advances by one second with each call."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


class RecordingHooks:
    """Implements `Hooks`. Records all calls, and stops the run after ``stop_at`` steps."""

    def __init__(self, stop_at: float = math.inf, scores: tuple[float, ...] = ()) -> None:
        self.scores = list(scores)
        self.stop_at = stop_at
        self.steps = 0
        self.reports: list[Report] = []
        self.evaluated_at: list[int] = []
        self.best_at: list[int] = []
        self.states: list[State] = []

    def report(self, report: Report) -> None:
        self.reports.append(report)

    def evaluate(self, position: Position) -> float:
        torch.rand(7)
        np.random.rand(7)
        self.evaluated_at.append(position.step)
        return self.scores.pop(0) if self.scores else 1.0

    def save_best(self, position: Position) -> None:
        self.best_at.append(position.step)

    def save_checkpoint(self, state: State) -> None:
        self.states.append(deepcopy(state))

    def stop(self) -> bool:
        self.steps += 1
        return self.steps >= self.stop_at


class RandomModel(nn.Module):
    """Draws from the generators of PyTorch and NumPy, as models of Transformers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def loss(self, batch: FakeBatch) -> Tensor:
        loss: Tensor = (self.inner(batch.inputs) - float(np.random.rand())).square().mean()
        return loss


def make_trainer(
    hooks: RecordingHooks,
    budget: Budget,
    *,
    model: RandomModel | None = None,
    loss: Callable[[FakeBatch], Tensor] | None = None,
    **config: Any,
) -> Trainer[FakeBatch]:
    model = model or RandomModel()
    np.random.seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    loop_config = LoopConfig(**{"checkpoint_minutes": math.inf, **config})
    return Trainer(
        model,
        FakeBatches(),
        loss or model.loss,
        optimizer,
        linear_schedule(0.2),
        budget,
        loop_config,
        hooks,
        FakeClock(),
    )


def weights(state: State) -> list[Tensor]:
    return list(state["model"].values())


# --- resuming ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("stop_at", [1, 4, 5, 6, 9])
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_run(
    stop_at: int, accumulate: int, tmp_path: Path
) -> None:
    budget = Budget(epochs=6)
    uninterrupted = make_trainer(RecordingHooks(), budget, accumulate=accumulate)
    assert uninterrupted.run()

    hooks = RecordingHooks(stop_at)
    assert not make_trainer(hooks, budget, accumulate=accumulate).run()
    save_checkpoint(tmp_path / "checkpoint.pt", hooks.states[-1])
    torch.rand(3)
    resumed = make_trainer(RecordingHooks(), budget, accumulate=accumulate)
    resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert resumed.position.step == stop_at
    assert resumed.run()

    expected, actual = uninterrupted.state_dict(), resumed.state_dict()
    for weight, other in zip(weights(expected), weights(actual), strict=True):
        assert torch.equal(weight, other)
    for moments, others in zip(
        expected["optimizer"]["state"].values(), actual["optimizer"]["state"].values(), strict=True
    ):
        assert torch.equal(moments["exp_avg_sq"], others["exp_avg_sq"])
    assert replace(resumed.position, elapsed_s=0) == replace(uninterrupted.position, elapsed_s=0)


def test_crashed_run_resumes_from_its_last_checkpoint() -> None:
    budget = Budget(steps=12)
    uninterrupted = make_trainer(RecordingHooks(), budget)
    uninterrupted.run()

    hooks = RecordingHooks()
    model = RandomModel()
    calls = 0

    def loss(batch: FakeBatch) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise RuntimeError("power failure")
        return model.loss(batch)

    with pytest.raises(RuntimeError, match="power failure"):
        make_trainer(hooks, budget, model=model, loss=loss, checkpoint_minutes=4 / 60).run()
    saved = hooks.states[-1]
    assert 0 < saved["position"]["step"] < 8
    resumed = make_trainer(RecordingHooks(), budget)
    resumed.load_state_dict(saved)
    resumed.run()
    for expected, actual in zip(weights(uninterrupted.state_dict()), weights(resumed.state_dict()), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_run_can_be_resumed(dtype: torch.dtype) -> None:
    """Runs on the CPU, but with the same calls as on a GPU, including gradient scaling for float16."""
    budget = Budget(epochs=2)
    uninterrupted = make_trainer(RecordingHooks(), budget, autocast=dtype)
    assert uninterrupted.run()
    assert uninterrupted.position.skipped <= 1, "the initial gradient scale is too large for float16"
    assert (uninterrupted.state_dict()["scaler"] != {}) == (dtype is torch.float16)
    hooks = RecordingHooks(stop_at=4)
    make_trainer(hooks, budget, autocast=dtype).run()
    resumed = make_trainer(RecordingHooks(), budget, autocast=dtype)
    resumed.load_state_dict(hooks.states[-1])
    resumed.run()
    float32 = make_trainer(RecordingHooks(), budget)
    float32.run()
    states = (run.state_dict() for run in (uninterrupted, resumed, float32))
    for expected, actual, other in zip(*map(weights, states), strict=True):
        assert torch.equal(expected, actual)
        assert not torch.equal(expected, other)


def test_evaluations_do_not_change_the_weights() -> None:
    def train(evaluate_minutes: float) -> list[Tensor]:
        run = make_trainer(RecordingHooks(), Budget(steps=12), evaluate_minutes=evaluate_minutes)
        run.run()
        return weights(run.state_dict())

    for often, once in zip(train(0.01), train(1000.0), strict=True):
        assert torch.equal(often, once)


def test_finished_run_can_be_extended() -> None:
    hooks = RecordingHooks()
    make_trainer(hooks, Budget(steps=3)).run()
    extended = make_trainer(RecordingHooks(), Budget(steps=5))
    extended.load_state_dict(hooks.states[-1])
    assert extended.run()
    assert extended.position.step == 5


# --- budgets, evaluations, reports ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "steps"),
    [(Budget(steps=3), 3), (Budget(epochs=1), 5), (Budget(epochs=2), 11), (Budget(epochs=2, steps=4), 4)],
)
def test_run_ends_with_its_budget(budget: Budget, steps: int) -> None:
    run = make_trainer(RecordingHooks(), budget)
    assert run.run()
    assert run.position.step == steps
    assert run.position.audio_s == 2 * steps


def test_last_step_accumulates_only_the_batches_left_in_the_budget() -> None:
    run = make_trainer(RecordingHooks(), Budget(epochs=1), accumulate=3)
    run.run()
    assert (run.position.step, run.position.batch, run.position.audio_s) == (2, 5, 10)


def test_minutes_include_the_time_before_resuming() -> None:
    hooks = RecordingHooks(stop_at=10)
    make_trainer(hooks, Budget(minutes=1)).run()
    resumed = make_trainer(RecordingHooks(), Budget(minutes=1))
    resumed.load_state_dict(hooks.states[-1])
    before_s = resumed.position.elapsed_s
    assert resumed.run()
    assert before_s < 60 <= resumed.position.elapsed_s < 70


def test_model_is_evaluated_after_each_epoch_and_at_the_end() -> None:
    hooks = RecordingHooks(scores=(3.0, 2.0, 2.5))
    make_trainer(hooks, Budget(epochs=2.5)).run()
    assert hooks.evaluated_at == [5, 11, 15]
    assert hooks.best_at == [5, 11]
    assert hooks.states[-1]["position"]["best"] == 2.0
    assert hooks.states[-1]["position"]["best_step"] == 11


def test_model_is_evaluated_at_the_given_interval() -> None:
    hooks = RecordingHooks()
    make_trainer(hooks, Budget(steps=20), evaluate_minutes=5 / 60).run()
    assert hooks.evaluated_at[-1] == 20
    assert 3 <= len(hooks.evaluated_at) <= 5


def test_checkpoint_is_saved_with_each_new_best_model() -> None:
    hooks = RecordingHooks(scores=(3.0, 2.0))
    make_trainer(hooks, Budget(epochs=2)).run()
    assert [state["position"]["step"] for state in hooks.states] == [5, 11, 11]


def test_reports_contain_progress_and_rates() -> None:
    hooks = RecordingHooks()
    make_trainer(hooks, Budget(steps=12)).run()
    assert [report.step for report in hooks.reports] == sorted({report.step for report in hooks.reports})
    first, last = hooks.reports[0], hooks.reports[-1]
    assert (last.step, last.progress, last.remaining_s) == (12, 1.0, 0.0)
    assert first.audio_rate == pytest.approx(2.0)
    assert first.remaining_s == pytest.approx(first.elapsed_s * (12 - first.step) / first.step)
    assert all(math.isfinite(report.loss) and report.learning_rate > 0 for report in hooks.reports)


def test_learning_rate_rises_and_falls() -> None:
    hooks = RecordingHooks()
    make_trainer(hooks, Budget(steps=50)).run()
    rates = [report.learning_rate for report in hooks.reports]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0.045 < max(rates) <= 0.05
    assert 0 < rates[-1] < 0.005


# --- gradients that are not finite ------------------------------------------------------------------------


def test_steps_without_finite_gradients_are_skipped() -> None:
    model = RandomModel()
    calls = 0

    def loss(batch: FakeBatch) -> Tensor:
        nonlocal calls
        calls += 1
        return model.loss(batch) * (math.nan if calls % 2 else 1)

    hooks = RecordingHooks()
    run = make_trainer(hooks, Budget(steps=10), model=model, loss=loss)
    assert run.run()
    assert run.position.skipped == 5
    assert 0 < len(hooks.reports) < 10, "each report covers at least one finite loss"
    assert all(math.isfinite(report.loss) for report in hooks.reports)
    assert all(weight.isfinite().all() for weight in weights(run.state_dict()))


def test_skipped_steps_lower_the_gradient_scale() -> None:
    model = RandomModel()
    calls = 0

    def loss(batch: FakeBatch) -> Tensor:
        nonlocal calls
        calls += 1
        return model.loss(batch) * (math.inf if calls == 3 else 1)

    run = make_trainer(RecordingHooks(), Budget(steps=6), model=model, loss=loss, autocast=torch.float16)
    assert run.run()
    assert run.position.skipped == 2, "the first step is skipped because the initial scale is too large"
    assert run.state_dict()["scaler"]["scale"] == 2.0**14, "a quarter of the initial scale"
    assert all(weight.isfinite().all() for weight in weights(run.state_dict()))


def test_diverged_run_fails() -> None:
    model = RandomModel()
    run = make_trainer(
        RecordingHooks(), Budget(steps=100), model=model, loss=lambda batch: model.loss(batch) * math.nan
    )
    with pytest.raises(StreamASRError, match=r"10 steps in a row were not finite \(step 10\); try a lower learning"):
        run.run()


# --- schedules and budgets --------------------------------------------------------------------------------


@given(st.floats(0, 0.9))
def test_linear_schedule_is_a_triangle(warmup: float) -> None:
    schedule = linear_schedule(warmup)
    assert schedule(1.0) == pytest.approx(0)
    assert schedule(warmup) == pytest.approx(1)
    assert all(0 <= schedule(progress / 10) <= 1 for progress in range(11))


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_warmup_must_lie_within_the_run(warmup: float) -> None:
    with pytest.raises(InputError, match="at least 0 and below 1"):
        linear_schedule(warmup)


@pytest.mark.parametrize(("epochs", "steps", "minutes"), [(None, None, None), (None, 0, None), (3.0, None, -1.0)])
def test_budget_needs_a_limit_above_zero(epochs: float | None, steps: int | None, minutes: float | None) -> None:
    with pytest.raises(InputError, match="needs a limit above 0"):
        Budget(epochs, steps, minutes)
