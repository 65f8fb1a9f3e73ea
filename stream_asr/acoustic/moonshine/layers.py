"""The layers of Moonshine's encoder: attention by relative positions, and what comes between two of them.

Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021 (positions).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class EncoderSizes:
    """Shapes of an `Encoder`.

    Attributes:
        width: of the frames; ``inner_width`` that of the layer between two of them.
        rotary_dim: how many of a head's numbers are rotated; the others carry no position.
        joined_after: layers after which every two frames become one; None for never.
    """

    width: int
    inner_width: int
    layers: int
    heads: int
    rotary_dim: int
    rope_theta: float
    joined_after: int | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """Turns neighbouring pairs of a head's first numbers by their position's angles, and leaves the others alone.

    Attributes:
        cosine, sine: ``(frames, width of a head)``; a sine has the sign with which the partner comes in.
        partner: of each number of a head, int64.
    """

    cosine: Tensor
    sine: Tensor
    partner: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Of ``(batch, heads, frames, width of a head)``."""
        return torch.addcmul(x * self.cosine, x.index_select(-1, self.partner), self.sine)


def rotation_of(x: Tensor, sizes: EncoderSizes, stride: int, first: int = 0) -> Rotation:
    """That of each frame of ``x``, ``(batch, frames, width)``.

    Args:
        stride: from one position to the next.
        first: position of the first frame.
    """
    still = x.shape[2] // sizes.heads - sizes.rotary_dim
    pairs = torch.arange(0, sizes.rotary_dim, 2, device=x.device, dtype=torch.float32)
    positions = first + stride * torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
    angles = positions[:, None] * sizes.rope_theta ** (-pairs / sizes.rotary_dim)
    sine = torch.stack((-angles.sin(), angles.sin()), dim=-1).flatten(1)
    partner = torch.arange(x.shape[2] // sizes.heads, device=x.device)
    partner[: sizes.rotary_dim] ^= 1
    return Rotation(
        F.pad(angles.cos().repeat_interleave(2, dim=1), (0, still), value=1.0).to(x.dtype),
        F.pad(sine, (0, still)).to(x.dtype),
        partner,
    )


@dataclass(frozen=True, slots=True)
class Past:
    """What later frames look at, each ``(batch, heads, frames, width of a head)``."""

    keys: Tensor
    values: Tensor

    def then(self, keys: Tensor, values: Tensor) -> Past:
        return Past(torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2))

    def between(self, start: int, stop: int) -> Past:
        return Past(self.keys[:, :, start:stop], self.values[:, :, start:stop])


class SelfAttention(nn.Module):
    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.qkv_proj: nn.Module | None = None
        """In place of the first three, where one product is faster."""

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, past: Past | None = None
    ) -> tuple[Tensor, Past]:
        batch, frames, width = x.shape
        projected = self._projected(x).view(batch, frames, 3 * self.heads, -1).transpose(1, 2)
        query, key = rotation(projected[:, : 2 * self.heads]).chunk(2, dim=1)
        value = projected[:, 2 * self.heads :]
        seen = Past(key, value) if past is None else past.then(key, value)
        attended = F.scaled_dot_product_attention(query, seen.keys, seen.values, attn_mask=mask)
        joined: Tensor = self.o_proj(attended.transpose(1, 2).reshape(batch, frames, width))
        return joined, seen

    def _projected(self, x: Tensor) -> Tensor:
        """Queries, keys and values side by side: ``(batch, frames, 3 * width)``."""
        if self.qkv_proj is None:
            return torch.cat([projection(x) for projection in (self.q_proj, self.k_proj, self.v_proj)], dim=-1)
        projected: Tensor = self.qkv_proj(x)
        return projected


class MLP(nn.Module):
    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.fc1: nn.Module = nn.Linear(sizes.width, sizes.inner_width)
        self.fc2: nn.Module = nn.Linear(sizes.inner_width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Layer(nn.Module):
    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.self_attn = SelfAttention(sizes)
        self.mlp = MLP(sizes)
        self.input_layernorm = nn.LayerNorm(sizes.width, bias=False)
        self.post_attention_layernorm = nn.LayerNorm(sizes.width, bias=False)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, past: Past | None = None
    ) -> tuple[Tensor, Past]:
        """``past`` is what the frames may look at besides each other; given back with theirs added."""
        attended, seen = self.self_attn(self.input_layernorm(x), rotation, mask, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), seen


class Strided(nn.Conv1d):
    """A convolution as one matrix product, which is faster for as few frames as a stream has at a time, and no slower
    for many.

    ``(batch, steps, channels)`` in, ``(batch, frames, channels of the output)`` out; the parameters are those of
    PyTorch's convolution, for the sake of checkpoints.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel_size: int, stride: int) -> None:
        super().__init__(inputs, outputs, kernel_size, stride)
        self.product: nn.Module | None = None
        """In place of the parameters, where another product is faster."""

    def forward(self, x: Tensor) -> Tensor:
        spans = x.unfold(1, self.kernel_size[0], self.stride[0]).flatten(2)
        if self.product is None:
            return F.linear(spans, self.weight.flatten(1), self.bias)
        frames: Tensor = self.product(spans)
        return frames
