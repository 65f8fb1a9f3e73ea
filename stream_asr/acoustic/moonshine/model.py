"""Models with Moonshine's encoder in streams: each piece of audio is worked out once, whatever the left context."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stream_asr.acoustic.base import Heard, Hearer, Memory, Piece
from stream_asr.acoustic.moonshine.streaming import MoonshineMemory, go_on
from stream_asr.acoustic.one_per_core import SideBySide
from stream_asr.acoustic.transformers_ctc import TransformersCTC, at_least
from stream_asr.array_types import FloatArray
from stream_asr.config import WindowConfig


class TorchHearer:
    """See `Hearer`.

    Args:
        runner: has the model, in PyTorch.
    """

    backend = "torch"

    def __init__(self, runner: TransformersCTC) -> None:
        self._runner = runner

    def fresh(self, reach: int) -> MoonshineMemory:
        return MoonshineMemory(reach)

    @torch.inference_mode()
    def hear(
        self, samples: FloatArray, kept_samples: int, memory: MoonshineMemory
    ) -> tuple[FloatArray, MoonshineMemory]:
        model = self._runner.model
        waveform = torch.from_numpy(samples).to(self._runner.device, model.dtype)
        frames, memory = go_on(model.encoder, waveform, kept_samples, memory)
        return model.ctc_head(frames[0]).float().cpu().numpy(), memory


class RememberingMoonshine(SideBySide):
    """See `RememberingModel`.

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

    def __init__(self, runner: TransformersCTC, cores: int, hearer: Hearer | None = None) -> None:
        super().__init__(runner, cores)
        self._runner = runner
        self._hearer: Hearer = hearer or TorchHearer(runner)

    @property
    def backend(self) -> str:
        """What runs the model."""
        return self._hearer.backend

    def fresh(self, left_samples: int) -> Memory:
        return self._hearer.fresh(left_samples // self._runner.model.encoder.stride)

    def go_on(self, pieces: Sequence[Piece]) -> list[Heard]:
        return self._each(self._hear, pieces)

    def _alone(self, window: FloatArray) -> FloatArray:
        """A window is a piece with nothing before it."""
        return self._hear(Piece(window, 0, self._hearer.fresh(0))).log_probs

    def _hear(self, piece: Piece) -> Heard:
        runner = self._runner
        samples = at_least(piece.samples, runner.shortest_samples)
        logits, memory = self._hearer.hear(samples, piece.kept_samples, piece.memory)
        return Heard(runner.log_softmax(torch.from_numpy(logits))[: runner.frames(len(piece.samples))], memory)
