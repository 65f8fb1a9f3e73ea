"""Fine-tune a model on a manifest of recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, read_decoder
from stream_asr.acoustic.moonshine.encoder import find_encoder
from stream_asr.acoustic.options import pick_device, use_threads
from stream_asr.acoustic.pretrained import Pretrained, load_pretrained
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.errors import InputError, StreamASRError
from stream_asr.training.artifacts import describe_utterances, pluralize
from stream_asr.training.augmentation import Augmentation, NoiseSource, RecordedNoise, SpecAugment, synthetic_noise
from stream_asr.training.checkpoint import State, load_checkpoint, seed_all
from stream_asr.training.dataset import Dataset, Utterance
from stream_asr.training.hooks import CHECKPOINT, RECORDINGS_CHANGED, FineTuneHooks
from stream_asr.training.loop import LoopConfig, Trainer
from stream_asr.training.manifest import BadRow, Row, read_manifest
from stream_asr.training.progress import ProgressDisplay
from stream_asr.training.schedule import linear_schedule
from stream_asr.training.scoring import ErrorRates
from stream_asr.training.settings import SYNTHETIC, FineTuneSettings
from stream_asr.training.trainable_ctc import TrainableCTC, enable_gradient_checkpointing, freeze_parameters
from stream_asr.training.trainable_two_pass import TrainableTwoPass
from stream_asr.training.transcripts import encode_transcripts, with_tokens
from stream_asr.training.validation import ValidationResult, validate_rows
from stream_asr.training.vocabulary import alphabet_of, create_tokenizer


@dataclass(frozen=True, slots=True)
class FineTuneResult:
    """Result of a run.

    Attributes:
        finished: True if the budget is used up, False if the run was stopped and can be resumed.
        step: optimizer steps done.
        before: error rates of the base model.
        after: error rates of the best model, which is the saved one; None if the run was stopped before it saved one.
    """

    finished: bool
    step: int
    before: ErrorRates
    after: ErrorRates | None


def finetune(
    settings: FineTuneSettings, display: ProgressDisplay, stop: Callable[[], bool] = lambda: False
) -> FineTuneResult:
    """Fine-tune a model, and save the best checkpoint to ``settings.output``.

    Args:
        settings: all settings of the run.
        display: shows the progress.
        stop: called after each step; if it returns True, the run is saved, to be resumed later, and ends.

    Raises:
        InputError: the manifests have bad rows (the message lists all of them), or a model, a setting or the output
            folder is unusable.
        StreamASRError: training diverged, or the device is out of memory.
    """
    saved = _prepare_output(settings)
    manifests = tuple(read_manifest(path) for path in (settings.train, settings.evaluation))
    use_threads(settings.threads)
    device = pick_device(settings.device)
    autocast = _autocast_dtype(settings.precision, device)
    noise = _noise_source(settings.augment_noise)

    seed_all(settings.seed)
    pretrained = _load_base_model(settings, manifests)
    model = pretrained.model.to(device).eval()
    runner = TransformersCTC(pretrained.name, model, pretrained.feature_extractor, pretrained.labels, device=device)
    spec_augment = SpecAugment(settings.mask_time, settings.mask_frequency)
    decoder = _load_decoder(settings, pretrained)
    ctc = TrainableCTC(runner, spec_augment) if decoder is None else TrainableTwoPass(runner, spec_augment, decoder)
    train, evaluation = _validate_manifests(settings, manifests, pretrained, ctc, display)
    if isinstance(ctc, TrainableTwoPass):
        if saved is None:
            train = encode_transcripts(train, ctc, settings, display)
        else:
            train = _saved_tokens(train, saved, settings)
    layers = settings.freeze_layers
    if layers is None:
        layers = 0 if settings.train_feature_encoder else ctc.shared_layers
    freeze_parameters(model, feature_encoder=not settings.train_feature_encoder, layers=layers)
    if settings.gradient_checkpointing:
        enable_gradient_checkpointing(model)

    batches = Dataset(
        train,
        ctc,
        batch_s=settings.batch_s,
        seed=settings.seed,
        augmentation=Augmentation(settings.augment_speed, noise),
    )
    evaluation_batches = Dataset(evaluation, ctc, batch_s=settings.batch_s)
    hooks = FineTuneHooks(settings, pretrained, ctc, batches, evaluation_batches, display, stop)
    parameters = [parameter for parameter in ctc.module.parameters() if parameter.requires_grad]
    trainer = Trainer(
        ctc.module,
        batches,
        ctc.loss,
        torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay),
        linear_schedule(settings.warmup),
        settings.budget,
        LoopConfig(
            accumulate=settings.accumulate,
            evaluate_minutes=settings.evaluate_minutes,
            checkpoint_minutes=settings.checkpoint_minutes,
            autocast=autocast,
        ),
        hooks,
    )
    trainable, total = (sum(weight.numel() for weight in part) / 1e6 for part in (parameters, ctc.module.parameters()))
    display.show_message(
        f"{pretrained.name}: training {trainable:.1f} of {total:.1f} million parameters on {device.type}"
    )
    if saved is None:
        hooks.start()
    else:
        hooks.resume(saved)
        trainer.load_state_dict(saved["trainer"])
        display.show_message(f"resumed at step {trainer.position.step}")
    try:
        finished = trainer.run()
    except torch.OutOfMemoryError as error:
        raise StreamASRError(
            f"{device.type} is out of memory; use a lower --batch-seconds (with a higher --accumulate for the same "
            "result), or --gradient-checkpointing"
        ) from error
    return FineTuneResult(finished, trainer.position.step, hooks.before, hooks.best)


def _prepare_output(settings: FineTuneSettings) -> State | None:
    """Create the output folder, or load the checkpoint to resume from. Fails early, before any expensive work."""
    checkpoint = settings.output / CHECKPOINT
    if settings.resume:
        saved = load_checkpoint(checkpoint)
        if "settings" not in saved:
            raise InputError(f"{checkpoint} was not written by a fine-tuning run")
        current = settings.fixed_values()
        changed = [name for name, value in saved["settings"].items() if current.get(name) != value]
        if changed:
            raise InputError(
                f"{checkpoint} belongs to a run with other settings: "
                + ", ".join(f"{name} was {saved['settings'][name]}, not {current.get(name)}" for name in changed)
            )
        return saved
    if (settings.output / "config.json").exists() or checkpoint.exists():
        raise InputError(
            f"{settings.output} already contains a model or a run: resume the run with --resume, or choose another "
            "folder"
        )
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {settings.output}: {error.strerror or error}") from error
    if not os.access(settings.output, os.W_OK):
        raise InputError(f"cannot write to {settings.output}")
    return None


def _autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    if precision == "auto" and device.type == "cuda":
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision in ("auto", "float32"):
        return None
    if device.type != "cuda":
        raise InputError(f"precision {precision} requires CUDA; training on {device.type} supports float32 only")
    return torch.bfloat16 if precision == "bfloat16" else torch.float16


def _noise_source(augment_noise: str | None) -> NoiseSource | None:
    if augment_noise is None:
        return None
    return synthetic_noise if augment_noise == SYNTHETIC else RecordedNoise(Path(augment_noise))


_Manifest = tuple[list[Row], list[BadRow]]


def _load_base_model(settings: FineTuneSettings, manifests: Sequence[_Manifest]) -> Pretrained:
    if settings.alphabet is None:
        return load_pretrained(settings.model)
    texts = [row.text for rows, _ in manifests for row in rows]
    return load_pretrained(settings.model, tokenizer=create_tokenizer(settings.alphabet, texts))


def _load_decoder(settings: FineTuneSettings, pretrained: Pretrained) -> DecoderCheckpoint | None:
    """Return the attention decoder of the base model. None if it has none, or if it writes another language."""
    if pretrained.folder is None or settings.alphabet is not None or find_encoder(pretrained.model) is None:
        return None
    return read_decoder(pretrained.folder, pretrained.name)


def _saved_tokens(utterances: Sequence[Utterance], saved: State, settings: FineTuneSettings) -> tuple[Utterance, ...]:
    """Restore the targets of the attention decoder from a checkpoint: the decoder that made them has changed since."""
    tokens = saved.get("tokens")
    if tokens is None:
        raise InputError(f"{settings.output / CHECKPOINT} was written by a version that trained the CTC model only")
    if len(tokens) != len(utterances):
        raise InputError(RECORDINGS_CHANGED)
    return tuple(with_tokens(*item) for item in zip(utterances, tokens, strict=True))


def _validate_manifests(
    settings: FineTuneSettings,
    manifests: Sequence[_Manifest],
    pretrained: Pretrained,
    ctc: TrainableCTC,
    display: ProgressDisplay,
) -> list[tuple[Utterance, ...]]:
    """Return the usable utterances of both manifests.

    Raises:
        InputError: there are bad rows and ``skip_bad_rows`` is off (the message lists all of them), or a manifest has
            no usable row.
    """
    alphabet = alphabet_of(pretrained)
    errors: list[str] = []
    usable: list[tuple[Utterance, ...]] = []
    for path, (rows, malformed) in zip((settings.train, settings.evaluation), manifests, strict=True):
        task = f"checking {path.name}"
        result = validate_rows(
            rows, alphabet, ctc, settings.batch_s, lambda *counts, task=task: display.show_task(task, *counts)
        )
        bad_rows = sorted((*malformed, *result.bad_rows), key=lambda row: row.line)
        if bad_rows and not settings.skip_bad_rows:
            errors += [f"{path}, line {row.line}: {row.reason}" for row in bad_rows]
        elif not result.utterances:
            raise InputError(f"{path} has no usable rows; line {bad_rows[0].line}: {bad_rows[0].reason}")
        usable.append(result.utterances)
        _show_manifest(path, result, len(bad_rows), display)
    if errors:
        raise InputError(
            f"{pluralize(len(errors), 'row')} cannot be used (--skip-bad-rows skips them):\n  " + "\n  ".join(errors)
        )
    train_speakers, evaluation_speakers = ({utterance.speaker for utterance in part} - {""} for part in usable)
    if shared := train_speakers & evaluation_speakers:
        display.show_message(
            f"speakers in both manifests: {len(shared)}; error rates for new speakers will be higher than reported"
        )
    return usable


def _show_manifest(path: Path, result: ValidationResult, bad_rows: int, display: ProgressDisplay) -> None:
    display.show_message(
        f"{path.name}: {describe_utterances(result.utterances)}"
        + (f"; {pluralize(bad_rows, 'row')} cannot be used" if bad_rows else "")
    )
    if result.dropped:
        marks = " ".join(f"{mark} ({count})" for mark, count in result.dropped.most_common())
        display.show_message(f"{path.name}: removed punctuation that the model cannot write: {marks}")
