"""Moonshine's audio encoder: waveform in, no positions but relative ones.

Its upper layers may work at half the rate of its lower ones: pieces of words need no more frames, and half of them
cost half. Parameter names follow Transformers' ``MoonshineEncoder``, so its checkpoints load without renaming.

Source: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic.moonshine.layers import EncoderSizes, Layer, Past, Strided, rotation_of


def encoder_sizes(config: Any) -> EncoderSizes:
    """From a configuration whose fields are those of `MoonshineCTCConfig`."""
    return EncoderSizes(
        width=config.hidden_size,
        inner_width=config.intermediate_size,
        layers=config.encoder_num_hidden_layers,
        heads=config.encoder_num_attention_heads,
        rotary_dim=config.rotary_dim,
        rope_theta=config.rope_theta,
        joined_after=config.joined_after,
    )


def clip_lengths(attention_mask: Tensor | None) -> Tensor | None:
    """Samples of each clip that are no padding, int64, shape (batch,); None where there is no padding at all.

    A single window is seldom padded, and attention without a mask is the faster. On a device, to ask would be to wait
    for it.
    """
    if attention_mask is None or (attention_mask.device.type == "cpu" and bool(attention_mask.all())):
        return None
    return attention_mask.sum(-1)


class Encoder(nn.Module):
    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.conv1 = nn.Conv1d(1, width, kernel_size=127, stride=64, bias=False)
        self.conv2 = Strided(width, 2 * width, kernel_size=7, stride=3)
        self.conv3 = Strided(2 * width, width, kernel_size=3, stride=2)
        self.groupnorm = nn.GroupNorm(num_groups=1, num_channels=width, eps=1e-5)
        self.layers = nn.ModuleList([Layer(sizes) for _ in range(sizes.layers)])
        self.joined_after = sizes.joined_after
        self.join = None if sizes.joined_after is None else nn.Linear(2 * width, width)
        self.layer_norm: nn.Module = nn.LayerNorm(width, bias=False)
        # Transformers sets both, where a model is told to compute its layers again rather than to remember them.
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., tuple[Tensor, Past]]

    @property
    def stride(self) -> int:
        """Samples from one frame to the next, before any are joined."""
        return int(self.conv1.stride[0] * self.conv2.stride[0] * self.conv3.stride[0])

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(batch, samples)`` to ``(batch, frames, width)``.

        Args:
            lengths: samples of each clip that are no padding, int64, shape (batch,); None for all.
        """
        return self.shaped(self._normalized(self.waves(waveform), lengths))

    def waves(self, waveform: Tensor) -> Tensor:
        """What the first convolution makes of ``(batch, samples)``: ``(batch, width, steps of 64 samples)``."""
        return torch.tanh(self.conv1(waveform[:, None]))

    def shaped(self, normalized: Tensor) -> Tensor:
        """What the other convolutions make of that once it is normalised: ``(batch, frames, width)``."""
        return F.gelu(self.conv3(F.gelu(self.conv2(normalized.transpose(1, 2)))))

    def _normalized(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Group norm over all channels and the time before the padding."""
        if lengths is None:
            normed: Tensor = self.groupnorm(x)
            return normed
        # In single precision: the sums over a window are more than half precision can hold.
        dtype, x = x.dtype, x.float()
        kernel, stride = self.conv1.kernel_size[0], self.conv1.stride[0]
        frames = ((lengths - kernel) // stride + 1).clamp(min=1)
        heard = (torch.arange(x.shape[-1], device=x.device) < frames[:, None])[:, None]
        count = frames[:, None, None] * x.shape[1]
        mean = (x * heard).sum((1, 2), keepdim=True) / count
        variance = (torch.square(x - mean) * heard).sum((1, 2), keepdim=True) / count
        x = ((x - mean) * torch.rsqrt(variance + self.groupnorm.eps)).to(dtype)
        return x * self.groupnorm.weight[:, None] + self.groupnorm.bias[:, None]

    def frames(self, lengths: Tensor) -> Tensor:
        """Output frames of clips of so many samples: those that no padding went into."""
        lengths = self._feature_frames(lengths)
        return lengths if self.join is None else lengths // 2

    def _feature_frames(self, lengths: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            lengths = (lengths - conv.kernel_size[0]) // conv.stride[0] + 1
        return lengths.clamp(min=0)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """
        Args:
            features: see `features`.
            lengths: as given to `features`.
        """
        return self.upper(self.lower(features, lengths), None if lengths is None else self.frames(lengths))

    def lower(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the layers before the joining make of features, of the same shape."""
        if self.join is None:
            return x
        heard = None if lengths is None else self._feature_frames(lengths)
        return self._through(self.layers[: self.joined_after], x, heard, None, 1)

    def upper(self, x: Tensor, heard: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """What the other layers make of that, normalised, ``(batch, frames of the output, width)``.

        Args:
            heard: output frames of each clip that are no padding, int64, shape (batch,); None for all.
            visible: bool, shape (frames, frames) of the output, true where the row's frame may look at the column's;
                None for no limit.
        """
        stride = 1
        if self.join is not None:
            x, stride = self.joined(x), 2
        x = self._through(self.layers[self.joined_after or 0 :], x, heard, visible, stride)
        normed: Tensor = self.layer_norm(x)
        return normed

    def joined(self, x: Tensor) -> Tensor:
        """One frame of every two, ``(batch, frames, width)``; one that is left over is left out."""
        assert self.join is not None
        joined: Tensor = self.join(x[:, : x.shape[1] // 2 * 2].reshape(x.shape[0], -1, 2 * x.shape[2]))
        return joined

    def _through(
        self, layers: nn.ModuleList, x: Tensor, heard: Tensor | None, visible: Tensor | None, stride: int
    ) -> Tensor:
        rotation, mask = rotation_of(x, self.sizes, stride), visible
        if heard is not None:
            spoken = (torch.arange(x.shape[1], device=x.device) < heard[:, None])[:, None, None]
            mask = spoken if visible is None else spoken & visible
        for layer in layers:
            if self.gradient_checkpointing and self.training:
                x, _ = self._gradient_checkpointing_func(layer, x, rotation, mask)
            else:
                x, _ = layer(x, rotation, mask)
        return x


def encoder_of(model: Any) -> Encoder | None:
    """Of a model that is built on one; None for others."""
    encoder = getattr(model, "encoder", None)
    return encoder if isinstance(encoder, Encoder) else None
