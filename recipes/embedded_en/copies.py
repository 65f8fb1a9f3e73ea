"""What of a recording the layers on top are shown: as it is, disturbed, or as a stream would hear it."""

from __future__ import annotations

from dataclasses import dataclass

from recipes.embedded_en.disturbance import Disturbance


@dataclass(frozen=True, slots=True)
class Streamed:
    """Heard piece by piece; each pair is the least and the most. A step is a frame before any are joined.

    Attributes:
        kept_steps: of each piece.
        right_steps: that it hears beyond that.
        left_steps: that it remembers.
    """

    kept_steps: tuple[int, int]
    right_steps: tuple[int, int]
    left_steps: int


@dataclass(frozen=True, slots=True)
class Copy:
    """None for not at all."""

    disturbance: Disturbance | None = None
    streamed: Streamed | None = None
