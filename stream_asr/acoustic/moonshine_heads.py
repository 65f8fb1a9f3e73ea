"""From the frames of Moonshine's encoder to what is written, and to the phones that are heard."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic.moonshine import Encoded

PHONE_FRAMES = 2
"""Frames of the lower layers in one of the output."""


class PhoneHead(nn.Module):
    """Tells phones from what the lower layers of an encoder make of audio, each of their frames by itself.

    Those layers have heard many voices, and phones are few: so it needs little speech to learn them from, and mistakes
    other words than the layers above it, which write.

    Args:
        width: of a frame.
        inner_width: of the layer between.
    """

    def __init__(self, width: int, inner_width: int, phones: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width, bias=False)
        self.fc1 = nn.Linear(width, inner_width)
        self.fc2 = nn.Linear(inner_width, 1 + phones)

    def forward(self, pairs: Tensor) -> Tensor:
        """``(batch, frames, 2 * width)`` to logits of no phone and of each of them, for the first frame of each pair
        and for the second: ``(batch, frames, 2 * (1 + phones))``."""
        frames = pairs.unflatten(-1, (PHONE_FRAMES, -1))
        logits: Tensor = self.fc2(F.gelu(self.fc1(self.layer_norm(frames))))
        return logits.flatten(-2)


def phone_head(config: Any) -> PhoneHead | None:
    """That of a model with phones; its configuration has the fields of `MoonshineCTCConfig`."""
    return PhoneHead(config.hidden_size, config.phone_width, len(config.phones)) if config.phones else None


def logits(encoded: Encoded, ctc_head: nn.Linear, phones: PhoneHead | None) -> Tensor:
    """Shape ``(batch, frames, outputs)``: those of what is written, then the phones'."""
    written: Tensor = ctc_head(encoded.frames)
    if phones is None or encoded.pairs is None:
        return written
    return torch.cat((written, phones(encoded.pairs)), dim=-1)
