"""Segments of corpora as batches: cut anew in each epoch, shared out among processes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from recipes.embedded_en.corpus import Corpus, Recording
from recipes.embedded_en.segments import Segment, cut
from recipes.embedded_en.settings import TrainingSettings
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.batches import plan
from stream_asr.training.dataset import ahead


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments that go through the model together.

    Attributes:
        states: float32, shape (segments, frames, width), zeros behind the shorter ones.
        lengths: of the segments, in frames.
        seconds: of audio, all together.
        ids: the outputs of what is said in each segment.
        draw: decides what else is left to chance.
    """

    states: Tensor
    lengths: tuple[int, ...]
    seconds: float
    ids: tuple[tuple[int, ...], ...]
    draw: np.random.Generator


@dataclass(frozen=True, slots=True)
class Source:
    """Something to learn from.

    Attributes:
        part: of its recordings that an epoch sees, others each time; 0 to 1.
    """

    corpus: Corpus
    part: float = 1.0

    def drawn(self, rng: np.random.Generator) -> list[Recording]:
        """Those of one epoch, in random order."""
        recordings = self.corpus.recordings
        places = rng.permutation(len(recordings))[: round(self.part * len(recordings))]
        return [recordings[place] for place in places]


@dataclass(frozen=True, slots=True)
class _Item:
    corpus: Corpus
    recording: Recording
    segment: Segment


class SegmentData:
    """See `stream_asr.training.loop.Batches`. What a batch holds depends on seed, epoch and place alone.

    Args:
        sources: of states.
        rank, processes: this process gets every ``processes``-th batch, from number ``rank`` on.
    """

    def __init__(
        self, sources: Sequence[Source], alphabet: Alphabet, settings: TrainingSettings, rank: int, processes: int
    ) -> None:
        self._sources, self._alphabet, self._settings = sources, alphabet, settings
        self._rank, self._processes = rank, processes
        self._rate = sources[0].corpus.rate
        self._planned = lru_cache(maxsize=2)(self._plan)

    def count(self, epoch: int) -> int:
        """Batches that each process gets; what is left over is left out."""
        return len(self._planned(epoch)) // self._processes

    def epoch(self, number: int, start: int) -> Generator[Batch, None, None]:
        """This process's batches of an epoch from place ``start`` on."""
        return ahead(partial(self._batch, number, place) for place in range(start, self.count(number)))

    def _plan(self, epoch: int) -> list[list[_Item]]:
        settings = self._settings
        rng = np.random.default_rng((settings.seed, epoch))
        chosen = [(source.corpus, recording) for source in self._sources for recording in source.drawn(rng)]
        shortest, longest = (round(seconds * self._rate) for seconds in (settings.shortest_s, settings.longest_s))
        items = [
            _Item(corpus, recording, segment)
            for corpus, recording in chosen
            for segment in cut(recording.length, len(recording.text.split()), recording.pauses, shortest, longest, rng)
            if segment.stop - segment.start <= 2 * longest
        ]
        lengths = [(item.segment.stop - item.segment.start) / self._rate for item in items]
        return [[items[index] for index in batch] for batch in plan(lengths, settings.batch_s, rng)]

    def _batch(self, epoch: int, place: int) -> Batch:
        number = place * self._processes + self._rank
        items, rng = self._planned(epoch)[number], np.random.default_rng((self._settings.seed, epoch, number))
        clips = [item.corpus.clip(item.recording, item.segment.start, item.segment.stop) for item in items]
        lengths = tuple(map(len, clips))
        states = np.zeros((len(clips), max(lengths), *clips[0].shape[1:]), dtype=np.float32)
        for row, clip in zip(states, clips, strict=True):
            row[: len(clip)] = clip
        ids = tuple(self._alphabet.spell(_text(item)).ids for item in items)
        return Batch(torch.from_numpy(states), lengths, sum(lengths) / self._rate, ids, rng)


def _text(item: _Item) -> str:
    return " ".join(item.recording.text.split()[item.segment.first_word : item.segment.stop_word])


def held_out(corpus: Corpus, speakers: Sequence[str]) -> tuple[Corpus, Corpus]:
    """The corpus without some speakers, and these."""
    kept = [recording for recording in corpus.recordings if recording.speaker not in speakers]
    left = [recording for recording in corpus.recordings if recording.speaker in speakers]
    return corpus.of(kept), corpus.of(left)
