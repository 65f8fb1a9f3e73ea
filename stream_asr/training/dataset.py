"""Batches of utterances, prepared in background threads."""

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
from stream_asr.training.alphabet import Target
from stream_asr.training.augmentation import Augmentation
from stream_asr.training.batching import plan_batches
from stream_asr.training.clips import read_clip
from stream_asr.training.settings import LOADER_THREADS, PREFETCHED_BATCHES

T = TypeVar("T")
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Utterance:
    """A validated recording, or excerpt of a recording, with its text.

    Attributes:
        path: path of the recording.
        start_s: start of the excerpt in the recording.
        end_s: end of the excerpt in the recording; None for the end of the recording.
        seconds: duration of the utterance.
        speaker: name of the speaker; empty if unknown.
        target: text in the form in which the model writes it.
        transcript: the text as the manifest has it.
    """

    path: Path
    start_s: float
    end_s: float | None
    seconds: float
    speaker: str
    target: Target
    transcript: str = ""


class Collator(Protocol[B_co]):
    """Builds batches for a model."""

    def fits(self, samples: int, target: Target) -> bool:
        """Return whether a clip with this number of samples is long enough for its text."""

    def collate(self, clips: Sequence[tuple[FloatArray, Target]], rng: np.random.Generator | None) -> B_co:
        """Build a batch.

        Args:
            clips: samples, float32 at 16 kHz, and the text of each clip.
            rng: source of randomness for augmentation; None for no augmentation.
        """


class Dataset(Generic[B]):
    """Batches of utterances; implements `stream_asr.training.loop.Batches`.

    A batch and its augmentation depend on the seed, the epoch and the index of the batch only, not on the thread that
    prepares it or on earlier batches. This is what makes resuming exact.

    Args:
        utterances: at least one.
        collator: builds the batches.
        batch_s: maximum length of a batch in seconds, padding included.
        seed: seed of the order of batches and of the augmentation.
        augmentation: augmentation of the samples; None also disables augmentation by the collator.
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
        self._plan = lru_cache(maxsize=2)(
            lambda epoch: plan_batches(lengths, batch_s, np.random.default_rng((seed, epoch)))
        )

    @property
    def utterances(self) -> Sequence[Utterance]:
        return self._utterances

    def count(self, epoch: int) -> int:
        """Return the number of batches in an epoch."""
        return len(self._plan(epoch))

    def utterances_of(self, epoch: int, index: int) -> list[Utterance]:
        """Return the utterances of a batch, in order."""
        return [self._utterances[member] for member in self._plan(epoch)[index]]

    def epoch(self, number: int, start: int = 0) -> Generator[B, None, None]:
        """Yield the batches of an epoch from index ``start``.

        Raises:
            InputError: a recording cannot be read any more.
        """
        return prefetch(partial(self._batch, number, index) for index in range(start, self.count(number)))

    def _batch(self, epoch: int, index: int) -> B:
        # The seed differs from that of the plan, so the two draw independent numbers.
        rng = np.random.default_rng((self._seed, epoch, index)) if self._augmentation is not None else None
        clips = [self._clip(utterance, rng) for utterance in self.utterances_of(epoch, index)]
        return self._collator.collate(clips, rng)

    def _clip(self, utterance: Utterance, rng: np.random.Generator | None) -> tuple[FloatArray, Target]:
        samples = read_clip(utterance.path, utterance.start_s, utterance.end_s)
        if self._augmentation is not None and rng is not None:
            samples = self._augmentation(samples, rng, lambda count: self._collator.fits(count, utterance.target))
        return samples, utterance.target


def prefetch(tasks: Iterable[Callable[[], T]]) -> Generator[T, None, None]:
    """Run tasks in background threads and yield their results in order, keeping a few results ready."""
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(LOADER_THREADS, thread_name_prefix="batches") as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(task))
                if len(pending) > PREFETCHED_BATCHES:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
