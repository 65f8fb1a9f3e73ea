"""Every setting of a fine-tuning run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stream_asr.errors import InputError
from stream_asr.training.schedule import Budget

FROM_TEXT = "from-text"
SYNTHETIC = "synthetic"
PRECISIONS = ("auto", "float32", "bfloat16", "float16")

_MAY_CHANGE = ("output", "budget", "evaluate_minutes", "checkpoint_minutes", "device", "threads", "resume")
"""What a resumed run may have different from before."""


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    """What is learnt from what, and how.

    Attributes:
        train: manifest to learn from.
        evaluation: manifest to measure with.
        output: folder for the best model, the log and the checkpoint.
        budget: where the run ends.
        model: hub name or folder of the model to start from; None for the embedded one.
        alphabet: characters for a new output layer: the path of a text file that holds them, or `FROM_TEXT`; None
            keeps the model's own.
        skip_bad_rows: leave out rows that cannot be used, in place of refusing the manifest.
        batch_s: longest batch in seconds of audio, padding included, and so the longest clip.
        accumulate: batches for each update of the weights.
        learning_rate: at its highest.
        warmup: part of the run in which the learning rate rises.
        weight_decay: of AdamW.
        mask_time: SpecAugment, part of the time that is hidden, 0 to 1; 0 for none.
        mask_frequency: the same of the frequencies, or of the features where the model takes samples.
        augment_speed: play each clip at 0.9 to 1.1 times its speed.
        augment_noise: `SYNTHETIC`, or a folder of recordings; None for none.
        train_feature_encoder: change the convolutions over the waveform as well.
        freeze_layers: lowest layers of the encoder to keep as they are.
        gradient_checkpointing: slower, in much less memory.
        device: auto, cpu, cuda or mps.
        precision: auto (on CUDA bfloat16 or else float16, mixed), float32, bfloat16 or float16.
        threads: for the processor; None for PyTorch's choice.
        seed: of everything that is left to chance.
        evaluate_minutes: from one evaluation to the next; None evaluates after each epoch.
        checkpoint_minutes: from one checkpoint to the next.
        resume: go on with the run in ``output``.
    """

    train: Path
    evaluation: Path
    output: Path
    budget: Budget
    model: str | None = None
    alphabet: str | None = None
    skip_bad_rows: bool = False
    batch_s: float = 60.0
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    mask_time: float = 0.05
    mask_frequency: float = 0.05
    augment_speed: bool = False
    augment_noise: str | None = None
    train_feature_encoder: bool = False
    freeze_layers: int = 0
    gradient_checkpointing: bool = False
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    seed: int = 0
    evaluate_minutes: float | None = None
    checkpoint_minutes: float = 5.0
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("mask_time", "mask_frequency"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name):g}; 0 to below 1 is accepted")
        for name in ("batch_s", "accumulate", "learning_rate", "checkpoint_minutes"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name):g}; it must be above 0")
        if self.precision not in PRECISIONS:
            raise InputError(f"unknown precision {self.precision!r}; accepted are {', '.join(PRECISIONS)}")

    def binding(self) -> dict[str, Any]:
        """The settings that must be the same when the run is resumed, as text and numbers."""
        values = asdict(self)
        return {name: _plain(value) for name, value in values.items() if name not in _MAY_CHANGE}


def _plain(value: Any) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else value
