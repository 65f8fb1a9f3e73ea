"""Fine-tune a CTC model on a manifest of recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stream_asr.acoustic.loading import pick_device, use_threads
from stream_asr.acoustic.pretrained import Pretrained, load_pretrained
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.errors import InputError, StreamASRError
from stream_asr.training.acoustic import TrainableCTC, checkpoint_activations, freeze
from stream_asr.training.augment import Augmentation, Holes, NoiseSource, RecordedNoise, synthetic_noise
from stream_asr.training.checkpoint import State, load_checkpoint, seed_all
from stream_asr.training.dataset import Dataset, Utterance
from stream_asr.training.loop import LoopConfig, Trainer
from stream_asr.training.manifest import BadRow, Row, read_manifest
from stream_asr.training.output import counted, size_of
from stream_asr.training.run import CHECKPOINT, Display, Run
from stream_asr.training.schedule import linear
from stream_asr.training.scoring import Score
from stream_asr.training.settings import SYNTHETIC, FineTuneSettings
from stream_asr.training.validation import Checked, check
from stream_asr.training.vocabulary import alphabet_of, new_tokenizer


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: its budget is spent; otherwise it was stopped and can be resumed.
        before: of the model that it started from.
        after: of the best model, the one that was saved; None if it was stopped before there was one.
    """

    finished: bool
    step: int
    before: Score
    after: Score | None


def finetune(settings: FineTuneSettings, display: Display, stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Adapt a model, and leave the best one in ``settings.output``.

    Args:
        stop: asked after each step; when it says yes, the run is stored to be resumed, and ends.

    Raises:
        InputError: manifests with bad rows (all are listed), or a model, a setting or a folder that cannot be used.
        StreamASRError: the training went astray.
    """
    saved = _prepared(settings)
    manifests = tuple(read_manifest(path) for path in (settings.train, settings.evaluation))
    use_threads(settings.threads)
    device = pick_device(settings.device)
    autocast = _autocast(settings.precision, device)
    noise = _noise(settings.augment_noise)

    seed_all(settings.seed)
    pretrained = _load(settings, manifests)
    model = pretrained.model.to(device).eval()
    runner = TransformersCTC(pretrained.name, model, pretrained.feature_extractor, pretrained.labels, device=device)
    ctc = TrainableCTC(runner, Holes(settings.mask_time, settings.mask_frequency))
    train, evaluation = _usable(settings, manifests, pretrained, ctc, display)
    freeze(model, feature_encoder=not settings.train_feature_encoder, layers=settings.freeze_layers)
    if settings.gradient_checkpointing:
        checkpoint_activations(model)

    batches = Dataset(
        train,
        ctc,
        batch_s=settings.batch_s,
        seed=settings.seed,
        augmentation=Augmentation(settings.augment_speed, noise),
    )
    run = Run(settings, pretrained, ctc, batches, Dataset(evaluation, ctc, batch_s=settings.batch_s), display, stop)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trainer = Trainer(
        model,
        batches,
        ctc.loss,
        torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay),
        linear(settings.warmup),
        settings.budget,
        LoopConfig(
            accumulate=settings.accumulate,
            evaluate_minutes=settings.evaluate_minutes,
            checkpoint_minutes=settings.checkpoint_minutes,
            autocast=autocast,
        ),
        run,
    )
    trained, total = (sum(weight.numel() for weight in part) / 1e6 for part in (weights, model.parameters()))
    display.note(f"{pretrained.name}: {trained:.1f} of {total:.1f} million weights learn, on {device.type}")
    if saved is None:
        run.begin()
    else:
        run.resume(saved)
        trainer.load_state_dict(saved["trainer"])
        display.note(f"resumed at step {trainer.position.step}")
    try:
        finished = trainer.run()
    except torch.OutOfMemoryError as error:
        raise StreamASRError(
            f"the memory of {device.type} is full: fewer --batch-seconds (with --accumulate the batches add up to the "
            "same), or --gradient-checkpointing"
        ) from error
    return Outcome(finished, trainer.position.step, run.before, run.best)


def _prepared(settings: FineTuneSettings) -> State | None:
    """The checkpoint to resume from. What is in the way is found out here, before the work."""
    checkpoint = settings.output / CHECKPOINT
    if settings.resume:
        saved = load_checkpoint(checkpoint)
        if "settings" not in saved:
            raise InputError(f"{checkpoint} was not written by a fine-tuning run")
        now = settings.binding()
        changed = [name for name, value in saved["settings"].items() if now.get(name) != value]
        if changed:
            raise InputError(
                f"{checkpoint} belongs to a run with other settings: "
                + ", ".join(f"{name} was {saved['settings'][name]}, not {now.get(name)}" for name in changed)
            )
        return saved
    if (settings.output / "config.json").exists() or checkpoint.exists():
        raise InputError(
            f"{settings.output} holds a model or a run already: --resume goes on with it, or name another folder"
        )
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {settings.output}: {error.strerror or error}") from error
    if not os.access(settings.output, os.W_OK):
        raise InputError(f"cannot write into {settings.output}")
    return None


def _autocast(precision: str, device: torch.device) -> torch.dtype | None:
    if precision == "auto" and device.type == "cuda":
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision in ("auto", "float32"):
        return None
    if device.type != "cuda":
        raise InputError(f"{precision} is for CUDA; on {device.type} training is in float32")
    return torch.bfloat16 if precision == "bfloat16" else torch.float16


def _noise(wanted: str | None) -> NoiseSource | None:
    if wanted is None:
        return None
    return synthetic_noise if wanted == SYNTHETIC else RecordedNoise(Path(wanted))


_Manifest = tuple[list[Row], list[BadRow]]


def _load(settings: FineTuneSettings, manifests: Sequence[_Manifest]) -> Pretrained:
    if settings.alphabet is None:
        return load_pretrained(settings.model)
    texts = [row.text for rows, _ in manifests for row in rows]
    return load_pretrained(settings.model, tokenizer=new_tokenizer(settings.alphabet, texts))


def _usable(
    settings: FineTuneSettings,
    manifests: Sequence[_Manifest],
    pretrained: Pretrained,
    ctc: TrainableCTC,
    display: Display,
) -> list[tuple[Utterance, ...]]:
    """The utterances of both manifests. Raises InputError with all the rows that are none, unless they may be left."""
    alphabet = alphabet_of(pretrained)
    complaints: list[str] = []
    usable: list[tuple[Utterance, ...]] = []
    for path, (rows, unreadable) in zip((settings.train, settings.evaluation), manifests, strict=True):
        what = f"checking {path.name}"
        checked = check(
            rows, alphabet, ctc, settings.batch_s, lambda *counts, what=what: display.working(what, *counts)
        )
        bad = sorted((*unreadable, *checked.bad), key=lambda row: row.line)
        if bad and not settings.skip_bad_rows:
            complaints += [f"{path}, line {row.line}: {row.why}" for row in bad]
        elif not checked.utterances:
            raise InputError(f"{path}: none of its rows can be used; line {bad[0].line}: {bad[0].why}")
        usable.append(checked.utterances)
        _tell(path, checked, len(bad), display)
    if complaints:
        raise InputError(
            f"{counted(len(complaints), 'row')} cannot be used (--skip-bad-rows leaves them out):\n  "
            + "\n  ".join(complaints)
        )
    known, heard = ({utterance.speaker for utterance in part} - {""} for part in usable)
    if known & heard:
        display.note(f"speakers in both manifests: {len(known & heard)}; the figures will be better than for new ones")
    return usable


def _tell(path: Path, checked: Checked, bad: int, display: Display) -> None:
    display.note(
        f"{path.name}: {size_of(checked.utterances)}" + (f"; {counted(bad, 'row')} cannot be used" if bad else "")
    )
    if checked.dropped:
        marks = " ".join(f"{mark} ({count})" for mark, count in checked.dropped.most_common())
        display.note(f"{path.name}: punctuation that the model cannot write was left out of the texts: {marks}")
