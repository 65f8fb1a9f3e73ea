"""Everything that is chosen for the embedded model, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from recipes.embedded_en.chunks import ChunkLimits
from recipes.embedded_en.copies import Copy, Streamed
from recipes.embedded_en.disturbance import Disturbance
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig

PIECES = 480


def embedded_model() -> MoonshineCTCConfig:
    """All of Moonshine's encoder, and two layers of our own on top.

    Its layers stay as they are: they have heard more voices than any training here has to offer. Pieces of words need
    fewer frames than sounds, so the layers on top have half as many.
    """
    return MoonshineCTCConfig(
        vocab_size=PIECES + 1,
        encoder_num_hidden_layers=8,
        joined_after=6,
        inputs_to_logits_ratio=768,
        language_model="lm-en",
    )


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """
    Attributes:
        steps: updates of the weights.
        learning_rate: at its highest.
        warmup_steps: over which the rate rises.
        decay: last part of the training, over which the rate falls to nothing.
        batch_s: seconds of audio in each process's part of a step.
        shortest_s, longest_s: between which the lengths of segments are drawn.
        synthetic: part of the synthetic recordings that an epoch sees, 0 to 1.
        mask_time, mask_frames: part of the frames that are hidden, and how many at a time.
        mask_features, mask_width: part of the numbers of all frames that are hidden, and how many neighbours at a time.
        dropout: before the output layer.
        averaging: of the weights: the part of the average that stays at each step. The average is what is evaluated,
            and shipped.
    """

    steps: int
    learning_rate: float
    warmup_steps: int
    decay: float = 0.55
    batch_s: float = 40.0
    shortest_s: float = 2.0
    longest_s: float = 10.0
    synthetic: float = 0.35
    mask_time: float = 0.12
    mask_frames: int = 10
    mask_features: float = 0.03
    mask_width: int = 16
    dropout: float = 0.1
    weight_decay: float = 0.03
    averaging: float = 0.998
    chunks: ChunkLimits = field(default_factory=lambda: ChunkLimits(0.6, (10, 17), (30, 125), (6, 10)))
    seed: int = 0


TRAINING = TrainingSettings(steps=6_720, learning_rate=3e-3, warmup_steps=150)


SEED = 20261122

DEVELOPMENT_SPEAKERS = ("ls-1737", "ls-460")
"""Left out of the training, to measure on while it runs."""

TEST_SPEAKERS = ("so-0048", "so-0739", "so-1336", "so-2129", "so-2621", "so-3837", "so-6912", "so-9613")
"""Left out as well, to measure on afterwards."""

SYNTHETIC_HOURS, RARE_HOURS = 8.0, 10.0
"""Of sentences as they come, and of those with words that neither recordings nor these have often."""

COPIES = (
    Copy(),
    Copy(Disturbance(speed=(0.88, 0.97), noisy=0.6)),
    Copy(Disturbance(speed=(1.03, 1.12), noisy=0.6)),
    Copy(streamed=Streamed(kept_steps=(20, 34), right_steps=(14, 20), left_steps=168)),
)
"""Of each recording; synthetic ones have the first only."""
