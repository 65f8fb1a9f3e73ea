"""How long a run lasts, and how fast it learns along the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream_asr.errors import InputError


@dataclass(frozen=True, slots=True)
class Budget:
    """Where a run ends: at whichever of its limits comes first.

    Attributes:
        epochs: passes over the data.
        steps: updates of the weights.
        minutes: of training, evaluations included, all parts of a resumed run together.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.epochs, self.steps, self.minutes) if limit is not None]
        if not limits or min(limits) <= 0:
            raise InputError("a run needs an end: epochs, steps or minutes, above 0")

    def progress(self, epochs: float, steps: int, elapsed_s: float) -> float:
        """The part of the run that is done, 0 to 1."""
        parts = (
            epochs / self.epochs if self.epochs else 0.0,
            steps / self.steps if self.steps else 0.0,
            elapsed_s / (60 * self.minutes) if self.minutes else 0.0,
        )
        return min(1.0, max(parts))


Schedule = Callable[[float], float]
"""From the part of the run that is done to a factor of the learning rate, both 0 to 1."""


def linear(warmup: float) -> Schedule:
    """Up from 0 over the first part ``warmup`` of the run, down to 0 at its end."""
    if not 0 <= warmup < 1:
        raise InputError(f"a warm-up of {warmup:g} of the run; 0 to below 1 is accepted")
    return trapezoid(warmup, 1 - warmup)


def trapezoid(rise: float, fall: float) -> Schedule:
    """Up from 0 over the first part ``rise`` of the run, down to 0 over its last part ``fall``; 0 for neither."""

    def factor(progress: float) -> float:
        risen = progress / rise if rise else 1.0
        left = (1 - progress) / fall if fall else 1.0
        return min(1.0, risen, left)

    return factor
