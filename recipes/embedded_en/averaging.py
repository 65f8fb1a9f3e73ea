"""Exponential moving average of a model's weights.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; here with exponentially
decreasing shares, and a shorter average during the first steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from stream_asr.training.checkpoint import State


class WeightAverage:
    """Averages the weights over steps. The average is better than the weights of any single step.

    Args:
        model: the model whose weights are averaged.
        decay: share of the average that is kept at each step, 0 to 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay, self._steps = model, decay, 0
        self._weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average."""
        self._steps += 1
        decay = min(self._decay, self._steps / (self._steps + 10))
        for name, weight in self._model.state_dict().items():
            self._weights[name].lerp_(weight, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights; restore its own weights on exit."""
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
