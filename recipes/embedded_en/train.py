"""Train the layers on top of the frozen encoder, in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from recipes.embedded_en.averaging import WeightAverage
from recipes.embedded_en.corpus import Corpus, Recording
from recipes.embedded_en.dataset import Batch, SegmentDataset, Source
from recipes.embedded_en.encoder_states import STATE_RATE
from recipes.embedded_en.hooks import CHECKPOINT, RecipeHooks
from recipes.embedded_en.muon import Muon
from recipes.embedded_en.network import Network, ctc_loss
from recipes.embedded_en.parallel import run_in_processes
from recipes.embedded_en.settings import (
    CHECKPOINT_MINUTES,
    DEVELOPMENT_SPEAKERS,
    DEVELOPMENT_STEP,
    EVALUATE_MINUTES,
    TEST_SPEAKERS,
    TrainingSettings,
)
from recipes.embedded_en.tokenizer import load_tokenizer
from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.decoding.ctc import BestPath, decode
from stream_asr.training.checkpoint import load_checkpoint, seed_all
from stream_asr.training.loop import LoopConfig, Trainer
from stream_asr.training.schedule import Budget, trapezoidal_schedule
from stream_asr.training.scoring import ErrorRates

_NEVER_MINUTES = 1e9


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """Inputs and outputs of a training.

    Attributes:
        folder: folder for the checkpoint, the log and the best weights.
        settings: hyperparameters.
        config: configuration of the model.
        weights: file of the initial weights; weights that it lacks are initialized randomly.
        tokenizer: file of the tokenizer.
        recordings: folder of a `Corpus` of samples, for evaluation.
        sources: folders of states, each with the share that is used in each epoch.
    """

    folder: Path
    settings: TrainingSettings
    config: MoonshineCTCConfig
    weights: Path
    tokenizer: Path
    recordings: Path
    sources: Sequence[tuple[Path, float]]


def train(job: TrainingJob, processes: int) -> None:
    """Train to the end, resuming from a checkpoint if there is one."""
    run_in_processes(_train, job, job.folder, processes)


def _train(rank: int, processes: int, job: TrainingJob) -> None:
    settings, first = job.settings, rank == 0
    seed_all(settings.seed + rank)  # initial weights are broadcast from the first process
    tokenizer = load_tokenizer(job.tokenizer)
    model = MoonshineForCTC(job.config)
    load_initial_weights(model, job.weights)
    network = Network(model, settings)
    parallel = DistributedDataParallel(network)
    _, development = Corpus.load(job.recordings).split_speakers(DEVELOPMENT_SPEAKERS)
    development = development.with_recordings(development.recordings[::DEVELOPMENT_STEP])
    sources = [
        Source(Corpus.load(folder, STATE_RATE).split_speakers((*TEST_SPEAKERS, *DEVELOPMENT_SPEAKERS))[0], share)
        for folder, share in job.sources
    ]
    dataset = SegmentDataset(sources, tokenizer.alphabet, settings, rank, processes)
    average = WeightAverage(model, settings.averaging)
    optimizer = _create_optimizer(network, settings)
    optimizer.register_step_post_hook(lambda *_: average.update())

    def measure() -> dict[str, float]:
        rates = evaluate(model, tokenizer.labels, development)
        return {"wer": rates.wer, "cer": rates.cer}

    def loss(batch: Batch) -> Tensor:
        return ctc_loss(parallel(batch), batch, tokenizer.labels.blank)

    trainer = Trainer(
        network,
        dataset,
        loss,
        optimizer,
        trapezoidal_schedule(settings.warmup_steps / settings.steps, settings.decay),
        Budget(steps=settings.steps),
        LoopConfig(
            evaluate_minutes=EVALUATE_MINUTES if first else _NEVER_MINUTES,
            checkpoint_minutes=CHECKPOINT_MINUTES,
        ),
        RecipeHooks(job.folder, average, measure, first=first),
    )
    checkpoint = job.folder / CHECKPOINT
    if checkpoint.exists():
        saved = load_checkpoint(checkpoint)
        trainer.load_state_dict(saved["trainer"])
        average.load_state_dict(saved["average"])
    trainer.run()


def load_initial_weights(model: MoonshineForCTC, weights: Path) -> None:
    """Load the weights of the encoder. The layer that joins two frames starts as their mean."""
    model.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    if (join := model.encoder.join) is not None:
        half = torch.eye(join.out_features) / 2
        with torch.no_grad():
            join.weight.copy_(torch.cat([half, half], dim=1))
            join.bias.zero_()


def _create_optimizer(network: nn.Module, settings: TrainingSettings) -> Optimizer:
    trainable = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    matrices = [weight for name, weight in trainable.items() if weight.ndim == 2 and "head" not in name]
    others = [weight for name, weight in trainable.items() if weight.ndim != 2 or "head" in name]
    return Muon(matrices, others, settings.learning_rate, settings.weight_decay)


@torch.no_grad()
def evaluate(model: MoonshineForCTC, labels: Labels, corpus: Corpus) -> ErrorRates:
    """Return the error rates of whole recordings, decoded by best path."""

    def transcribe(recording: Recording) -> str:
        samples = torch.from_numpy(corpus.clip(recording))
        log_probs: Tensor = model(samples[None]).logits[0].log_softmax(-1)
        path = BestPath.from_log_probs(log_probs.numpy(), 0)
        return decode(path, labels, model.config.inputs_to_logits_ratio).text

    references = [recording.text for recording in corpus.recordings]
    return ErrorRates.of(references, [transcribe(recording) for recording in corpus.recordings])
