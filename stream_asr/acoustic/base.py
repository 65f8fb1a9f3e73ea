"""Interfaces of acoustic models. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.config import WindowConfig


class AcousticModel(Protocol):
    """A CTC model. Frame k of a window covers samples from ``k * frame_samples`` on."""

    @property
    def name(self) -> str:
        """The name or folder that the user gave."""

    @property
    def frame_samples(self) -> int:
        """Stride of the output frames, in samples."""

    @property
    def max_window_samples(self) -> int | None:
        """Length of the longest window that the model accepts; None for no limit."""

    @property
    def labels(self) -> Labels:
        """The output alphabet."""

    @property
    def pads(self) -> bool:
        """Whether windows of different lengths may share a batch."""

    @property
    def batches_commit_windows(self) -> bool:
        """Whether windows that decide final text may share a batch.

        False where the other windows of a batch change the rounding and single windows cost little, as on a CPU.
        True on a GPU, at the price that two tokens of equal probability may come out either way.
        """

    @property
    def parallel_windows(self) -> int | None:
        """How many windows run in parallel, each by itself; None for a model that runs them as one batch."""

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        """Run one batch.

        Args:
            windows: float32, shape (samples,), whole multiples of ``frame_samples``; of equal length unless the
                model `pads`.

        Returns:
            For each window its natural log-probabilities, float32, shape (frames, tokens).
        """


class Checkpoint(Protocol):
    """A checkpoint in memory, from which a model is built."""

    @property
    def name(self) -> str:
        """The name or folder that the user gave."""

    @property
    def folder(self) -> Path | None:
        """The local folder of the checkpoint; None for a model from the Hugging Face hub."""

    @property
    def model(self) -> Any:
        """An ``AutoModelForCTC``, or a module that acts like one."""

    @property
    def feature_extractor(self) -> Any:
        """A Transformers feature extractor, or an object that acts like one."""

    @property
    def labels(self) -> Labels:
        """The output alphabet."""


class LoadedModel(AcousticModel, Protocol):
    """What loading a checkpoint returns."""

    @property
    def language_model(self) -> str | None:
        """Name of the bundled language model that the checkpoint was made for; None for none."""


State: TypeAlias = Any
"""What a stateful model keeps of earlier audio. Opaque outside the model, and immutable."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio that continues where a state ends.

    Attributes:
        samples: float32, shape (samples,), whole multiples of the model's ``frame_samples``.
        kept_samples: length of the part, from the first sample, that enters the next state; the rest is right context.
        state: the state before the first sample.
    """

    samples: FloatArray
    kept_samples: int
    state: State


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """The output for a `Chunk`.

    Attributes:
        log_probs: natural logarithms, float32, shape (frames, tokens), for all samples of the chunk.
        state: the state after the kept samples.
    """

    log_probs: FloatArray
    state: State


class StreamingEncoder(Protocol):
    """Runs an encoder and its CTC head on one chunk after another."""

    @property
    def backend(self) -> str:
        """Name of the runtime."""

    def initial_state(self, max_left_frames: int) -> State:
        """The state at the start of an utterance, for attention that reaches back at most so many encoder frames."""

    def forward(self, samples: FloatArray, kept_samples: int, state: State) -> tuple[FloatArray, State]:
        """Run one chunk.

        Args:
            samples: float32, shape (samples,). The first one follows the last sample that was kept before.
            kept_samples: how many of them enter the next state: whole output frames, or more than there are samples
                if no chunk follows.
            state: the state before the first sample.

        Returns:
            Logits, float32, shape (frames, tokens), and the next state.
        """


@runtime_checkable
class StatefulModel(AcousticModel, Protocol):
    """A model that keeps a state between windows and therefore needs no left context.

    Its output for a chunk depends on the earlier chunks of the same utterance and on nothing else.
    """

    @property
    def window_config(self) -> WindowConfig:
        """Windows that suit the model. Their left context is how far its attention reaches back."""

    def initial_state(self, left_samples: int) -> State:
        """The state at the start of an utterance, for attention that reaches back at most ``left_samples``."""

    def forward_chunks(self, chunks: Sequence[Chunk]) -> list[ChunkOutput]:
        """Run chunks of different utterances."""
