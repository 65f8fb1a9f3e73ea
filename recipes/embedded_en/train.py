"""The training itself: the loop of `stream_asr.training`, on several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from recipes.embedded_en.corpus import Corpus, Recording
from recipes.embedded_en.data import Batch, SegmentData, Source, held_out
from recipes.embedded_en.muon import Muon
from recipes.embedded_en.network import Network, ctc_loss
from recipes.embedded_en.running import Average, in_processes, learn
from recipes.embedded_en.settings import DEVELOPMENT_SPEAKERS, TEST_SPEAKERS, TrainingSettings
from recipes.embedded_en.states import RATE
from recipes.embedded_en.units import pieces
from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.decoding.ctc import BestPath, decode
from stream_asr.training.checkpoint import seed_all
from stream_asr.training.schedule import Budget, trapezoid
from stream_asr.training.scoring import Score

_DEVELOPMENT_STEP = 2
"""Every second recording of the development speakers tells enough, in half the time that training waits for it."""


@dataclass(frozen=True, slots=True)
class Training:
    """What it starts and learns from, and where it leaves what it made.

    Attributes:
        folder: for its checkpoint, its log and its best weights.
        weights: file of the weights to start from; what they lack starts anew.
        pieces: file of the pieces that the model writes.
        recordings: folder of a `Corpus` of waveforms, to measure on.
        learned_from: folders of states, each with the part that an epoch sees.
    """

    folder: Path
    settings: TrainingSettings
    config: MoonshineCTCConfig
    weights: Path
    pieces: Path
    recordings: Path
    learned_from: Sequence[tuple[Path, float]]


def train(training: Training, processes: int) -> None:
    """Run it to its end, from its checkpoint if there is one."""
    in_processes(_train, training, training.folder, processes)


def _train(rank: int, processes: int, training: Training) -> None:
    settings = training.settings
    seed_all(settings.seed + rank)  # the weights that the first draws are sent to the others
    units = pieces(training.pieces)
    model = MoonshineForCTC(training.config)
    start_from(model, training.weights)
    network = Network(model, settings)
    parallel = DistributedDataParallel(network)
    known, _ = held_out(Corpus.load(training.recordings), TEST_SPEAKERS)
    _, development = held_out(known, DEVELOPMENT_SPEAKERS)
    development = development.of(development.recordings[::_DEVELOPMENT_STEP])
    sources = [
        Source(held_out(Corpus.load(folder, RATE), (*TEST_SPEAKERS, *DEVELOPMENT_SPEAKERS))[0], part)
        for folder, part in training.learned_from
    ]
    data = SegmentData(sources, units.alphabet, settings, rank, processes)
    optimizer = _optimizer(network, settings)

    def rates() -> dict[str, float]:
        score = measure(model, units.labels, development)
        return {"wer": score.wer, "cer": score.cer}

    def loss(batch: Batch) -> Tensor:
        return ctc_loss(parallel(batch), batch, units.labels.blank)

    learn(
        network,
        data,
        loss,
        optimizer,
        trapezoid(settings.warmup_steps / settings.steps, settings.decay),
        Budget(steps=settings.steps),
        Average(model, settings.averaging),
        rates,
        training.folder,
        first=rank == 0,
    )


def start_from(model: MoonshineForCTC, weights: Path) -> None:
    """Load the weights of an encoder without layers on top; where frames are joined, each pair starts as its mean."""
    model.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    if (join := model.encoder.join) is not None:
        half = torch.eye(join.out_features) / 2
        with torch.no_grad():
            join.weight.copy_(torch.cat([half, half], dim=1))
            join.bias.zero_()


def _optimizer(network: nn.Module, settings: TrainingSettings) -> Optimizer:
    learning = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    hidden = [weight for name, weight in learning.items() if weight.ndim == 2 and "head" not in name]
    others = [weight for name, weight in learning.items() if weight.ndim != 2 or "head" in name]
    return Muon(hidden, others, settings.learning_rate, settings.weight_decay)


@torch.no_grad()
def measure(model: MoonshineForCTC, labels: Labels, corpus: Corpus) -> Score:
    """Error rates of greedy passes over whole recordings."""

    def heard(recording: Recording) -> str:
        samples = torch.from_numpy(corpus.clip(recording))
        log_probs: Tensor = model(samples[None]).logits[0].log_softmax(-1)
        return decode(BestPath.best(log_probs.numpy(), 0), labels, model.config.inputs_to_logits_ratio).text

    return Score.of([recording.text for recording in corpus.recordings], list(map(heard, corpus.recordings)))
