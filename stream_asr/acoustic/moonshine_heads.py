"""From the frames of Moonshine's encoder to what is written, and to the phones that are heard."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stream_asr.acoustic.moonshine import Encoded


class PhoneHead(nn.Module):
    """Logits of the CTC blank and of each phone."""

    def __init__(self, width: int, phones: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width, bias=False)
        self.linear = nn.Linear(width, 1 + phones)

    def forward(self, sounds: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.layer_norm(sounds))
        return logits


def phone_head(config: Any) -> PhoneHead | None:
    """That of a model with phones; its configuration has the fields of `MoonshineCTCConfig`."""
    return PhoneHead(config.hidden_size, len(config.phones)) if config.phones else None


def logits(encoded: Encoded, ctc_head: nn.Linear, phones: PhoneHead | None) -> Tensor:
    """Shape ``(batch, frames, outputs)``: those of what is written, then the phones'."""
    written: Tensor = ctc_head(encoded.frames)
    if phones is None or encoded.sounds is None:
        return written
    return torch.cat((written, phones(encoded.sounds)), dim=-1)
