"""Moonshine's audio encoder: waveform in, frames out, relative positions only.

The upper layers may run at half the frame rate of the lower ones: subword tokens need no more frames, and half as
many frames cost half as much. Parameter names follow Transformers' ``MoonshineEncoder``, so that its checkpoints load
without renaming.

Source: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic.moonshine.layers import (
    EncoderSizes,
    KeysValues,
    Layer,
    SelfAttention,
    StridedConv,
    make_rotation,
)

_Length = TypeVar("_Length", int, Tensor)


def encoder_sizes(config: Any) -> EncoderSizes:
    """Read the sizes from a configuration with the fields of `MoonshineCTCConfig`."""
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
    """Return the number of samples of each clip, int64, shape (batch,); None if no clip is padded.

    Attention without a mask is faster, and single windows are seldom padded. On a GPU the check would wait for the
    device, so the lengths are always returned there.
    """
    if attention_mask is None or (attention_mask.device.type == "cpu" and bool(attention_mask.all())):
        return None
    return attention_mask.sum(-1)


class Encoder(nn.Module):
    """Convolutions over the waveform, followed by self-attention layers.

    Attributes:
        sizes: the shapes of the encoder.
        joined_after: number of layers after which every two frames are joined into one; None for never.
        fused: whether `fuse` was called.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.conv1 = nn.Conv1d(1, width, kernel_size=127, stride=64, bias=False)
        self.conv2 = StridedConv(width, 2 * width, kernel_size=7, stride=3)
        self.conv3 = StridedConv(2 * width, width, kernel_size=3, stride=2)
        self.groupnorm = nn.GroupNorm(num_groups=1, num_channels=width, eps=1e-5)
        self.layers = nn.ModuleList([Layer(sizes) for _ in range(sizes.layers)])
        self.joined_after = sizes.joined_after
        self.join = None if sizes.joined_after is None else nn.Linear(2 * width, width)
        self.layer_norm: nn.Module = nn.LayerNorm(width, bias=False)
        self.fused = False
        # Transformers sets both for models that recompute activations in the backward pass.
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., tuple[Tensor, KeysValues]]

    def fuse(self) -> None:
        """Fuse attention in place. Outputs stay the same up to rounding; the encoder can no longer be trained."""
        for module in self.modules():
            if isinstance(module, SelfAttention):
                module.fuse(self.sizes.rotary_dim)
        self.fused = True

    @property
    def stride(self) -> int:
        """Samples from one frame to the next, before frames are joined."""
        return int(self.conv1.stride[0] * self.conv2.stride[0] * self.conv3.stride[0])

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Convert samples, shape (batch, samples), to features, shape (batch, frames, width).

        Args:
            waveform: float.
            lengths: number of samples of each clip without padding, int64, shape (batch,); None if no clip is padded.
        """
        return self.convolve(self._normalize(self.filter(waveform), lengths))

    def filter(self, waveform: Tensor) -> Tensor:
        """Run the first convolution: (batch, samples) to (batch, width, steps of 64 samples)."""
        return torch.tanh(self.conv1(waveform[:, None]))

    def convolve(self, normalized: Tensor) -> Tensor:
        """Run the other convolutions: (batch, width, steps) to (batch, frames, width)."""
        return F.gelu(self.conv3(F.gelu(self.conv2(normalized.transpose(1, 2)))))

    def _normalize(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Apply group norm over all channels and all steps before the padding."""
        if lengths is None:
            normed: Tensor = self.groupnorm(x)
            return normed
        # Single precision: half precision cannot hold the sums over a window.
        dtype, x = x.dtype, x.float()
        kernel, stride = self.conv1.kernel_size[0], self.conv1.stride[0]
        steps = ((lengths - kernel) // stride + 1).clamp(min=1)
        valid = (torch.arange(x.shape[-1], device=x.device) < steps[:, None])[:, None]
        count = steps[:, None, None] * x.shape[1]
        mean = (x * valid).sum((1, 2), keepdim=True) / count
        variance = (torch.square(x - mean) * valid).sum((1, 2), keepdim=True) / count
        x = ((x - mean) * torch.rsqrt(variance + self.groupnorm.eps)).to(dtype)
        return x * self.groupnorm.weight[:, None] + self.groupnorm.bias[:, None]

    def frames(self, lengths: Tensor) -> Tensor:
        """Number of output frames without padding, for clips of ``lengths`` samples."""
        lengths = self._convolved(lengths).clamp(min=0)
        return lengths if self.join is None else lengths // 2

    def feature_frames(self, samples: int) -> int:
        """Number of frames of so many samples before frames are joined."""
        return max(0, self._convolved(samples))

    def _convolved(self, lengths: _Length) -> _Length:
        for conv in (self.conv1, self.conv2, self.conv3):
            lengths = (lengths - conv.kernel_size[0]) // conv.stride[0] + 1
        return lengths

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run all layers; arguments as returned by and given to `features`."""
        return self.upper(self.lower(features, lengths), None if lengths is None else self.frames(lengths))

    def lower(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run the layers before frames are joined. The shape of ``x`` is kept."""
        if self.join is None:
            return x
        frames = None if lengths is None else self._convolved(lengths).clamp(min=0)
        return self._run(self.layers[: self.joined_after], x, frames, None, 1)

    def upper(self, x: Tensor, frames: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """Join frames, run the remaining layers and normalize: output of shape (batch, output frames, width).

        Args:
            x: output of `lower`.
            frames: number of output frames of each clip without padding, int64, shape (batch,); None for all.
            visible: bool, shape (output frames, output frames), true where the row's frame may attend to the column's;
                None for no limit.
        """
        stride = 1
        if self.join is not None:
            x, stride = self.join_frames(x), 2
        x = self._run(self.layers[self.joined_after or 0 :], x, frames, visible, stride)
        normed: Tensor = self.layer_norm(x)
        return normed

    def join_frames(self, x: Tensor) -> Tensor:
        """Join every two frames into one, shape (batch, frames // 2, width). An odd last frame is dropped."""
        assert self.join is not None
        joined: Tensor = self.join(x[:, : x.shape[1] // 2 * 2].reshape(x.shape[0], -1, 2 * x.shape[2]))
        return joined

    def _run(
        self, layers: nn.ModuleList, x: Tensor, frames: Tensor | None, visible: Tensor | None, stride: int
    ) -> Tensor:
        rotation, mask = make_rotation(x, self.sizes, stride, fused=self.fused), visible
        if frames is not None:
            valid = (torch.arange(x.shape[1], device=x.device) < frames[:, None])[:, None, None]
            mask = valid if visible is None else valid & visible
        for layer in layers:
            if self.gradient_checkpointing and self.training:
                x, _ = self._gradient_checkpointing_func(layer, x, rotation, mask)
            else:
                x, _ = layer(x, rotation, mask)
        return x


def find_encoder(model: Any) -> Encoder | None:
    """Return the Moonshine encoder of a model; None if it has none."""
    encoder = getattr(model, "encoder", None)
    return encoder if isinstance(encoder, Encoder) else None
