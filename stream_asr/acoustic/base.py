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

    @property
    def second_pass(self) -> SecondPassModel | None:
        """The attention decoder of the checkpoint; None if there is none, or if the model cannot feed it."""


State: TypeAlias = Any
"""What a stateful model keeps of earlier audio. Opaque outside the model, and immutable."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio that continues where a state ends.

    Attributes:
        samples: float32, shape (samples,), whole multiples of the model's ``frame_samples``.
        kept_samples: length of the part, from the first sample, that enters the next state; the rest is right context.
        state: the state before the first sample.
        preview_kept_samples: length of the part that enters the preview state: 0 for no such state, else at least
            ``kept_samples``.
    """

    samples: FloatArray
    kept_samples: int
    state: State
    preview_kept_samples: int = 0


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """The output for a `Chunk`.

    Attributes:
        log_probs: natural logarithms, float32, shape (frames, tokens), for all samples of the chunk.
        state: the state after the kept samples.
        encoded: encoder states for an attention decoder, float32, shape (encoder frames, width), for all samples of
            the chunk; None if the model has no such decoder.
        kept_encoded: how many of them belong to the kept samples.
        preview_state: the preview state, from which previews continue: the state after ``preview_kept_samples``; None
            for no such state.
        preview_kept_encoded: how many of ``encoded`` belong to these samples.
    """

    log_probs: FloatArray
    state: State
    encoded: FloatArray | None = None
    kept_encoded: int = 0
    preview_state: State = None
    preview_kept_encoded: int = 0


class StreamingEncoder(Protocol):
    """Runs an encoder and its CTC head on one chunk after another."""

    @property
    def backend(self) -> str:
        """Name of the runtime."""

    def initial_state(self, max_left_frames: int) -> State:
        """The state at the start of an utterance, for attention that reaches back at most so many encoder frames."""

    def forward(
        self, samples: FloatArray, kept_samples: int, state: State, preview_kept_samples: int = 0
    ) -> tuple[FloatArray, FloatArray, State, State]:
        """Run one chunk.

        Args:
            samples: float32, shape (samples,). The first one follows the last sample that was kept before.
            kept_samples: how many of them enter the next state: whole output frames, or more than there are samples
                if no chunk follows.
            state: the state before the first sample.
            preview_kept_samples: see `Chunk`.

        Returns:
            Logits, float32, shape (frames, tokens); encoder states for an attention decoder, float32, shape (encoder
            frames, width); the next state; and the preview state, which shares memory with the next state.
        """


@runtime_checkable
class StatefulModel(AcousticModel, Protocol):
    """A model that keeps a state between windows and therefore needs no left context.

    Its output for a chunk depends on the earlier chunks of the same utterance and on nothing else.
    """

    @property
    def window_config(self) -> WindowConfig:
        """Windows that suit the model. Their left context is how far its attention reaches back."""

    @property
    def second_pass_window_config(self) -> WindowConfig:
        """Windows that suit the model with a second pass."""

    def initial_state(self, left_samples: int) -> State:
        """The state at the start of an utterance, for attention that reaches back at most ``left_samples``."""

    def forward_chunks(self, chunks: Sequence[Chunk]) -> list[ChunkOutput]:
        """Run chunks of different utterances."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of an attention decoder.

    Attributes:
        pieces: the UTF-8 bytes of each token, spaces included; empty for special tokens. A character may be spread
            over several tokens.
        end: index of the token that ends a hypothesis.
    """

    pieces: tuple[bytes, ...]
    end: int

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens. Incomplete characters become U+FFFD."""
        return b"".join(self.pieces[token] for token in tokens).decode(errors="replace")


@dataclass(frozen=True, slots=True, eq=False)
class DecodeRequest:
    """A request to decode an utterance so far.

    Attributes:
        encoded: encoder states from the end of ``state`` on, float32, shape (encoder frames, width); None for a model
            that ``uses_audio``.
        kept_frames: how many of ``encoded``, from the first, enter the next state; the rest is right context.
        samples: the audio of the whole utterance so far, float32, shape (samples,); None unless the model
            ``uses_audio``.
        state: `DecodeOutput.state` of the previous request of this utterance; `SecondPassModel.initial_state` for the
            first one.
        prefix: tokens that the hypothesis has to begin with.
        draft: tokens that probably follow the prefix, such as those of the previous hypothesis. They change how fast
            the result is computed, not the result.
        max_tokens: largest number of tokens in the hypothesis, those of the prefix included.
    """

    encoded: FloatArray | None
    kept_frames: int
    samples: FloatArray | None
    state: State
    prefix: tuple[int, ...]
    draft: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class DecodeOutput:
    """The result of a `DecodeRequest`.

    Attributes:
        tokens: the hypothesis, prefix included, without the end token.
        log_probs: natural logarithm of the probability of each token, those of the prefix included.
        state: state after the kept frames.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    state: State


class SecondPassModel(Protocol):
    """An attention decoder that decodes utterances again while they grow.

    Its output for a request depends on this request and the earlier ones of the same utterance, and on nothing else.
    """

    @property
    def name(self) -> str:
        """The name or folder that the user gave."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens."""

    @property
    def uses_audio(self) -> bool:
        """Whether requests need ``samples`` instead of ``encoded``."""

    @property
    def max_samples(self) -> int | None:
        """Length of the longest audio that the model accepts; None for no limit."""

    @property
    def parallel_requests(self) -> int:
        """How many requests should be run in one call."""

    def initial_state(self) -> State:
        """The state at the start of an utterance."""

    def decode(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        """Decode at least one request greedily. Requests of the same utterance do not depend on each other."""
