"""Training budgets and learning rate schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream_asr.errors import InputError


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run. The run ends when it reaches the first of them.

    Attributes:
        epochs: passes over the training data.
        steps: optimizer steps.
        minutes: wall-clock time, evaluations included, summed over all parts of a resumed run.

    Raises:
        InputError: no limit is given, or one is not above 0.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.epochs, self.steps, self.minutes) if limit is not None]
        if not limits or min(limits) <= 0:
            raise InputError("a run needs a limit above 0: epochs, steps or minutes")

    def progress(self, epochs: float, steps: int, elapsed_s: float) -> float:
        """Return the share of the run that is done, 0 to 1."""
        shares = (
            epochs / self.epochs if self.epochs else 0.0,
            steps / self.steps if self.steps else 0.0,
            elapsed_s / (60 * self.minutes) if self.minutes else 0.0,
        )
        return min(1.0, max(shares))


Schedule = Callable[[float], float]
"""Maps the progress of a run to a factor of the peak learning rate, both 0 to 1."""


def linear_schedule(warmup: float) -> Schedule:
    """Return a schedule that rises from 0 over the first share ``warmup`` of the run, then falls to 0 at its end.

    Raises:
        InputError: ``warmup`` is out of range.
    """
    if not 0 <= warmup < 1:
        raise InputError(f"warmup is {warmup:g}; it must be at least 0 and below 1")
    return trapezoidal_schedule(warmup, 1 - warmup)


def trapezoidal_schedule(warmup: float, decay: float) -> Schedule:
    """Return a schedule that rises from 0, stays at 1, then falls to 0.

    Args:
        warmup: share of the run in which it rises; 0 for no warm-up.
        decay: share of the run in which it falls; 0 for no decay.
    """

    def factor(progress: float) -> float:
        rising = progress / warmup if warmup else 1.0
        falling = (1 - progress) / decay if decay else 1.0
        return min(1.0, rising, falling)

    return factor
