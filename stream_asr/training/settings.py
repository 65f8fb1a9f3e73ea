"""Settings of a fine-tuning run, and all other tunable constants of training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stream_asr.errors import InputError
from stream_asr.training.schedule import Budget

FROM_TEXT = "from-text"
SYNTHETIC = "synthetic"
PRECISIONS = ("auto", "float32", "bfloat16", "float16")

DEFAULT_EPOCHS = 10.0
"""Budget of a run for which none is given."""

# Augmentation

SPEED_RANGE = (0.9, 1.1)
"""Lowest and highest playback speed."""

SNR_RANGE_DB = (5.0, 30.0)
"""Lowest and highest signal-to-noise ratio."""

NOISE_PROBABILITY = 0.5
"""Share of clips that get noise. The others stay clean, so that the model keeps its accuracy on clean speech."""

NOISE_EXCERPT_S = 60.0
"""Length of the excerpt that is used of each noise recording."""

NOISE_CACHE_FILES = 64

SPECAUGMENT_SPAN_FRAMES = 20
SPECAUGMENT_BAND_BINS = 10

# Data loading

LENGTH_JITTER = 0.1
"""Relative noise on clip lengths before sorting, so that each epoch has different batches."""

LOADER_THREADS = 2
PREFETCHED_BATCHES = 4
VALIDATION_THREADS = 4

TIME_TOLERANCE_S = 0.05
"""How far a ``start`` or ``end`` may lie beyond its recording: manifests often round times to one decimal."""

# Models with an attention decoder

CTC_WEIGHT = 0.3
"""Share of the CTC loss in the joint loss; the cross-entropy of the attention decoder has the rest. The passes share
the encoder. The decoder has the larger share, because it writes the words."""

LABEL_SMOOTHING = 0.1
"""Probability that the targets of the attention decoder spread over the whole vocabulary, against overconfidence."""

# Training loop

MAX_GRADIENT_NORM = 1.0
MAX_CONSECUTIVE_SKIPS = 10
"""Steps in a row with gradients that are not finite before the run fails."""

REPORT_INTERVAL_S = 2.0
PLAIN_REPORT_INTERVAL_S = 30.0
"""Interval of progress lines where stderr is not a terminal."""

_CHANGEABLE = ("output", "budget", "evaluate_minutes", "checkpoint_minutes", "device", "threads", "resume")
"""Settings that may differ when a run is resumed."""


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    """All settings of a fine-tuning run.

    Attributes:
        train: manifest of the training data.
        evaluation: manifest of the evaluation data.
        output: folder for the best model, the log and the checkpoint.
        budget: when the run ends.
        model: hub name or folder of the base model; None for the bundled model.
        alphabet: characters for a new output layer: path of a text file that contains them, or `FROM_TEXT`. None keeps
            the output layer of the base model.
        skip_bad_rows: skip unusable rows instead of rejecting the manifest.
        verbatim: train the attention decoder on the texts exactly as they are, without adding capitals and punctuation.
        batch_s: maximum length of a batch in seconds of audio, padding included. Also the maximum length of a clip.
        accumulate: batches per optimizer step.
        learning_rate: peak learning rate.
        warmup: share of the run in which the learning rate rises, 0 to 1.
        weight_decay: weight decay of AdamW.
        mask_time: SpecAugment: share of the time that is masked, 0 to 1; 0 disables masking.
        mask_frequency: the same for frequencies, or for features of models whose input is the waveform.
        augment_speed: play each clip at a random speed in `SPEED_RANGE`.
        augment_noise: `SYNTHETIC`, or a folder of noise recordings; None for no noise.
        train_feature_encoder: also train the convolutions over the waveform.
        freeze_layers: number of encoder layers to freeze, from the lowest. None freezes those that an attention decoder
            shares with the CTC model, so that the decoder keeps its accuracy on other speech; it freezes none without a
            decoder or with ``train_feature_encoder``.
        gradient_checkpointing: recompute activations in the backward pass: slower, but needs much less memory.
        device: auto, cpu, cuda or mps.
        precision: auto, float32, bfloat16 or float16. On CUDA, auto is mixed precision with bfloat16, or with float16
            where bfloat16 is not supported; elsewhere it is float32.
        threads: CPU threads; None for PyTorch's default.
        seed: seed of all random number generators.
        evaluate_minutes: interval of evaluations; None evaluates after each epoch.
        checkpoint_minutes: interval of checkpoints.
        resume: continue the run in ``output``.

    Raises:
        InputError: a setting is out of range.
    """

    train: Path
    evaluation: Path
    output: Path
    budget: Budget
    model: str | None = None
    alphabet: str | None = None
    skip_bad_rows: bool = False
    verbatim: bool = False
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
    freeze_layers: int | None = None
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
                raise InputError(f"{name} is {getattr(self, name):g}; it must be at least 0 and below 1")
        for name in ("batch_s", "accumulate", "learning_rate", "checkpoint_minutes"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name):g}; it must be above 0")
        if self.precision not in PRECISIONS:
            raise InputError(f"unknown precision {self.precision!r}; accepted: {', '.join(PRECISIONS)}")

    def fixed_values(self) -> dict[str, Any]:
        """Return the settings that must not change when the run is resumed, with paths as strings."""
        return {name: _plain(value) for name, value in asdict(self).items() if name not in _CHANGEABLE}


def _plain(value: Any) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else value
