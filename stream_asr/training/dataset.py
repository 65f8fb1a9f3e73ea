"""Utterances to batches, prepared in threads while the model is busy with the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.training.alphabet import TokenGraph
from stream_asr.training.augment import Augmentation
from stream_asr.training.batches import plan
from stream_asr.training.clips import read_clip

_WORKERS = 2
_AHEAD = 4
"""Batches that are prepared before they are needed."""

T = TypeVar("T")
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Utterance:
    """A recording, or a part of one, that has been found usable.

    Attributes:
        end_s: None for the end of the recording.
        seconds: its length.
        spelling: what is said, in the outputs of the model.
    """

    path: Path
    start_s: float
    end_s: float | None
    seconds: float
    speaker: str
    spelling: TokenGraph


class Collator(Protocol[B_co]):
    """Makes batches for a model."""

    def fits(self, samples: int, spelling: TokenGraph) -> bool:
        """Whether a clip of so many samples is long enough for its text."""

    def batch(self, clips: Sequence[tuple[FloatArray, TokenGraph]], rng: np.random.Generator | None) -> B_co:
        """A batch of clips (float32, 16 kHz) and their texts; without ``rng``, nothing is left to chance."""


class Dataset(Generic[B]):
    """Batches of utterances; see `stream_asr.training.loop.Batches`.

    Every batch is a function of seed, epoch and place alone, and so is the chance that went into it: it does not
    matter which thread makes it, or whether the ones before it were made.

    Args:
        utterances: at least one.
        batch_s: longest batch in seconds, padding included.
        augmentation: of the samples; None leaves everything as it is, the features too.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        collator: Collator[B],
        *,
        batch_s: float,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._utterances, self._collator, self._seed = utterances, collator, seed
        self._augmentation = augmentation
        lengths = [utterance.seconds for utterance in utterances]
        self._plan = lru_cache(maxsize=2)(lambda epoch: plan(lengths, batch_s, np.random.default_rng((seed, epoch))))

    @property
    def utterances(self) -> Sequence[Utterance]:
        return self._utterances

    def count(self, epoch: int) -> int:
        """Batches in an epoch."""
        return len(self._plan(epoch))

    def members(self, epoch: int, place: int) -> list[Utterance]:
        """The utterances of a batch, in its order."""
        return [self._utterances[index] for index in self._plan(epoch)[place]]

    def epoch(self, number: int, start: int = 0) -> Generator[B, None, None]:
        """The batches of an epoch from place ``start`` on.

        Raises:
            InputError: a recording that could be read before cannot any more.
        """
        return ahead(partial(self._batch, number, place) for place in range(start, self.count(number)))

    def _batch(self, epoch: int, place: int) -> B:
        # The plan has drawn from (seed, epoch); this is another source.
        rng = np.random.default_rng((self._seed, epoch, place)) if self._augmentation is not None else None
        return self._collator.batch([self._clip(utterance, rng) for utterance in self.members(epoch, place)], rng)

    def _clip(self, utterance: Utterance, rng: np.random.Generator | None) -> tuple[FloatArray, TokenGraph]:
        samples = read_clip(utterance.path, utterance.start_s, utterance.end_s)
        if self._augmentation is not None and rng is not None:
            samples = self._augmentation(samples, rng, lambda count: self._collator.fits(count, utterance.spelling))
        return samples, utterance.spelling


def ahead(jobs: Iterable[Callable[[], T]]) -> Generator[T, None, None]:
    """The results of ``jobs``, in order, a few of them worked out in threads before they are asked for."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="batches") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
