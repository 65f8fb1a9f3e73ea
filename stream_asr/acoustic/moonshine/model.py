"""Models with Moonshine's encoder in streams: each piece of audio is worked out once, whatever the left context."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stream_asr.acoustic.base import Chunk, ChunkOutput, State, StreamingEncoder
from stream_asr.acoustic.moonshine.streaming import EncoderState, forward_chunk
from stream_asr.acoustic.one_per_core import OnePerCore
from stream_asr.acoustic.transformers_ctc import TransformersCTC, at_least
from stream_asr.array_types import FloatArray
from stream_asr.config import WindowConfig


class TorchEncoder:
    """See `StreamingEncoder`.

    Args:
        runner: has the model, in PyTorch.
    """

    backend = "torch"

    def __init__(self, runner: TransformersCTC) -> None:
        self._runner = runner

    def initial_state(self, reach: int) -> EncoderState:
        return EncoderState(reach)

    @torch.inference_mode()
    def forward(self, samples: FloatArray, kept_samples: int, state: EncoderState) -> tuple[FloatArray, EncoderState]:
        model = self._runner.model
        waveform = torch.from_numpy(samples).to(self._runner.device, model.dtype)
        frames, state = forward_chunk(model.encoder, waveform, kept_samples, state)
        return model.ctc_head(frames[0]).float().cpu().numpy(), state


class StatefulMoonshine(OnePerCore):
    """See `StatefulModel`.

    Args:
        runner: has the model, and knows its frames.
        cores: that it may have.
        hearer: that hears; the runner's own in PyTorch unless given.
    """

    window_config = WindowConfig(
        left_context_ms=4000, commit_ms=384, right_context_ms=384, preview_interval_ms=192, hold_back_ms=160
    )
    """A bargain between word errors, which the embedded model's card has for other windows, too, and captions that come
    soon and seldom change. Words that end less than the hold-back ago mostly do.

    Less to keep at a time would cost more where many streams share a processor: previews are left out then, but what is
    to be kept never is.
    """

    def __init__(self, runner: TransformersCTC, cores: int, hearer: StreamingEncoder | None = None) -> None:
        super().__init__(runner, cores)
        self._runner = runner
        self._hearer: StreamingEncoder = hearer or TorchEncoder(runner)

    @property
    def backend(self) -> str:
        """What runs the model."""
        return self._hearer.backend

    def initial_state(self, left_samples: int) -> State:
        return self._hearer.initial_state(left_samples // self._runner.model.encoder.stride)

    def forward_chunks(self, pieces: Sequence[Chunk]) -> list[ChunkOutput]:
        return self._each(self._hear, pieces)

    def _alone(self, window: FloatArray) -> FloatArray:
        """A window is a piece with nothing before it."""
        return self._hear(Chunk(window, 0, self._hearer.initial_state(0))).log_probs

    def _hear(self, piece: Chunk) -> ChunkOutput:
        runner = self._runner
        samples = at_least(piece.samples, runner.shortest_samples)
        logits, state = self._hearer.forward(samples, piece.kept_samples, piece.state)
        return ChunkOutput(runner.log_softmax(torch.from_numpy(logits))[: runner.frames(len(piece.samples))], state)
