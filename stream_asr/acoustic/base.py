"""What the engine needs of an acoustic model; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.config import WindowConfig


class AcousticModel(Protocol):
    """A CTC model whose frame k covers samples from ``k * frame_samples`` of a window on."""

    @property
    def name(self) -> str:
        """How the user called it."""

    @property
    def frame_samples(self) -> int:
        """Samples from one output frame to the next."""

    @property
    def longest_samples(self) -> int | None:
        """The longest window it takes; None for any."""

    @property
    def labels(self) -> Labels:
        """What its outputs spell."""

    @property
    def pads(self) -> bool:
        """Windows of different lengths may share a batch."""

    @property
    def batches_kept_windows(self) -> bool:
        """Windows that decide the text that stays may share a batch.

        False where the company of other windows changes the rounding and running them one by one costs
        little, as on a processor. True on a GPU, at the price that two letters of equal probability may
        come out either way.
        """

    @property
    def most_windows(self) -> int | None:
        """Windows that gain by being run at the same time, each by itself; None where they become one batch."""

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        """Run one batch.

        Args:
            windows: float32, shape (samples,), whole multiples of ``frame_samples``; of one length unless
                the model `pads`.

        Returns:
            For each window its natural log-probabilities, float32, shape (frames, vocabulary).
        """


State: TypeAlias = Any
"""What a model keeps of the audio it has heard; only the model itself looks into it, and never changes it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio that goes on where a memory ends.

    Attributes:
        samples: float32, shape (samples,), whole multiples of the model's ``frame_samples``.
        kept_samples: of these from the first; the others are right context.
        memory: of the audio before.
    """

    samples: FloatArray
    kept_samples: int
    state: State


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """What a model makes of a `Chunk`.

    Attributes:
        log_probs: natural, float32, shape (frames, outputs), of all of its samples.
        memory: of the audio before and what was kept of the piece.
    """

    log_probs: FloatArray
    state: State


class StreamingEncoder(Protocol):
    """An encoder and what is above it, as they hear one piece of audio after another."""

    @property
    def backend(self) -> str:
        """The name of what runs it."""

    def initial_state(self, reach: int) -> State:
        """A memory of nothing, which never reaches back any further than so many frames of the encoder."""

    def forward(self, samples: FloatArray, kept_samples: int, state: State) -> tuple[FloatArray, State]:
        """Hear a piece.

        Args:
            samples: float32, shape (samples,); the first follows the last one kept of the piece before.
            kept_samples: of them, from the first, which stay in the memory; whole frames of the output, or more than
                there are if nothing follows.

        Returns:
            Logits, float32, shape (frames, outputs), and the memory with the kept part of the piece.
        """


@runtime_checkable
class StatefulModel(AcousticModel, Protocol):
    """A model that needs no left context: it keeps what it made of the audio before.

    What it makes of a piece depends on the pieces before it and on no others.
    """

    @property
    def window_config(self) -> WindowConfig:
        """The windows that suit it; their left context is how far back it looks."""

    def initial_state(self, left_samples: int) -> State:
        """A memory of nothing, which never reaches back any further than that."""

    def forward_chunks(self, pieces: Sequence[Chunk]) -> list[ChunkOutput]:
        """Hear pieces of different utterances."""
