"""Batches that are shared out among processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from functools import lru_cache, partial
from typing import Generic, TypeVar

import numpy as np

from stream_asr.training.dataset import ahead

T = TypeVar("T")
B = TypeVar("B")


class Shares(ABC, Generic[T, B]):
    """See `stream_asr.training.loop.Batches`. What a batch holds depends on seed, epoch and place alone.

    Args:
        rank, processes: this process gets every ``processes``-th batch, from number ``rank`` on.
    """

    def __init__(self, seed: int, rank: int, processes: int) -> None:
        self._seed, self._rank, self._processes = seed, rank, processes
        self._planned = lru_cache(maxsize=2)(lambda epoch: self.plan(np.random.default_rng((seed, epoch))))

    @abstractmethod
    def plan(self, rng: np.random.Generator) -> list[list[T]]:
        """What the batches of an epoch, for all processes, are made of."""

    @abstractmethod
    def made(self, items: list[T], rng: np.random.Generator) -> B:
        """A batch."""

    def count(self, epoch: int) -> int:
        """Batches that each process gets; what is left over is left out."""
        return len(self._planned(epoch)) // self._processes

    def epoch(self, number: int, start: int) -> Generator[B, None, None]:
        """This process's batches of an epoch from place ``start`` on."""
        return ahead(partial(self._batch, number, place) for place in range(start, self.count(number)))

    def _batch(self, epoch: int, place: int) -> B:
        number = place * self._processes + self._rank
        return self.made(self._planned(epoch)[number], np.random.default_rng((self._seed, epoch, number)))
