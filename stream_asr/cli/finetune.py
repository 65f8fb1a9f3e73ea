"""The command that adapts a model to a user's recordings."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from stream_asr.cli.options import Device, DeviceOption, ModelName, Threads

_DATA, _LENGTH, _LEARNING, _VARIETY, _SPEED = "Data", "Length of the run", "Learning", "Variety", "Speed and memory"
_DEFAULT_EPOCHS = 10.0


class TrainingPrecision(str, Enum):
    auto, float32, bfloat16, float16 = "auto", "float32", "bfloat16", "float16"


def finetune(
    train: Annotated[
        Path, typer.Option("--train", help="Manifest to learn from.", show_default=False, rich_help_panel=_DATA)
    ],
    evaluation: Annotated[
        Path,
        typer.Option(
            "--eval",
            help="Manifest to measure with: other recordings, best of other people.",
            show_default=False,
            rich_help_panel=_DATA,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the model, the log and checkpoints.",
            show_default=False,
            rich_help_panel=_DATA,
        ),
    ],
    model: ModelName = None,
    alphabet: Annotated[
        Optional[str],
        typer.Option(
            "--alphabet",
            help="A new output layer, for another language say: a text file that holds its characters, or "
            "[bold]from-text[/bold] for the letters and digits of the manifests, in lower case.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used.", rich_help_panel=_DATA)
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output.", rich_help_panel=_LENGTH)
    ] = False,
    epochs: Annotated[
        Optional[float],
        typer.Option(
            "--epochs",
            min=0,
            help=f"Passes over the recordings. [dim]default without --steps and --minutes: {_DEFAULT_EPOCHS:g}[/dim]",
            rich_help_panel=_LENGTH,
        ),
    ] = None,
    steps: Annotated[
        Optional[int], typer.Option("--steps", min=1, help="Updates of the weights.", rich_help_panel=_LENGTH)
    ] = None,
    minutes: Annotated[
        Optional[float], typer.Option("--minutes", min=0, help="Whatever fits into them.", rich_help_panel=_LENGTH)
    ] = None,
    evaluate_minutes: Annotated[
        Optional[float],
        typer.Option(
            "--eval-minutes",
            min=0,
            help="From one evaluation to the next. [dim]default: after each epoch[/dim]",
            rich_help_panel=_LENGTH,
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float,
        typer.Option(
            "--checkpoint-minutes", min=0, help="From one checkpoint for --resume to the next.", rich_help_panel=_LENGTH
        ),
    ] = 5.0,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0, help="At its highest.", rich_help_panel=_LEARNING)
    ] = 1e-4,
    warmup: Annotated[
        float,
        typer.Option(
            "--warmup",
            min=0,
            max=1,
            help="Part of the run in which the rate rises; then it falls to 0.",
            rich_help_panel=_LEARNING,
        ),
    ] = 0.1,
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", min=0, help="Of AdamW.", rich_help_panel=_LEARNING)
    ] = 0.01,
    freeze_layers: Annotated[
        int,
        typer.Option(
            "--freeze-layers",
            min=0,
            help="Lowest layers of the encoder that stay as they are.",
            rich_help_panel=_LEARNING,
        ),
    ] = 0,
    train_feature_encoder: Annotated[
        bool,
        typer.Option(
            "--train-feature-encoder", help="Change the convolutions over the waveform too.", rich_help_panel=_LEARNING
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all chance.", rich_help_panel=_LEARNING)] = 0,
    mask_time: Annotated[
        float,
        typer.Option(
            "--mask-time",
            min=0,
            max=1,
            help="SpecAugment: part of the time hidden, 0 for none.",
            rich_help_panel=_VARIETY,
        ),
    ] = 0.05,
    mask_frequency: Annotated[
        float,
        typer.Option(
            "--mask-frequency",
            min=0,
            max=1,
            help="SpecAugment: part of the frequencies hidden, 0 for none.",
            rich_help_panel=_VARIETY,
        ),
    ] = 0.05,
    augment_speed: Annotated[
        bool,
        typer.Option("--augment-speed", help="Each clip at 0.9 to 1.1 times its speed.", rich_help_panel=_VARIETY),
    ] = False,
    augment_noise: Annotated[
        Optional[str],
        typer.Option(
            "--augment-noise",
            help="Noise under half of the clips: [bold]synthetic[/bold], or a folder of recordings of noise.",
            rich_help_panel=_VARIETY,
        ),
    ] = None,
    batch_seconds: Annotated[
        float,
        typer.Option(
            "--batch-seconds", min=0, help="Audio in a batch, at most, padding included.", rich_help_panel=_SPEED
        ),
    ] = 60.0,
    accumulate: Annotated[
        int, typer.Option("--accumulate", min=1, help="Batches for each update.", rich_help_panel=_SPEED)
    ] = 1,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Slower, in much less memory.", rich_help_panel=_SPEED)
    ] = False,
    precision: Annotated[
        TrainingPrecision,
        typer.Option("--precision", help="auto is mixed bfloat16 on CUDA, else float32.", rich_help_panel=_SPEED),
    ] = TrainingPrecision.auto,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
) -> None:
    """Adapt a CTC model to your own recordings.

    A manifest is a table with tabs whose first line names its columns, or JSON lines: path and text, and if you
    like speaker, start and end (seconds). Paths are relative to it. All rows are checked before the work begins.

    Examples:

      stream-asr finetune --train train.tsv --eval eval.tsv --output my-model --minutes 90

      stream-asr transcribe --model my-model talk.mp3

    Ctrl-C stores the run; the same command with --resume goes on with it.
    """
    from stream_asr.cli.finetune_view import FineTuneView
    from stream_asr.cli.interrupt import interruptible
    from stream_asr.training.finetune import finetune
    from stream_asr.training.schedule import Budget
    from stream_asr.training.settings import FineTuneSettings

    if epochs is None and steps is None and minutes is None:
        epochs = _DEFAULT_EPOCHS
    settings = FineTuneSettings(
        train=train,
        evaluation=evaluation,
        output=output,
        budget=Budget(epochs, steps, minutes),
        model=model,
        alphabet=alphabet,
        skip_bad_rows=skip_bad_rows,
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
    with interruptible() as interrupt, FineTuneView(interrupt) as view:
        outcome = finetune(settings, view, lambda: bool(interrupt))
    if not outcome.finished:
        print(
            f"stream-asr: stored at step {outcome.step} in {output}; the same command with --resume goes on",
            file=sys.stderr,
        )
        raise KeyboardInterrupt
    assert outcome.after is not None, "a run that finished ended in an evaluation"
    print(f"WER {outcome.before.wer:.2f} % before, {outcome.after.wer:.2f} % after")
    if outcome.after.wer > outcome.before.wer:
        print("stream-asr: the model was better before: a lower --learning-rate may help", file=sys.stderr)
    print(f"stream-asr: try it: stream-asr transcribe --model {output} RECORDING", file=sys.stderr)
