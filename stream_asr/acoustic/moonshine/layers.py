"""Layers of Moonshine: strided convolution, self-attention with rotary positions, and the encoder's feed-forward block.

Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021 (positions).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AttentionSizes(Protocol):
    """Shapes of self-attention; see `EncoderSizes`."""

    @property
    def width(self) -> int:
        """Of the frames."""

    @property
    def heads(self) -> int:
        """Attention heads."""

    @property
    def rotary_dim(self) -> int:
        """How many numbers of a head are rotated."""

    @property
    def rope_theta(self) -> float:
        """Base of the rotation angles."""


@dataclass(frozen=True, slots=True)
class EncoderSizes:
    """Shapes of an `Encoder`.

    Attributes:
        width: of the frames.
        inner_width: of the hidden layer between two frames.
        layers: number of layers.
        heads: attention heads of each layer.
        rotary_dim: how many numbers of a head are rotated; the others carry no position.
        rope_theta: base of the rotation angles.
        joined_after: number of layers after which every two frames are joined into one; None for never.
    """

    width: int
    inner_width: int
    layers: int
    heads: int
    rotary_dim: int
    rope_theta: float
    joined_after: int | None


class StridedConv(nn.Conv1d):
    """A one-dimensional convolution, computed as one matrix product.

    The product is faster for the few frames of a chunk, and not slower for many. Input has shape (batch, steps,
    channels), output (batch, frames, channels). Parameters are those of ``nn.Conv1d``, so that checkpoints load.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.product: nn.Module | None = None
        """Replaces the parameters where another product is faster."""

    def forward(self, x: Tensor) -> Tensor:
        spans = x.unfold(1, self.kernel_size[0], self.stride[0]).flatten(2)
        if self.product is None:
            return F.linear(spans, self.weight.flatten(1), self.bias)
        frames: Tensor = self.product(spans)
        return frames


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotates pairs of a head's first numbers by the angles of their position, and leaves the other numbers alone.

    Attributes:
        cosine: float, shape (frames, head width) or (batch, 1, frames, head width).
        sine: of the same dtype and shape; negative where a number is the first of its pair.
        partner: index of each number's partner, int64, shape (head width,). None for a fused layer, where the first
            numbers of all pairs precede all second ones.
        pairs: number of pairs.
    """

    cosine: Tensor
    sine: Tensor
    partner: Tensor | None
    pairs: int

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate ``x``, shape (batch, heads, frames, head width)."""
        if self.partner is not None:
            partners = x.index_select(-1, self.partner)
        else:  # moving blocks is faster than moving single numbers
            partners = torch.cat(
                (x[..., self.pairs : 2 * self.pairs], x[..., : self.pairs], x[..., 2 * self.pairs :]), dim=-1
            )
        return torch.addcmul(x * self.cosine, partners, self.sine)


def make_rotation(
    x: Tensor, sizes: AttentionSizes, stride: int, first: Tensor | int = 0, fused: bool = False
) -> Rotation:
    """Compute the rotation of each frame of ``x``, shape (batch, frames, width).

    Args:
        sizes: of the attention.
        stride: distance between the positions of neighboring frames.
        first: position of the first frame; as a tensor, float32, shape () or, where it differs between the items of a
            batch, (batch, 1, 1).
        fused: whether the layers are fused, see `SelfAttention.fuse`.
    """
    head_width, pairs = x.shape[2] // sizes.heads, sizes.rotary_dim // 2
    exponents = torch.arange(0, sizes.rotary_dim, 2, device=x.device, dtype=torch.float32) / sizes.rotary_dim
    positions = first + stride * torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
    angles = positions[..., None] * sizes.rope_theta**-exponents
    cosine, sine = angles.cos(), angles.sin()
    if fused:
        cosine, sine, partner = torch.cat((cosine, cosine), dim=-1), torch.cat((-sine, sine), dim=-1), None
    else:
        cosine, sine = cosine.repeat_interleave(2, dim=-1), torch.stack((-sine, sine), dim=-1).flatten(-2)
        partner = torch.arange(head_width, device=x.device)
        partner[: sizes.rotary_dim] ^= 1
    unrotated = head_width - sizes.rotary_dim
    cosine, sine = F.pad(cosine, (0, unrotated), value=1.0), F.pad(sine, (0, unrotated))
    return Rotation(cosine.to(x.dtype), sine.to(x.dtype), partner, pairs)


@dataclass(frozen=True, slots=True)
class KeysValues:
    """Keys and values of a run of frames, each float, shape (batch, heads, frames, head width)."""

    keys: Tensor
    values: Tensor

    def concat(self, *later: KeysValues) -> KeysValues:
        """Append the keys and values of later frames."""
        runs = (self, *later)
        keys = torch.cat([run.keys for run in runs], dim=2)
        return KeysValues(keys, torch.cat([run.values for run in runs], dim=2))

    def between(self, start: int, stop: int) -> KeysValues:
        """Select frames [start, stop)."""
        return KeysValues(self.keys[:, :, start:stop], self.values[:, :, start:stop])

    def copy(self) -> KeysValues:
        """Return a copy, which does not keep other frames in memory."""
        return KeysValues(self.keys.clone(), self.values.clone())


def flatten_layers(layers: Iterable[KeysValues]) -> tuple[Tensor, ...]:
    """Return ``(keys of layer 0, values of layer 0, keys of layer 1, ...)``."""
    return tuple(tensor for layer in layers for tensor in (layer.keys, layer.values))


def group_layers(tensors: Sequence[Tensor]) -> list[KeysValues]:
    """Return the keys and values of each layer, from the order of `flatten_layers`."""
    return [KeysValues(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)]


def fused_order(rotary_dim: int, head_width: int) -> list[int]:
    """Return the order of a head's numbers in a fused layer: the first of every rotated pair before the second ones."""
    return [*range(0, rotary_dim, 2), *range(1, rotary_dim, 2), *range(rotary_dim, head_width)]


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions.

    Attributes:
        heads: number of attention heads.
        qkv_proj: replaces the projections to queries, keys and values where one product is faster; None otherwise.
        fused: whether `fuse` was called.
    """

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.qkv_proj: nn.Module | None = None
        self.fused = False

    def fuse(self, rotary_dim: int) -> None:
        """Replace the projections to queries, keys and values by one, in place.

        The rotated numbers of each query and key are reordered, the first of every pair before the second ones, which
        does not change the products of queries and keys. Queries are scaled. A fused layer cannot be trained.
        """
        width = self.q_proj.out_features // self.heads
        order = fused_order(rotary_dim, width)
        query, key = (
            projection.weight.detach().unflatten(0, (self.heads, width))[:, order].flatten(0, 1)
            for projection in (self.q_proj, self.k_proj)
        )
        weights = torch.cat((query / math.sqrt(width), key, self.v_proj.weight.detach()))
        self.qkv_proj, self.fused = nn.Linear(weights.shape[1], weights.shape[0], bias=False, device="meta"), True
        self.qkv_proj.weight = nn.Parameter(weights, requires_grad=False)
        del self.q_proj, self.k_proj, self.v_proj

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Attend.

        Args:
            x: float, shape (batch, frames, width).
            rotation: of these frames.
            mask: broadcastable to (batch, heads, frames, frames); bool, or float and added to the scores, which a fused
                layer requires; None for no mask.
            past: keys and values of earlier frames that these frames may attend to as well.

        Returns:
            Frames of the same shape, and their own keys and values.
        """
        batch, frames, width = x.shape
        projected = self._project(x).view(batch, frames, 3 * self.heads, -1).transpose(1, 2)
        query, key = rotation(projected[:, : 2 * self.heads]).chunk(2, dim=1)
        own = KeysValues(key, projected[:, 2 * self.heads :])
        visible = own if past is None else past.concat(own)
        if self.fused:  # queries are already scaled, and exporters make slower code of the function below
            scores = query @ visible.keys.transpose(2, 3)
            attended = (scores if mask is None else scores + mask).softmax(-1) @ visible.values
        else:
            attended = F.scaled_dot_product_attention(query, visible.keys, visible.values, attn_mask=mask)
        output: Tensor = self.o_proj(attended.transpose(1, 2).reshape(batch, frames, width))
        return output, own

    def _project(self, x: Tensor) -> Tensor:
        """Compute queries, keys and values side by side, shape (batch, frames, 3 * width)."""
        if self.qkv_proj is None:
            return torch.cat([projection(x) for projection in (self.q_proj, self.k_proj, self.v_proj)], dim=-1)
        projected: Tensor = self.qkv_proj(x)
        return projected


class MLP(nn.Module):
    """The feed-forward block: two linear layers with a GELU between them."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.fc1: nn.Module = nn.Linear(sizes.width, sizes.inner_width)
        self.fc2: nn.Module = nn.Linear(sizes.inner_width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Layer(nn.Module):
    """Self-attention and the feed-forward block, each with layer norm before it and a residual connection around it."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.self_attn = SelfAttention(sizes)
        self.mlp = MLP(sizes)
        self.input_layernorm = nn.LayerNorm(sizes.width, bias=False)
        self.post_attention_layernorm = nn.LayerNorm(sizes.width, bias=False)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Run the layer; see `SelfAttention.forward`."""
        attended, own = self.self_attn(self.input_layernorm(x), rotation, mask, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), own
