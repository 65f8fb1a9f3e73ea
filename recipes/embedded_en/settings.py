"""All tunable values of the recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from recipes.embedded_en.attention_masks import ChunkMaskSampler
from recipes.embedded_en.augmentation import Perturbation, StreamingWindows, Variant
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig

SEED = 20261122

# Model

VOCABULARY_SIZE = 480
"""Subword tokens, without the blank."""


def model_config() -> MoonshineCTCConfig:
    """Return the configuration of the model: Moonshine's encoder, which stays frozen, and two new layers on top.

    The new layers run at half the frame rate, because subword tokens need fewer frames than sounds.
    """
    return MoonshineCTCConfig(
        vocab_size=VOCABULARY_SIZE + 1,
        encoder_num_hidden_layers=8,
        joined_after=6,
        inputs_to_logits_ratio=768,
        language_model="lm-en",
    )


# Data

DEVELOPMENT_SPEAKERS = ("ls-1737", "ls-460")
"""Excluded from training; evaluated during training."""

DEVELOPMENT_STEP = 2
"""Only every second recording of the development speakers is evaluated, to save time."""

TEST_SPEAKERS = ("so-0048", "so-0739", "so-1336", "so-2129", "so-2621", "so-3837", "so-6912", "so-9613")
"""Excluded from training, for evaluation of the finished model."""

MIN_PAUSE_S = 0.12
"""Minimum distance between the last letter of a word and the first of the next, by CTC alignment, to cut there."""

VARIANTS = (
    Variant(),
    Variant(Perturbation(speed=(0.88, 0.97), noise_probability=0.6)),
    Variant(Perturbation(speed=(1.03, 1.12), noise_probability=0.6)),
    Variant(streaming=StreamingWindows(kept_frames=(20, 34), right_frames=(14, 20), left_frames=168)),
)
"""Variants of each recording. Synthetic speech has only the first."""

# Speech synthesis

SYNTHETIC_HOURS = 8.0
"""Synthetic speech from random sentences."""

RARE_WORD_HOURS = 10.0
"""Synthetic speech from sentences with words that are rare in the recordings and in the other synthetic speech."""

SENTENCE_WORDS = (4, 28)
"""Shortest and longest sentence."""

SYNTHESIS_SPEED = (0.85, 1.3)
SYNTHESIS_PITCH = (0.93, 1.06)
SYNTHESIS_SILENCE_S = (0.05, 0.3)
"""Silence before and after each sentence."""

SYNTHESIS_PEAK = (0.3, 0.9)

RARE_WORD_TARGET = 4
"""Desired occurrences of each word in the speech."""

RARE_WORD_MIN_TEXT_COUNT = 3
"""Words with fewer occurrences in the texts are considered names or typos."""

MAX_WORDS_PER_RARE_WORD = 12
"""Longer sentences are chosen only if they have several rare words."""

# Training


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Hyperparameters.

    Attributes:
        steps: optimizer steps.
        learning_rate: peak learning rate.
        warmup_steps: steps in which the learning rate rises.
        decay: share of the training, at its end, in which the learning rate falls to 0.
        batch_s: seconds of audio per step and process.
        min_segment_s, max_segment_s: range from which segment lengths are drawn.
        synthetic: share of the synthetic recordings that are used in each epoch, 0 to 1.
        mask_time: SpecAugment: share of the frames that is masked, 0 to 1.
        mask_frames: length of a mask.
        mask_features: SpecAugment: share of the feature dimensions that is masked, 0 to 1.
        mask_width: width of a mask.
        dropout: dropout before the output layer.
        weight_decay: weight decay of matrices.
        averaging: share of the averaged weights that is kept at each step. The averaged weights are evaluated and
            shipped.
        chunk_masks: random limits of attention.
        seed: seed of all random number generators.
    """

    steps: int
    learning_rate: float
    warmup_steps: int
    decay: float = 0.55
    batch_s: float = 40.0
    min_segment_s: float = 2.0
    max_segment_s: float = 10.0
    synthetic: float = 0.35
    mask_time: float = 0.12
    mask_frames: int = 10
    mask_features: float = 0.03
    mask_width: int = 16
    dropout: float = 0.1
    weight_decay: float = 0.03
    averaging: float = 0.998
    chunk_masks: ChunkMaskSampler = field(default_factory=lambda: ChunkMaskSampler(0.6, (10, 17), (30, 125), (6, 10)))
    seed: int = 0


TRAINING = TrainingSettings(steps=6_720, learning_rate=3e-3, warmup_steps=150)

EVALUATE_MINUTES = 10.0
CHECKPOINT_MINUTES = 5.0
REPORTS_PER_LINE = 15
"""Only every fifteenth report of the loop is printed and logged."""
