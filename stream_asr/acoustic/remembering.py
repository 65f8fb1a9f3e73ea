"""Models with Moonshine's encoder in streams: each piece of audio is worked out once, whatever the left context."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stream_asr.acoustic.base import Heard, Piece
from stream_asr.acoustic.moonshine_memory import MoonshineMemory, go_on
from stream_asr.acoustic.side_by_side import SideBySide
from stream_asr.acoustic.transformers_ctc import TransformersCTC, at_least
from stream_asr.config import WindowConfig


class RememberingMoonshine(SideBySide):
    """See `RememberingModel`.

    Args:
        runner: runs whole windows.
        cores: that it may have.
    """

    window_config = WindowConfig(
        left_context_ms=4000, commit_ms=384, right_context_ms=384, preview_interval_ms=192, hold_back_ms=160
    )
    """A bargain between word errors, which the embedded model's card has for other windows, too, and captions that come
    soon and seldom change. Words that end less than the hold-back ago mostly do.

    Less to keep at a time would cost more where many streams share a processor: previews are left out then, but what is
    to be kept never is.
    """

    def __init__(self, runner: TransformersCTC, cores: int) -> None:
        super().__init__(runner, cores)
        self._runner = runner

    def fresh(self, left_samples: int) -> MoonshineMemory:
        return MoonshineMemory(left_samples // self._runner.model.encoder.stride)

    def go_on(self, pieces: Sequence[Piece]) -> list[Heard]:
        return self._each(self._hear, pieces)

    @torch.inference_mode()
    def _hear(self, piece: Piece) -> Heard:
        runner = self._runner
        samples = torch.from_numpy(at_least(piece.samples, runner.shortest_samples))
        samples = samples.to(runner.device, runner.model.dtype)
        encoded, memory = go_on(runner.model.encoder, samples, piece.kept_samples, piece.memory)
        [log_probs] = runner.log_softmax(runner.model.logits(encoded))
        return Heard(log_probs[: runner.frames(len(piece.samples))], memory)
