"""Segments of a corpus as batches: cut anew, sped up and made noisy anew in each epoch, shared out among processes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from stream_asr.arrays import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.augment import at_speed, synthetic_noise, with_noise
from stream_asr.training.batches import plan
from stream_asr.training.dataset import ahead
from stream_asr.training.embedded.corpus import Corpus, Recording
from stream_asr.training.embedded.segments import Segment, cut
from stream_asr.training.embedded.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments that go through the model together.

    Attributes:
        waveform: float32, shape (segments, samples), silence behind the shorter ones.
        lengths: of the segments, in samples.
        ids: the outputs of each segment's text.
        draw: decides what else is left to chance.
    """

    waveform: Tensor
    lengths: tuple[int, ...]
    ids: tuple[tuple[int, ...], ...]
    draw: np.random.Generator

    @property
    def seconds(self) -> float:
        return sum(self.lengths) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class _Item:
    corpus: Corpus
    recording: Recording
    segment: Segment


class SegmentData:
    """See `stream_asr.training.loop.Batches`. What a batch holds depends on seed, epoch and place alone.

    Args:
        real: all of it is in each epoch.
        synthetic: another part of it is in each epoch.
        rank, processes: this process gets every ``processes``-th batch, from number ``rank`` on.
    """

    def __init__(
        self,
        real: Corpus,
        synthetic: Corpus | None,
        alphabet: Alphabet,
        settings: TrainingSettings,
        rank: int,
        processes: int,
    ) -> None:
        self._real, self._synthetic, self._alphabet, self._settings = real, synthetic, alphabet, settings
        self._rank, self._processes = rank, processes
        self._planned = lru_cache(maxsize=2)(self._plan)

    def count(self, epoch: int) -> int:
        """Batches that each process gets; what is left over is left out."""
        return len(self._planned(epoch)) // self._processes

    def epoch(self, number: int, start: int) -> Generator[Batch, None, None]:
        """This process's batches of an epoch from place ``start`` on."""
        return ahead(partial(self._batch, number, place) for place in range(start, self.count(number)))

    def _plan(self, epoch: int) -> list[list[_Item]]:
        settings, rng = self._settings, np.random.default_rng((self._settings.seed, epoch))
        sources = [(self._real, recording) for recording in self._real.recordings]
        if self._synthetic is not None:
            count = int(settings.synthetic * len(self._synthetic.recordings))
            chosen = rng.permutation(len(self._synthetic.recordings))[:count]
            sources += [(self._synthetic, self._synthetic.recordings[index]) for index in chosen]
        shortest, longest = (round(s * SAMPLE_RATE) for s in (settings.shortest_s, settings.longest_s))
        items = [
            _Item(corpus, recording, segment)
            for corpus, recording in sources
            for segment in cut(recording.samples, len(recording.text.split()), recording.pauses, shortest, longest, rng)
            if segment.stop - segment.start <= 2 * longest
        ]
        lengths = [(item.segment.stop - item.segment.start) / SAMPLE_RATE for item in items]
        return [[items[index] for index in batch] for batch in plan(lengths, settings.batch_s, rng)]

    def _batch(self, epoch: int, place: int) -> Batch:
        number = place * self._processes + self._rank
        rng = np.random.default_rng((self._settings.seed, epoch, number))
        items = self._planned(epoch)[number]
        clips = [self._augmented(item, rng) for item in items]
        longest = max(map(len, clips))
        waveform = np.stack([np.pad(clip, (0, longest - len(clip))) for clip in clips])
        ids = tuple(self._alphabet.spell(_text(item)).ids for item in items)
        return Batch(torch.from_numpy(waveform), tuple(map(len, clips)), ids, rng)

    def _augmented(self, item: _Item, rng: np.random.Generator) -> FloatArray:
        settings, segment = self._settings, item.segment
        samples = item.corpus.waveform(item.recording)[segment.start : segment.stop]
        samples = at_speed(samples, rng.uniform(settings.slowest, settings.fastest))
        samples = samples * np.float32(10 ** (rng.uniform(*settings.gain_db) / 20))
        if rng.random() < settings.noisy:
            samples = with_noise(samples, synthetic_noise(len(samples), rng), rng.uniform(*settings.noise_snr_db))
        return samples


def _text(item: _Item) -> str:
    return " ".join(item.recording.text.split()[item.segment.first_word : item.segment.stop_word])


def held_out(corpus: Corpus, speakers: Sequence[str]) -> tuple[Corpus, Corpus]:
    """The corpus without some speakers, and these."""
    kept = [recording for recording in corpus.recordings if recording.speaker not in speakers]
    left = [recording for recording in corpus.recordings if recording.speaker in speakers]
    return Corpus(kept, corpus.audio), Corpus(left, corpus.audio)
