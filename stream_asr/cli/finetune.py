"""``stream-asr finetune``: fine-tune a model on the user's own recordings."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from stream_asr.cli.options import Device, DeviceOption, ModelName, Threads
from stream_asr.training.schedule import Budget
from stream_asr.training.settings import DEFAULT_EPOCHS, SPEED_RANGE, FineTuneSettings

_DATA, _LENGTH, _OPTIMIZATION = "Data", "Length of the run", "Optimization"
_AUGMENTATION, _PERFORMANCE = "Augmentation", "Speed and memory"
_DEFAULTS = FineTuneSettings(Path(), Path(), Path(), Budget(epochs=DEFAULT_EPOCHS))


class TrainingPrecision(str, Enum):
    auto, float32, bfloat16, float16 = "auto", "float32", "bfloat16", "float16"


def finetune(
    train: Annotated[
        Path,
        typer.Option("--train", help="Manifest of the training recordings.", show_default=False, rich_help_panel=_DATA),
    ],
    evaluation: Annotated[
        Path,
        typer.Option(
            "--eval",
            help="Manifest of the evaluation recordings. Use recordings that are not in --train, if possible of other "
            "speakers.",
            show_default=False,
            rich_help_panel=_DATA,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the model, the log and the checkpoint.",
            show_default=False,
            rich_help_panel=_DATA,
        ),
    ],
    model: ModelName = None,
    alphabet: Annotated[
        Optional[str],
        typer.Option(
            "--alphabet",
            help="Replace the output layer, for example for another language: a text file that contains the "
            "characters to write, or [bold]from-text[/bold] for all letters and digits of the manifests, in lower "
            "case. [dim]default: keep the output layer[/dim]",
            rich_help_panel=_DATA,
        ),
    ] = _DEFAULTS.alphabet,
    skip_bad_rows: Annotated[
        bool,
        typer.Option(
            "--skip-bad-rows", help="Skip rows that cannot be used instead of stopping.", rich_help_panel=_DATA
        ),
    ] = _DEFAULTS.skip_bad_rows,
    verbatim: Annotated[
        bool,
        typer.Option(
            "--verbatim",
            help="Train the attention decoder on the texts exactly as they are. By default, texts without capitals or "
            "punctuation get those that the decoder writes.",
            rich_help_panel=_DATA,
        ),
    ] = _DEFAULTS.verbatim,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the interrupted run in --output.", rich_help_panel=_LENGTH),
    ] = _DEFAULTS.resume,
    epochs: Annotated[
        Optional[float],
        typer.Option(
            "--epochs",
            min=0,
            help="End after this many passes over the training data. The run ends at the first limit that it reaches. "
            f"[dim]default: {DEFAULT_EPOCHS:g} if no limit is given[/dim]",
            rich_help_panel=_LENGTH,
        ),
    ] = None,
    steps: Annotated[
        Optional[int],
        typer.Option("--steps", min=1, help="End after this many updates of the weights.", rich_help_panel=_LENGTH),
    ] = None,
    minutes: Annotated[
        Optional[float],
        typer.Option(
            "--minutes", min=0, help="End after this many minutes, evaluations included.", rich_help_panel=_LENGTH
        ),
    ] = None,
    evaluate_minutes: Annotated[
        Optional[float],
        typer.Option(
            "--eval-minutes",
            min=0,
            help="Minutes between evaluations. [dim]default: evaluate after each epoch[/dim]",
            rich_help_panel=_LENGTH,
        ),
    ] = _DEFAULTS.evaluate_minutes,
    checkpoint_minutes: Annotated[
        float,
        typer.Option(
            "--checkpoint-minutes", min=0, help="Minutes between checkpoints for --resume.", rich_help_panel=_LENGTH
        ),
    ] = _DEFAULTS.checkpoint_minutes,
    learning_rate: Annotated[
        float,
        typer.Option(
            "--learning-rate",
            min=0,
            help="Peak learning rate. Lower it if the model gets worse.",
            rich_help_panel=_OPTIMIZATION,
        ),
    ] = _DEFAULTS.learning_rate,
    warmup: Annotated[
        float,
        typer.Option(
            "--warmup",
            min=0,
            max=1,
            help="Share of the run in which the learning rate rises to its peak; afterwards it falls to 0.",
            rich_help_panel=_OPTIMIZATION,
        ),
    ] = _DEFAULTS.warmup,
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", min=0, help="Weight decay of AdamW.", rich_help_panel=_OPTIMIZATION)
    ] = _DEFAULTS.weight_decay,
    freeze_layers: Annotated[
        Optional[int],
        typer.Option(
            "--freeze-layers",
            min=0,
            help="Do not train this many of the lowest encoder layers. Helps to keep the accuracy on other speech. "
            "[dim]default: those that feed the attention decoder, if the model has one and --train-feature-encoder is "
            "not given; else 0[/dim]",
            rich_help_panel=_OPTIMIZATION,
        ),
    ] = _DEFAULTS.freeze_layers,
    train_feature_encoder: Annotated[
        bool,
        typer.Option(
            "--train-feature-encoder",
            help="Also train the convolutions over the waveform.",
            rich_help_panel=_OPTIMIZATION,
        ),
    ] = _DEFAULTS.train_feature_encoder,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of all random numbers.", rich_help_panel=_OPTIMIZATION)
    ] = _DEFAULTS.seed,
    mask_time: Annotated[
        float,
        typer.Option(
            "--mask-time",
            min=0,
            max=1,
            help="SpecAugment: share of the time to mask. 0 disables it.",
            rich_help_panel=_AUGMENTATION,
        ),
    ] = _DEFAULTS.mask_time,
    mask_frequency: Annotated[
        float,
        typer.Option(
            "--mask-frequency",
            min=0,
            max=1,
            help="SpecAugment: share of the frequencies to mask. 0 disables it.",
            rich_help_panel=_AUGMENTATION,
        ),
    ] = _DEFAULTS.mask_frequency,
    augment_speed: Annotated[
        bool,
        typer.Option(
            "--augment-speed",
            help=f"Play each clip at a random speed from {SPEED_RANGE[0]:g} to {SPEED_RANGE[1]:g}.",
            rich_help_panel=_AUGMENTATION,
        ),
    ] = _DEFAULTS.augment_speed,
    augment_noise: Annotated[
        Optional[str],
        typer.Option(
            "--augment-noise",
            help="Add noise to half of the clips: [bold]synthetic[/bold] for white and pink noise, or a folder of "
            "noise recordings. [dim]default: no noise[/dim]",
            rich_help_panel=_AUGMENTATION,
        ),
    ] = _DEFAULTS.augment_noise,
    batch_seconds: Annotated[
        float,
        typer.Option(
            "--batch-seconds",
            min=0,
            help="Maximum length of a batch in seconds of audio, padding included. Lower it if memory runs out.",
            rich_help_panel=_PERFORMANCE,
        ),
    ] = _DEFAULTS.batch_s,
    accumulate: Annotated[
        int,
        typer.Option("--accumulate", min=1, help="Batches per update of the weights.", rich_help_panel=_PERFORMANCE),
    ] = _DEFAULTS.accumulate,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing", help="Use much less memory, but run slower.", rich_help_panel=_PERFORMANCE
        ),
    ] = _DEFAULTS.gradient_checkpointing,
    precision: Annotated[
        TrainingPrecision,
        typer.Option(
            "--precision",
            help="auto is mixed precision with bfloat16 on CUDA (float16 where bfloat16 is not supported), else "
            "float32.",
            rich_help_panel=_PERFORMANCE,
        ),
    ] = TrainingPrecision.auto,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
) -> None:
    """Fine-tune a model on your own recordings: the CTC model, and its attention decoder if it has one.

    A manifest is a tab-separated table whose first line names the columns, or a file of JSON lines. The columns path
    and text are required; speaker, start and end (seconds) are optional. Relative paths are relative to the folder of
    the manifest. All recordings and texts are checked before training begins.

    The best model of all evaluations is saved in --output.

    Examples:

      stream-asr finetune --train train.tsv --eval eval.tsv --output my-model --minutes 90

      stream-asr transcribe --model my-model talk.mp3

    Ctrl-C saves the run. To continue, run the same command with --resume.
    """
    from stream_asr.cli.finetune_view import FineTuneView
    from stream_asr.cli.interrupt import catch_interrupts
    from stream_asr.training.finetune import finetune

    if epochs is None and steps is None and minutes is None:
        epochs = DEFAULT_EPOCHS
    settings = FineTuneSettings(
        train=train,
        evaluation=evaluation,
        output=output,
        budget=Budget(epochs, steps, minutes),
        model=model,
        alphabet=alphabet,
        skip_bad_rows=skip_bad_rows,
        verbatim=verbatim,
        batch_s=batch_seconds,
        accumulate=accumulate,
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        mask_time=mask_time,
        mask_frequency=mask_frequency,
        augment_speed=augment_speed,
        augment_noise=augment_noise,
        train_feature_encoder=train_feature_encoder,
        freeze_layers=freeze_layers,
        gradient_checkpointing=gradient_checkpointing,
        device=device.value,
        precision=precision.value,
        threads=threads,
        seed=seed,
        evaluate_minutes=evaluate_minutes,
        checkpoint_minutes=checkpoint_minutes,
        resume=resume,
    )
    with catch_interrupts() as interrupt, FineTuneView(interrupt) as view:
        result = finetune(settings, view, lambda: bool(interrupt))
    if not result.finished:
        print(
            f"stream-asr: saved at step {result.step} in {output}; to continue, run the same command with --resume",
            file=sys.stderr,
        )
        raise KeyboardInterrupt
    assert result.after is not None, "a finished run ends with an evaluation"
    print(f"WER {result.before.wer:.2f} % before, {result.after.wer:.2f} % after")
    if result.after.wer > result.before.wer:
        print("stream-asr: the model got worse; try a lower --learning-rate", file=sys.stderr)
    print(f"stream-asr: to try the model: stream-asr transcribe --model {output} RECORDING", file=sys.stderr)
