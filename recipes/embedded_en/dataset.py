"""Batches of segments: recordings are cut anew in each epoch and shared among processes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from recipes.embedded_en.corpus import Corpus, Recording
from recipes.embedded_en.segments import Segment, split_recording
from recipes.embedded_en.settings import TrainingSettings
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.batching import plan_batches
from stream_asr.training.dataset import prefetch


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments that pass through the model together.

    Attributes:
        states: float32, shape (segments, frames, width), padded with zeros.
        lengths: frames of each segment.
        seconds: total duration of the audio.
        ids: token ids of each segment's text.
        rng: source of further randomness for this batch.
    """

    states: Tensor
    lengths: tuple[int, ...]
    seconds: float
    ids: tuple[tuple[int, ...], ...]
    rng: np.random.Generator


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus to train on.

    Attributes:
        corpus: recordings as states.
        share: share of the recordings that are drawn for each epoch, 0 to 1.
    """

    corpus: Corpus
    share: float = 1.0

    def sample(self, rng: np.random.Generator) -> list[Recording]:
        """Draw the recordings of an epoch, in random order."""
        recordings = self.corpus.recordings
        indices = rng.permutation(len(recordings))[: round(self.share * len(recordings))]
        return [recordings[index] for index in indices]


@dataclass(frozen=True, slots=True)
class _Item:
    corpus: Corpus
    recording: Recording
    segment: Segment


class SegmentDataset:
    """Implements `stream_asr.training.loop.Batches`. A batch depends on the seed, the epoch and its index only.

    Args:
        sources: at least one.
        alphabet: converts texts to token ids.
        settings: lengths of batches and segments.
        rank: index of this process.
        processes: number of processes. This one gets every ``processes``-th batch, starting with batch ``rank``.
    """

    def __init__(
        self, sources: Sequence[Source], alphabet: Alphabet, settings: TrainingSettings, rank: int, processes: int
    ) -> None:
        self._sources, self._alphabet, self._settings = sources, alphabet, settings
        self._rank, self._processes = rank, processes
        self._rate = sources[0].corpus.rate
        self._plan = lru_cache(maxsize=2)(self._plan_epoch)

    def count(self, epoch: int) -> int:
        """Return the number of batches of each process. All processes get the same number; the rest is dropped."""
        return len(self._plan(epoch)) // self._processes

    def epoch(self, number: int, start: int) -> Generator[Batch, None, None]:
        """Yield this process's batches of an epoch from index ``start``."""
        return prefetch(partial(self._batch, number, index) for index in range(start, self.count(number)))

    def _plan_epoch(self, epoch: int) -> list[list[_Item]]:
        settings = self._settings
        rng = np.random.default_rng((settings.seed, epoch))
        sampled = [(source.corpus, recording) for source in self._sources for recording in source.sample(rng)]
        shortest, longest = (
            round(length_s * self._rate) for length_s in (settings.min_segment_s, settings.max_segment_s)
        )
        items = [
            _Item(corpus, recording, segment)
            for corpus, recording in sampled
            for segment in split_recording(
                recording.length, len(recording.text.split()), recording.pauses, shortest, longest, rng
            )
            if segment.stop - segment.start <= 2 * longest
        ]
        lengths_s = [(item.segment.stop - item.segment.start) / self._rate for item in items]
        return [[items[index] for index in batch] for batch in plan_batches(lengths_s, settings.batch_s, rng)]

    def _batch(self, epoch: int, index: int) -> Batch:
        number = index * self._processes + self._rank
        items, rng = self._plan(epoch)[number], np.random.default_rng((self._settings.seed, epoch, number))
        clips = [item.corpus.clip(item.recording, item.segment.start, item.segment.stop) for item in items]
        lengths = tuple(map(len, clips))
        states = np.zeros((len(clips), max(lengths), *clips[0].shape[1:]), dtype=np.float32)
        for row, clip in zip(states, clips, strict=True):
            row[: len(clip)] = clip
        ids = tuple(self._alphabet.encode(_text(item)).ids for item in items)
        return Batch(torch.from_numpy(states), lengths, sum(lengths) / self._rate, ids, rng)


def _text(item: _Item) -> str:
    return " ".join(item.recording.text.split()[item.segment.first_word : item.segment.stop_word])
