"""Segments of corpora as batches: cut anew in each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stream_asr.arrays import FloatArray
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.batches import plan
from stream_asr.training.embedded.corpus import Corpus, Recording
from stream_asr.training.embedded.segments import Segment, cut
from stream_asr.training.embedded.settings import TrainingSettings
from stream_asr.training.embedded.shares import Shares


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


class SegmentData(Shares[_Item, Batch]):
    """See `Shares`.

    Args:
        sources: of states.
    """

    def __init__(
        self, sources: Sequence[Source], alphabet: Alphabet, settings: TrainingSettings, rank: int, processes: int
    ) -> None:
        super().__init__(settings.seed, rank, processes)
        self._sources, self._alphabet, self._settings = sources, alphabet, settings
        self._rate = sources[0].corpus.rate

    def plan(self, rng: np.random.Generator) -> list[list[_Item]]:
        settings = self._settings
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

    def made(self, items: list[_Item], rng: np.random.Generator) -> Batch:
        clips = [item.corpus.clip(item.recording, item.segment.start, item.segment.stop) for item in items]
        lengths = tuple(map(len, clips))
        states = stacked(clips)
        ids = tuple(self._alphabet.spell(_text(item)).ids for item in items)
        return Batch(torch.from_numpy(states), lengths, sum(lengths) / self._rate, ids, rng)


def stacked(clips: Sequence[FloatArray]) -> FloatArray:
    """States of several clips, ``(frames, width)`` each, as ``(clips, frames, width)``: zeros behind the shorter."""
    states = np.zeros((len(clips), max(map(len, clips)), *clips[0].shape[1:]), dtype=np.float32)
    for row, clip in zip(states, clips, strict=True):
        row[: len(clip)] = clip
    return states


def _text(item: _Item) -> str:
    return " ".join(item.recording.text.split()[item.segment.first_word : item.segment.stop_word])


def held_out(corpus: Corpus, speakers: Sequence[str]) -> tuple[Corpus, Corpus]:
    """The corpus without some speakers, and these."""
    kept = [recording for recording in corpus.recordings if recording.speaker not in speakers]
    left = [recording for recording in corpus.recordings if recording.speaker in speakers]
    return corpus.of(kept), corpus.of(left)
