"""Everything that is chosen for the next embedded model, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_asr.ctc import Labels
from stream_asr.training.embedded.chunks import ChunkLimits

LABELS = Labels(("", " ", "'", *"abcdefghijklmnopqrstuvwxyz"), blank=0)
"""What the model writes."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Of one stage of the training.

    Attributes:
        steps: updates of the weights.
        learning_rate: at its highest.
        head_only: nothing but the output layer learns: the gradients of a random one would spoil the encoder.
        warmup_steps: over which the rate rises.
        decay: last part of the stage, over which the rate falls to nothing.
        batch_s: seconds of audio in each process's part of a step.
        shortest_s, longest_s: between which the lengths of segments are drawn.
        synthetic: part of the synthetic recordings that an epoch sees, 0 to 1.
        development_speakers: left out of the training, to measure on while it runs.
        test_speakers: left out as well, to measure on afterwards.
        averaging: of the weights: the part of the average that stays at each step. The average is what is evaluated,
            and shipped.
    """

    steps: int
    learning_rate: float
    head_only: bool = False
    warmup_steps: int = 200
    decay: float = 0.3
    batch_s: float = 14.0
    shortest_s: float = 2.0
    longest_s: float = 10.0
    synthetic: float = 0.3
    mask_time: float = 0.05
    mask_frames: int = 10
    slowest: float = 0.9
    fastest: float = 1.1
    noise_snr_db: tuple[float, float] = (5.0, 40.0)
    noisy: float = 0.5
    gain_db: tuple[float, float] = (-12.0, 6.0)
    weight_decay: float = 0.01
    averaging: float = 0.999
    chunks: ChunkLimits = field(default_factory=lambda: ChunkLimits(0.4, (17, 84), (42, 250)))
    development_speakers: tuple[str, ...] = ("ls-1737", "ls-460")
    test_speakers: tuple[str, ...] = (
        "so-0048",
        "so-0739",
        "so-1336",
        "so-2129",
        "so-2621",
        "so-3837",
        "so-6912",
        "so-9613",
    )
    seed: int = 0


SEED = 20261122
SYNTHETIC_HOURS = 8.0

STAGES = {
    "head": TrainingSettings(steps=80, learning_rate=2e-3, head_only=True, warmup_steps=10, averaging=0.9),
    "main": TrainingSettings(steps=20_000, learning_rate=5e-4, warmup_steps=300, decay=0.0),
    "anneal": TrainingSettings(
        steps=1_200, learning_rate=5e-4, warmup_steps=0, decay=1.0, synthetic=0.1, averaging=0.99
    ),
}
"""In order; each starts from the best weights of the one before."""
