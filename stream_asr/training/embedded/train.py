"""The training itself: the loop of `stream_asr.training`, on several processes of one thread each.

On a processor two processes that average their gradients learn faster than one with two threads: most of a small
model's operations are too short to be divided.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import typer
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from stream_asr.acoustic.moonshine_ctc import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.ctc import Labels, decode
from stream_asr.ctc import Path as FramePath
from stream_asr.training.checkpoint import State, load_checkpoint, save_checkpoint, seed_all
from stream_asr.training.embedded.corpus import Corpus, Recording
from stream_asr.training.embedded.data import Batch, SegmentData, Source, held_out
from stream_asr.training.embedded.muon import Muon
from stream_asr.training.embedded.network import Network, ctc_loss
from stream_asr.training.embedded.settings import DEVELOPMENT_SPEAKERS, TEST_SPEAKERS, TrainingSettings
from stream_asr.training.embedded.states import RATE
from stream_asr.training.embedded.units import pieces
from stream_asr.training.loop import LoopConfig, Trainer
from stream_asr.training.output import Log
from stream_asr.training.progress import Position, Report
from stream_asr.training.schedule import Budget, trapezoid
from stream_asr.training.scoring import Score

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
_REPORTS_A_LINE = 15
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
    training.folder.mkdir(parents=True, exist_ok=True)
    meeting = training.folder / ".processes"
    meeting.unlink(missing_ok=True)
    if processes == 1:
        _process(0, 1, training, meeting)
    else:
        spawn(_process, (processes, training, meeting), nprocs=processes)


def _process(rank: int, processes: int, training: Training, meeting: Path) -> None:
    torch.set_num_threads(1)
    # The others wait for the first while it evaluates.
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting.absolute()}",
        rank=rank,
        world_size=processes,
        timeout=timedelta(hours=1),
    )
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
    average = Average(model, settings.averaging)
    optimizer.register_step_post_hook(lambda *_: average.update())
    keeper = _Keeper(training.folder, model, units.labels, average, development, first=rank == 0)
    trainer: Trainer[Batch] = Trainer(
        network,
        data,
        lambda batch: ctc_loss(parallel(batch), batch, units.labels.blank),
        optimizer,
        trapezoid(settings.warmup_steps / settings.steps, settings.decay),
        Budget(steps=settings.steps),
        LoopConfig(evaluate_minutes=keeper.evaluate_minutes, checkpoint_minutes=5),
        keeper,
    )
    if (training.folder / CHECKPOINT).exists():
        saved = load_checkpoint(training.folder / CHECKPOINT)
        trainer.load_state_dict(saved["trainer"])
        average.load_state_dict(saved["average"])
    trainer.run()
    dist.destroy_process_group()


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


class Average:
    """A running average of a model's weights, which does better than the weights of any one step.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; here with
    exponentially falling shares, and fewer steps in it while there are few.
    """

    def __init__(self, model: nn.Module, stays: float) -> None:
        self._model, self._stays, self._steps = model, stays, 0
        self._weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self._steps += 1
        stays = min(self._stays, self._steps / (self._steps + 10))
        for name, weight in self._model.state_dict().items():
            self._weights[name].lerp_(weight, 1 - stays)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        own = {name: weight.clone() for name, weight in self._model.state_dict().items()}
        self._model.load_state_dict(self._weights)
        try:
            yield
        finally:
            self._model.load_state_dict(own)

    def state_dict(self) -> State:
        return {"steps": self._steps, "weights": self._weights}

    def load_state_dict(self, state: State) -> None:
        self._steps = state["steps"]
        for name, weight in state["weights"].items():
            self._weights[name].copy_(weight)


class _Keeper:
    """See `stream_asr.training.loop.Hooks`. Only the first process measures, shows and stores."""

    def __init__(
        self,
        folder: Path,
        model: MoonshineForCTC,
        labels: Labels,
        average: Average,
        development: Corpus,
        *,
        first: bool,
    ) -> None:
        self._folder, self._model, self._labels = folder, model, labels
        self._average, self._development = average, development
        self._first, self._reports = first, 0
        self._log = Log(folder / "log.jsonl")
        self.evaluate_minutes = 10.0 if first else 1e9

    def report(self, report: Report) -> None:
        self._reports += 1
        if not self._first or self._reports % _REPORTS_A_LINE:
            return
        self._log("training", **asdict(report))
        typer.echo(
            f"step {report.step}  epoch {report.epochs:.2f}  loss {report.loss:.3f}  "
            f"{report.audio_rate:.0f} s of audio a second and process  "
            f"{report.progress:.0%}, {(report.remaining_s or 0) / 60:.0f} min to go"
        )

    def evaluate(self, position: Position) -> float:
        if not self._first:
            return 0.0
        with self._average.applied():
            score = measure(self._model, self._labels, self._development)
        values = {"step": position.step, "audio_s": position.audio_s, "elapsed_s": position.elapsed_s}
        self._log("evaluation", **values, wer=score.wer, cer=score.cer)
        typer.echo(f"step {position.step}: WER {score.wer:.2f} %, CER {score.cer:.2f} %")
        return score.wer

    def improved(self, position: Position) -> None:
        if self._first:
            save_checkpoint(self._folder / BEST, self._average.state_dict()["weights"])

    def checkpoint(self, state: State) -> None:
        if self._first:
            saved = {"trainer": state, "average": self._average.state_dict()}
            save_checkpoint(self._folder / CHECKPOINT, saved)

    def stop(self) -> bool:
        return False


@torch.no_grad()
def measure(model: MoonshineForCTC, labels: Labels, corpus: Corpus) -> Score:
    """Error rates of greedy passes over whole recordings."""

    def heard(recording: Recording) -> str:
        samples = torch.from_numpy(corpus.clip(recording))
        log_probs: Tensor = model(samples[None]).logits[0].log_softmax(-1)
        return decode(FramePath.best(log_probs.numpy(), 0), labels, model.config.inputs_to_logits_ratio).text

    return Score.of([recording.text for recording in corpus.recordings], list(map(heard, corpus.recordings)))


def processes() -> int:
    """One for each processor that this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
