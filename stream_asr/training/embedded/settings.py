"""Everything that is chosen for the embedded model, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stream_asr.acoustic.moonshine_ctc import MoonshineCTCConfig
from stream_asr.training.embedded.chunks import ChunkLimits
from stream_asr.training.embedded.disturbance import Disturbance

PIECES = 512


def letters_model() -> MoonshineCTCConfig:
    """The model that spells, which teaches the encoder what is written for what it hears."""
    return MoonshineCTCConfig(vocab_size=29)


def pieces_model() -> MoonshineCTCConfig:
    """The model that ships. Pieces of words need fewer frames than letters, so its upper layers have half as many."""
    return MoonshineCTCConfig(vocab_size=PIECES + 1, joined_after=2, inputs_to_logits_ratio=768, language_model="lm-en")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Of one stage of the training.

    Attributes:
        steps: updates of the weights.
        learning_rate: at its highest.
        pieces: the model that ships, not the one that spells.
        head_only: nothing but the output layer learns: the gradients of a random one would spoil the encoder.
        from_states: the layers before the joining are frozen, and what they make of the recordings is read from the
            disk.
        muon: moves the matrices; else AdamW does.
        warmup_steps: over which the rate rises.
        decay: last part of the stage, over which the rate falls to nothing.
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
    pieces: bool = False
    head_only: bool = False
    from_states: bool = False
    muon: bool = False
    warmup_steps: int = 200
    decay: float = 0.3
    batch_s: float = 14.0
    shortest_s: float = 2.0
    longest_s: float = 10.0
    synthetic: float = 0.3
    mask_time: float = 0.05
    mask_frames: int = 10
    mask_features: float = 0.0
    mask_width: int = 16
    dropout: float = 0.0
    disturbance: Disturbance = field(default_factory=Disturbance)
    weight_decay: float = 0.01
    averaging: float = 0.999
    chunks: ChunkLimits = field(default_factory=lambda: ChunkLimits(0.4, (17, 84), (42, 250)))
    seed: int = 0

    def model(self) -> MoonshineCTCConfig:
        return pieces_model() if self.pieces else letters_model()


SEED = 20261122

DEVELOPMENT_SPEAKERS = ("ls-1737", "ls-460")
"""Left out of the training, to measure on while it runs."""

TEST_SPEAKERS = ("so-0048", "so-0739", "so-1336", "so-2129", "so-2621", "so-3837", "so-6912", "so-9613")
"""Left out as well, to measure on afterwards."""

SYNTHETIC_HOURS, RARE_HOURS = 8.0, 10.0
"""Of sentences as they come, and of those with words that neither recordings nor these have often."""

STATE_COPIES: tuple[Disturbance | None, ...] = (
    None,
    Disturbance(speed=(0.88, 0.97), noisy=0.6),
    Disturbance(speed=(1.03, 1.12), noisy=0.6),
)
"""Of each recording; synthetic ones have the first only."""

_PIECES = TrainingSettings(
    steps=3_600,
    learning_rate=1e-3,
    pieces=True,
    from_states=True,
    muon=True,
    warmup_steps=300,
    decay=0.0,
    batch_s=32.0,
    synthetic=0.5,
    weight_decay=0.02,
    averaging=0.998,
    chunks=ChunkLimits(0.15, (8, 42), (21, 125)),
)

STAGES = {
    "head": TrainingSettings(steps=80, learning_rate=2e-3, head_only=True, warmup_steps=10, averaging=0.9),
    "letters": TrainingSettings(steps=3_300, learning_rate=5e-4, warmup_steps=300, decay=0.0),
    "anneal": TrainingSettings(
        steps=2_600, learning_rate=5e-4, warmup_steps=0, decay=1.0, synthetic=0.1, averaging=0.99
    ),
    "pieces": _PIECES,
    "masked": replace(
        _PIECES,
        steps=3_700,
        warmup_steps=0,
        decay=0.8,
        synthetic=1.0,
        mask_time=0.25,
        mask_features=0.1,
        dropout=0.1,
        weight_decay=0.05,
    ),
}
"""In order; each starts from the best weights of the one before."""
