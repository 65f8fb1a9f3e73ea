"""The loop, with a model of a few weights: budgets, schedules, and runs that are cut off and go on."""

from __future__ import annotations

import math
from collections.abc import Generator
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
from stream_asr.training.checkpoint import (
    State,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
    untouched_randomness,
)
from stream_asr.training.loop import LoopConfig, Trainer
from stream_asr.training.progress import Position, Report
from stream_asr.training.schedule import Budget, linear


@dataclass(frozen=True)
class Numbers:
    inputs: Tensor
    seconds: float = 2.0


class Lines:
    """Epochs of five to seven batches."""

    def count(self, epoch: int) -> int:
        return 5 + epoch % 3

    def epoch(self, number: int, start: int) -> Generator[Numbers, None, None]:
        for place in range(start, self.count(number)):
            generator = torch.Generator().manual_seed(1000 * number + place)
            yield Numbers(torch.randn(4, 3, generator=generator))


class Clock:
    """A second passes whenever somebody looks."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


class Owner:
    """Keeps what the loop hands out; stops after ``stop_at`` steps."""

    def __init__(self, stop_at: float = math.inf, scores: tuple[float, ...] = ()) -> None:
        self.scores = list(scores)
        self.stop_at = stop_at
        self.steps = 0
        self.reports: list[Report] = []
        self.evaluated_at: list[int] = []
        self.improved_at: list[int] = []
        self.states: list[State] = []

    def report(self, report: Report) -> None:
        self.reports.append(report)

    def evaluate(self, position: Position) -> float:
        torch.rand(7)
        np.random.rand(7)
        self.evaluated_at.append(position.step)
        return self.scores.pop(0) if self.scores else 1.0

    def improved(self, position: Position) -> None:
        self.improved_at.append(position.step)

    def checkpoint(self, state: State) -> None:
        self.states.append(deepcopy(state))

    def stop(self) -> bool:
        self.steps += 1
        return self.steps >= self.stop_at


class Noisy(nn.Module):
    """Draws from PyTorch's generator and from NumPy's, as the models of Transformers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def loss(self, batch: Numbers) -> Tensor:
        return (self.inner(batch.inputs) - float(np.random.rand())).square().mean()


def trainer(
    owner: Owner, budget: Budget, *, model: Noisy | None = None, loss: Any = None, rate: float = 0.05, **options: Any
) -> Trainer[Numbers]:
    model = model or Noisy()
    np.random.seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    config = LoopConfig(**{"checkpoint_minutes": math.inf, **options})
    return Trainer(model, Lines(), loss or model.loss, optimizer, linear(0.2), budget, config, owner, Clock())


def weights(state: State) -> list[Tensor]:
    return list(state["model"].values())


# --- going on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("stop_at", [1, 4, 5, 6, 9])
def test_a_run_that_was_stopped_ends_where_one_that_was_not_does(stop_at: int, accumulate: int, tmp_path: Path) -> None:
    budget = Budget(epochs=6)
    whole = trainer(Owner(), budget, accumulate=accumulate)
    assert whole.run()

    first = Owner(stop_at)
    assert not trainer(first, budget, accumulate=accumulate).run()
    save_checkpoint(tmp_path / "checkpoint.pt", first.states[-1])
    torch.rand(3)
    second = trainer(Owner(), budget, accumulate=accumulate)
    second.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert second.position.step == stop_at
    assert second.run()

    for expected, got in zip(weights(whole.state_dict()), weights(second.state_dict()), strict=True):
        assert torch.equal(expected, got)
    for one, other in zip(
        whole.state_dict()["optimizer"]["state"].values(),
        second.state_dict()["optimizer"]["state"].values(),
        strict=True,
    ):
        assert torch.equal(one["exp_avg_sq"], other["exp_avg_sq"])
    assert replace(second.position, elapsed_s=0) == replace(whole.position, elapsed_s=0)


def test_a_run_that_died_goes_on_from_its_last_checkpoint() -> None:
    budget = Budget(steps=12)
    whole = trainer(Owner(), budget)
    whole.run()

    died = Owner()
    seen: list[Numbers] = []
    model = Noisy()

    def loss(batch: Numbers) -> Tensor:
        seen.append(batch)
        if len(seen) == 9:
            raise RuntimeError("the power went out")
        return model.loss(batch)

    with pytest.raises(RuntimeError, match="power"):
        trainer(died, budget, model=model, loss=loss, checkpoint_minutes=4 / 60).run()
    saved = died.states[-1]
    assert 0 < saved["position"]["step"] < 8
    resumed = trainer(Owner(), budget)
    resumed.load_state_dict(saved)
    resumed.run()
    for expected, got in zip(weights(whole.state_dict()), weights(resumed.state_dict()), strict=True):
        assert torch.equal(expected, got)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_is_resumed_as_well(dtype: torch.dtype) -> None:
    """On a processor, for want of a GPU: the same calls, scaled gradients for float16 included."""
    budget = Budget(epochs=2)
    whole = trainer(Owner(), budget, autocast=dtype)
    assert whole.run()
    assert whole.position.skipped <= 1, "the scale that gradients begin with is too large for float16"
    assert (whole.state_dict()["scaler"] != {}) == (dtype is torch.float16)
    first = Owner(4)
    trainer(first, budget, autocast=dtype).run()
    second = trainer(Owner(), budget, autocast=dtype)
    second.load_state_dict(first.states[-1])
    second.run()
    in_full = trainer(Owner(), budget)
    in_full.run()
    for expected, got, other in zip(*(weights(run.state_dict()) for run in (whole, second, in_full)), strict=True):
        assert torch.equal(expected, got)
        assert not torch.equal(expected, other)


def test_scaled_gradients_that_are_no_numbers_are_left_out() -> None:
    model = Noisy()
    count = 0

    def loss(batch: Numbers) -> Tensor:
        nonlocal count
        count += 1
        return model.loss(batch) * (math.inf if count == 3 else 1)

    run = trainer(Owner(), Budget(steps=6), model=model, loss=loss, autocast=torch.float16)
    assert run.run()
    assert run.position.skipped == 2, "the first step as well: the scale that it begins with is too large"
    assert run.state_dict()["scaler"]["scale"] == 2.0**14, "half of half of what it was"
    assert all(weight.isfinite().all() for weight in weights(run.state_dict()))


def test_evaluations_leave_no_trace() -> None:
    def trained(evaluate_minutes: float) -> list[Tensor]:
        run = trainer(Owner(), Budget(steps=12), evaluate_minutes=evaluate_minutes)
        run.run()
        return weights(run.state_dict())

    for often, once in zip(trained(0.01), trained(1000.0), strict=True):
        assert torch.equal(often, once)


def test_a_finished_run_can_be_made_longer() -> None:
    owner = Owner()
    trainer(owner, Budget(steps=3)).run()
    longer = trainer(Owner(), Budget(steps=5))
    longer.load_state_dict(owner.states[-1])
    assert longer.run()
    assert longer.position.step == 5


# --- budgets, evaluations, reports ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "steps"),
    [(Budget(steps=3), 3), (Budget(epochs=1), 5), (Budget(epochs=2), 11), (Budget(epochs=2, steps=4), 4)],
)
def test_the_run_ends_with_its_budget(budget: Budget, steps: int) -> None:
    run = trainer(Owner(), budget)
    assert run.run()
    assert run.position.step == steps
    assert run.position.audio_s == 2 * steps


def test_accumulated_batches_end_with_the_budget() -> None:
    run = trainer(Owner(), Budget(epochs=1), accumulate=3)
    run.run()
    assert (run.position.step, run.position.batch, run.position.audio_s) == (2, 5, 10)


def test_minutes_count_those_before_a_resumption() -> None:
    owner = Owner(stop_at=10)
    trainer(owner, Budget(minutes=1)).run()
    resumed = trainer(Owner(), Budget(minutes=1))
    resumed.load_state_dict(owner.states[-1])
    before_s = resumed.position.elapsed_s
    assert resumed.run()
    assert before_s < 60 <= resumed.position.elapsed_s < 70


def test_it_evaluates_after_each_epoch_and_at_the_end() -> None:
    owner = Owner(scores=(3.0, 2.0, 2.5))
    trainer(owner, Budget(epochs=2.5)).run()
    assert owner.evaluated_at == [5, 11, 15]
    assert owner.improved_at == [5, 11]
    assert owner.states[-1]["position"]["best"] == 2.0
    assert owner.states[-1]["position"]["best_step"] == 11


def test_it_evaluates_each_so_many_minutes() -> None:
    owner = Owner()
    trainer(owner, Budget(steps=20), evaluate_minutes=5 / 60).run()
    assert owner.evaluated_at[-1] == 20
    assert 3 <= len(owner.evaluated_at) <= 5


def test_a_model_that_got_better_is_stored_with_the_state_that_made_it() -> None:
    owner = Owner(scores=(3.0, 2.0))
    trainer(owner, Budget(epochs=2)).run()
    assert [state["position"]["step"] for state in owner.states] == [5, 11, 11]


def test_reports_say_how_it_goes() -> None:
    owner = Owner()
    trainer(owner, Budget(steps=12)).run()
    assert [report.step for report in owner.reports] == sorted({report.step for report in owner.reports})
    first, last = owner.reports[0], owner.reports[-1]
    assert (last.step, last.progress, last.remaining_s) == (12, 1.0, 0.0)
    assert first.audio_rate == pytest.approx(2.0)
    assert first.remaining_s == pytest.approx(first.elapsed_s * (12 - first.step) / first.step)
    assert all(math.isfinite(report.loss) and report.learning_rate > 0 for report in owner.reports)


def test_the_learning_rate_rises_and_falls() -> None:
    owner = Owner()
    run = trainer(owner, Budget(steps=50))
    run.run()
    rates = [report.learning_rate for report in owner.reports]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0.045 < max(rates) <= 0.05
    assert 0 < rates[-1] < 0.005


def test_gradients_that_are_no_numbers_are_left_out() -> None:
    model = Noisy()
    count = 0

    def loss(batch: Numbers) -> Tensor:
        nonlocal count
        count += 1
        return model.loss(batch) * (math.nan if count % 2 else 1)

    owner = Owner()
    run = trainer(owner, Budget(steps=10), model=model, loss=loss)
    assert run.run()
    assert run.position.skipped == 5
    assert 0 < len(owner.reports) < 10, "so that each speaks of a step that was a number, too"
    assert all(math.isfinite(report.loss) for report in owner.reports)
    assert all(weight.isfinite().all() for weight in weights(run.state_dict()))


def test_a_run_that_went_astray_ends() -> None:
    model = Noisy()
    run = trainer(Owner(), Budget(steps=100), model=model, loss=lambda batch: model.loss(batch) * math.nan)
    with pytest.raises(StreamASRError, match=r"10 steps in a row were no numbers \(step 10\): a lower learning rate"):
        run.run()


@given(st.floats(0, 0.9))
def test_the_schedule_is_a_triangle(warmup: float) -> None:
    schedule = linear(warmup)
    assert schedule(1.0) == pytest.approx(0)
    assert schedule(warmup) == pytest.approx(1)
    assert all(0 <= schedule(progress / 10) <= 1 for progress in range(11))


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_outside_of_the_run(warmup: float) -> None:
    with pytest.raises(InputError, match="0 to below 1"):
        linear(warmup)


@pytest.mark.parametrize("limits", [{}, {"steps": 0}, {"epochs": 3, "minutes": -1}])
def test_a_run_needs_an_end(limits: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="needs an end"):
        Budget(**limits)


# --- checkpoints ------------------------------------------------------------------------------------------


def test_chance_goes_on_where_it_was(tmp_path: Path) -> None:
    np.random.standard_normal()  # which leaves half a pair in the generator
    save_checkpoint(tmp_path / "state.pt", random_state())
    expected = torch.rand(3), np.random.standard_normal(3)
    set_random_state(load_checkpoint(tmp_path / "state.pt"))
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.standard_normal(3), expected[1])


def test_chance_can_be_used_without_a_trace() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    with untouched_randomness():
        torch.rand(5)
        np.random.rand(5)
    assert (torch.rand(1), np.random.rand()) == expected


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, {"step": 2, "no": lambda: None})
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoints_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(InputError, match=r"there is no .*state\.pt to resume from"):
        load_checkpoint(path)
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.pt cannot be read as a checkpoint"):
        load_checkpoint(path)
