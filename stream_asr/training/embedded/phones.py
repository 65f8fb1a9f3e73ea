"""The phones that are heard: their head is trained by itself, on what the frozen layers make of the recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from stream_asr.acoustic.moonshine import paired
from stream_asr.acoustic.moonshine_ctc import MoonshineCTCConfig
from stream_asr.acoustic.moonshine_heads import PHONE_FRAMES, PhoneHead, phone_head
from stream_asr.errors import InputError
from stream_asr.lm.lexicon import Dictionary
from stream_asr.training.checkpoint import seed_all
from stream_asr.training.embedded.corpus import Corpus
from stream_asr.training.embedded.data import Batch, held_out, stacked
from stream_asr.training.embedded.network import ctc_loss
from stream_asr.training.embedded.pronouncing import BLANK, Pronounced, pronounced
from stream_asr.training.embedded.running import Average, in_processes, learn
from stream_asr.training.embedded.settings import DEVELOPMENT_SPEAKERS, TEST_SPEAKERS, PhoneSettings
from stream_asr.training.embedded.shares import Shares
from stream_asr.training.embedded.states import RATE
from stream_asr.training.schedule import Budget, linear
from stream_asr.training.scoring import edit_distance


@dataclass(frozen=True, slots=True)
class PhoneTraining:
    """What the head learns from, and where it is left.

    Attributes:
        folder: for its checkpoint, its log and its best weights.
        config: of the model that it becomes a part of; it names the phones.
        dictionary: how words sound, by the first of their pronunciations; it may have no other phones.
        states: folder of the recordings' states.
    """

    folder: Path
    settings: PhoneSettings
    config: MoonshineCTCConfig
    dictionary: Dictionary
    states: Path


class PhoneData(Shares[Pronounced, Batch]):
    """See `Shares`.

    Args:
        corpus: of states.
        learned_from: recordings of it; those that are too long are left out.
    """

    def __init__(
        self, corpus: Corpus, learned_from: Sequence[Pronounced], settings: PhoneSettings, rank: int, processes: int
    ) -> None:
        super().__init__(settings.seed, rank, processes)
        longest = settings.longest_s * corpus.rate
        self._items = [each for each in learned_from if each.recording.length <= longest]
        self._corpus, self._settings = corpus, settings

    def plan(self, rng: np.random.Generator) -> list[list[Pronounced]]:
        settings = self._settings
        order = [self._items[place] for place in rng.permutation(len(self._items))]
        batches: list[list[Pronounced]] = []
        for start in range(0, len(order), settings.sorted_recordings):
            group = sorted(order[start:][: settings.sorted_recordings], key=lambda each: each.recording.length)
            batches += [group[first:][: settings.recordings] for first in range(0, len(group), settings.recordings)]
        return [batches[place] for place in rng.permutation(len(batches))]

    def made(self, items: list[Pronounced], rng: np.random.Generator) -> Batch:
        clips = [self._corpus.clip(item.recording) for item in items]
        states = stacked(clips)
        states *= rng.random((len(states), 1, states.shape[2])) >= self._settings.dropped
        lengths = tuple(map(len, clips))
        ids = tuple(item.ids for item in items)
        return Batch(torch.from_numpy(states), lengths, sum(lengths) / self._corpus.rate, ids, rng)


def train_phones(training: PhoneTraining, processes: int) -> None:
    """Run it to its end, from its checkpoint if there is one.

    Raises:
        InputError: there are fewer batches than processes.
    """
    _, data, _ = _learned_from(training, 0, processes)
    if not data.count(0):
        raise InputError(f"too few of the recordings in {training.states} have words that the dictionary knows")
    in_processes(_train, training, training.folder, processes)


def _learned_from(training: PhoneTraining, rank: int, processes: int) -> tuple[Corpus, PhoneData, list[Pronounced]]:
    """All states, what is to be learned from, and what is to be measured on."""
    corpus, phones = Corpus.load(training.states, RATE), training.config.phones or ()
    known, _ = held_out(corpus, TEST_SPEAKERS)
    known, development = held_out(known, DEVELOPMENT_SPEAKERS)
    heard, measured = (pronounced(part.recordings, training.dictionary, phones) for part in (known, development))
    return corpus, PhoneData(corpus, heard, training.settings, rank, processes), measured


def _train(rank: int, processes: int, training: PhoneTraining) -> None:
    settings = training.settings
    seed_all(settings.seed + rank)  # the weights that the first draws are sent to the others
    head = phone_head(training.config)
    assert head is not None
    parallel = DistributedDataParallel(head)
    corpus, data, measured = _learned_from(training, rank, processes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def loss(batch: Batch) -> Tensor:
        return ctc_loss(F.log_softmax(one_by_one(parallel(paired(batch.states))), dim=-1), batch, BLANK, PHONE_FRAMES)

    learn(
        head,
        data,
        loss,
        optimizer,
        linear(settings.warmup_steps / settings.steps),
        Budget(steps=settings.steps),
        Average(head, settings.averaging),
        lambda: {"per": error_rate(head, corpus, measured)},
        training.folder,
        first=rank == 0,
    )


@torch.no_grad()
def error_rate(head: PhoneHead, corpus: Corpus, measured: Sequence[Pronounced]) -> float:
    """Of the phones of greedy passes over whole recordings, in percent."""
    errors = 0
    for each in measured:
        pairs = paired(torch.from_numpy(corpus.clip(each.recording))[None])
        outputs = one_by_one(head(pairs))[0].argmax(dim=-1)
        errors += edit_distance(each.ids, [phone for phone in outputs.unique_consecutive().tolist() if phone != BLANK])
    return 100 * errors / max(1, sum(len(each.ids) for each in measured))


def one_by_one(logits: Tensor) -> Tensor:
    """``(batch, frames, PHONE_FRAMES * outputs)`` to ``(batch, PHONE_FRAMES * frames, outputs)``."""
    outputs: Tensor = logits.unflatten(-1, (PHONE_FRAMES, -1)).flatten(1, 2)
    return outputs
