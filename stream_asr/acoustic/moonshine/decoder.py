"""Moonshine's attention decoder: tokens and encoder states in, scores of the next tokens out.

`forward_step` is the only definition of the forward pass. Training, PyTorch inference and the export to ONNX use it.
Parameter names follow Transformers' ``MoonshineDecoder``. The output layer is the transposed embedding.

Sources: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024; Shazeer, "GLU
Variants Improve Transformer", 2020 (the feed-forward block); Press and Wolf, "Using the Output Embedding to Improve
Language Models", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic.moonshine.layers import KeysValues, Rotation, SelfAttention, group_layers, make_rotation


@dataclass(frozen=True, slots=True)
class DecoderSizes:
    """Shapes of a `Decoder`.

    Attributes:
        width: of encoder states and of the decoder's own states.
        inner_width: of the hidden layer of a feed-forward block.
        layers: number of layers.
        heads: attention heads of each layer.
        rotary_dim: how many numbers of a head are rotated; the others carry no position.
        rope_theta: base of the rotation angles.
        tokens: size of the vocabulary.
    """

    width: int
    inner_width: int
    layers: int
    heads: int
    rotary_dim: int
    rope_theta: float
    tokens: int

    @property
    def head_width(self) -> int:
        """Numbers of one head."""
        return self.width // self.heads


def parameter_shapes(sizes: DecoderSizes) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of a `Decoder` that is not fused, by name."""
    width, inner = sizes.width, sizes.inner_width
    shapes: dict[str, tuple[int, ...]] = {
        "encoder_norm.weight": (width,),
        "embed_tokens.weight": (sizes.tokens, width),
        "norm.weight": (width,),
    }
    for layer in (f"layers.{index}" for index in range(sizes.layers)):
        for attention in ("self_attn", "encoder_attn"):
            shapes |= {f"{layer}.{attention}.{kind}_proj.weight": (width, width) for kind in "qkvo"}
        shapes |= {
            f"{layer}.mlp.fc1.weight": (2 * inner, width),
            f"{layer}.mlp.fc1.bias": (2 * inner,),
            f"{layer}.mlp.fc2.weight": (width, inner),
            f"{layer}.mlp.fc2.bias": (width,),
        }
        norms = ("input_layernorm", "post_attention_layernorm", "final_layernorm")
        shapes |= {f"{layer}.{norm}.weight": (width,) for norm in norms}
    return shapes


class CrossAttention(nn.Module):
    """Multi-head attention to encoder states, without positions.

    Attributes:
        fused: whether `fuse` was called.
    """

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.fused = False

    @property
    def kv_projections(self) -> tuple[nn.Linear, nn.Linear]:
        """The projections to keys and values."""
        return self.k_proj, self.v_proj

    def fuse(self) -> None:
        """Scale queries, in place, and drop the projections to keys and values, which `Decoder.fuse` merges."""
        query = self.q_proj.weight.detach() / math.sqrt(self.q_proj.out_features // self.heads)
        self.q_proj.weight = nn.Parameter(query, requires_grad=False)
        del self.k_proj, self.v_proj
        self.fused = True

    def forward(self, x: Tensor, encoded: KeysValues, mask: Tensor | None) -> Tensor:
        """Attend.

        Args:
            x: float, shape (batch, tokens, width).
            encoded: keys and values of the encoder states.
            mask: float, broadcastable to (batch, heads, tokens, frames), added to the scores; None for no mask.
        """
        query = self.q_proj(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        if self.fused:  # queries are already scaled, and exporters make slower code of the function below
            scores = query @ encoded.keys.transpose(2, 3)
            attended = (scores if mask is None else scores + mask).softmax(-1) @ encoded.values
        else:
            attended = F.scaled_dot_product_attention(query, encoded.keys, encoded.values, attn_mask=mask)
        output: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return output


class GatedMLP(nn.Module):
    """The feed-forward block: a linear layer, half of whose output gates the other half, and a second linear layer."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.width, 2 * sizes.inner_width)
        self.fc2 = nn.Linear(sizes.inner_width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        hidden, gate = self.fc1(x).chunk(2, dim=-1)
        out: Tensor = self.fc2(F.silu(gate) * hidden)
        return out


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and the feed-forward block, each with layer norm and a residual connection."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.self_attn = SelfAttention(sizes)
        self.encoder_attn = CrossAttention(sizes)
        self.mlp = GatedMLP(sizes)
        self.input_layernorm, self.post_attention_layernorm, self.final_layernorm = (
            nn.LayerNorm(sizes.width, bias=False) for _ in range(3)
        )

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        mask: Tensor,
        past: KeysValues,
        encoded: KeysValues,
        encoded_mask: Tensor | None,
    ) -> tuple[Tensor, KeysValues]:
        """Run the layer; see `SelfAttention.forward` and `CrossAttention.forward`."""
        attended, own = self.self_attn(self.input_layernorm(x), rotation, mask, past)
        x = x + attended
        x = x + self.encoder_attn(self.post_attention_layernorm(x), encoded, encoded_mask)
        return x + self.mlp(self.final_layernorm(x)), own


class TransposedEmbedding(nn.Module):
    """Replaces the embedding of a fused decoder: one matrix in the layout that the output layer needs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().T.contiguous(), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        columns: Tensor = self.weight.index_select(1, tokens.flatten())
        return columns.T.view(*tokens.shape, -1)


class Decoder(nn.Module):
    """See the module's docstring.

    Attributes:
        sizes: the shapes of the decoder.
        encoder_norm: Moonshine's norm at the end of the encoder.
        cross_proj: replaces the projections to keys and values of all cross-attentions; None unless fused.
        fused: whether `fuse` was called.
    """

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder_norm = nn.LayerNorm(sizes.width, bias=False)
        self.embed_tokens: nn.Module = nn.Embedding(sizes.tokens, sizes.width)
        self.layers = nn.ModuleList([DecoderLayer(sizes) for _ in range(sizes.layers)])
        self.norm = nn.LayerNorm(sizes.width, bias=False)
        self.cross_proj: nn.Module | None = None
        self.fused = False

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return self.norm.weight.dtype

    def fuse(self) -> None:
        """Merge products, in place. Outputs stay the same up to rounding; the decoder can no longer be trained."""
        weights = []
        for layer in self._layers():
            weights += [projection.weight.detach() for projection in layer.encoder_attn.kv_projections]
            layer.self_attn.fuse(self.sizes.rotary_dim)
            layer.encoder_attn.fuse()
        merged = torch.cat(weights)
        self.cross_proj = nn.Linear(merged.shape[1], merged.shape[0], bias=False, device="meta")
        self.cross_proj.weight = nn.Parameter(merged, requires_grad=False)
        embedding = self.embed_tokens.weight
        assert isinstance(embedding, Tensor)
        self.embed_tokens = TransposedEmbedding(embedding)
        self.fused = True

    def project(self, encoded: Tensor) -> list[KeysValues]:
        """Compute the keys and values of each layer's cross-attention.

        Args:
            encoded: output of the encoder's layers before its final norm, float, shape (batch, frames, width).
        """
        normed = self.encoder_norm(encoded)
        if self.cross_proj is not None:
            projected = self.cross_proj(normed)
        else:
            projections = [part for layer in self._layers() for part in layer.encoder_attn.kv_projections]
            projected = torch.cat([projection(normed) for projection in projections], dim=-1)
        sizes = self.sizes
        parts = (
            projected.unflatten(2, (2 * sizes.layers, sizes.heads, sizes.head_width)).permute(2, 0, 3, 1, 4).unbind()
        )
        return group_layers(parts)

    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def logits(self, states: Tensor) -> Tensor:
        """Score the next token, float, shape (..., width) to (..., tokens)."""
        if isinstance(self.embed_tokens, TransposedEmbedding):
            return states @ self.embed_tokens.weight
        embedding = self.embed_tokens.weight
        assert isinstance(embedding, Tensor)
        return F.linear(states, embedding)

    def forward(self, tokens: Tensor, encoded: Tensor, frames: Tensor | None = None) -> Tensor:
        """Score the token after each given token, as in training.

        Args:
            tokens: the begin token and the text, int64, shape (batch, tokens). What follows the end of a text does not
                change the scores before.
            encoded: see `project`.
            frames: number of encoder states of each item without padding, int64, shape (batch,); None for all.

        Returns:
            Logits, float, shape (batch, tokens, vocabulary).
        """
        past = empty_past(self.sizes, encoded, len(tokens))
        encoded_mask = None if frames is None else padding_mask(frames, encoded.shape[1], encoded.dtype)
        states, _ = forward_step(self, tokens, 0, self.project(encoded), past, encoded_mask=encoded_mask)
        return self.logits(states)


def forward_step(
    decoder: Decoder,
    tokens: Tensor,
    first: Tensor | int,
    encoded: Sequence[KeysValues],
    past: Sequence[KeysValues],
    mask: Tensor | None = None,
    encoded_mask: Tensor | None = None,
) -> tuple[Tensor, list[KeysValues]]:
    """Run the decoder on tokens that follow those in the cache.

    Args:
        decoder: the decoder.
        tokens: int64, shape (batch, tokens).
        first: position of the first of them; as a tensor, float32, shape () or (batch, 1, 1).
        encoded: `Decoder.project` of the encoder states.
        past: keys and values of the earlier tokens, for each layer.
        mask: which tokens may be attended to, see `causal_mask`; None where no item of the batch is padded.
        encoded_mask: which encoder states may be attended to, see `padding_mask`; None for all.

    Returns:
        States for `Decoder.logits`, float, shape (batch, tokens, width), and keys and values of these tokens, for each
        layer.
    """
    x = decoder.embed_tokens(tokens)
    rotation = make_rotation(x, decoder.sizes, 1, first, decoder.fused)
    if mask is None:
        mask = causal_mask(tokens.shape[1], past[0].keys.shape[2], x)
    own = []
    for layer, before, frames in zip(decoder.layers, past, encoded, strict=True):
        x, new = layer(x, rotation, mask, before, frames, encoded_mask)
        own.append(new)
    return decoder.norm(x), own


def causal_mask(tokens: int, past: int, like: Tensor) -> Tensor:
    """Return zeros where a new token may attend to another token, and minus infinity elsewhere.

    Args:
        tokens: number of new tokens.
        past: number of earlier tokens, all of which may be attended to.
        like: has the dtype and the device of the result.

    Returns:
        float, shape (tokens, past + tokens).
    """
    row = torch.arange(tokens, device=like.device)[:, None] + past
    column = torch.arange(past + tokens, device=like.device)
    return torch.where(column > row, float("-inf"), 0.0).to(like.dtype)


def padding_mask(lengths: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Return zeros for valid columns and minus infinity for padding, shape (batch, 1, 1, size).

    Args:
        lengths: number of valid columns of each item, int64, shape (batch,).
        size: number of columns.
        dtype: of the result.
    """
    padded = torch.arange(size, device=lengths.device) >= lengths[:, None, None, None]
    return torch.where(padded, float("-inf"), 0.0).to(dtype)


def empty_past(sizes: DecoderSizes, like: Tensor, batch: int = 1) -> list[KeysValues]:
    """Keys and values of no tokens, for each layer."""
    empty = like.new_empty((batch, sizes.heads, 0, sizes.head_width))
    return sizes.layers * [KeysValues(empty, empty)]
