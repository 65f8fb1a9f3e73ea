"""Moonshine's encoder on a stream: keys and values of the past are cached, and only new audio is computed.

Each chunk passes through all layers once. Its frames attend to each other and, through cached keys and values, to
earlier frames. The convolutions only look ahead, so no audio is convolved twice. The group norm after the first
convolution runs over the utterance so far.

`forward_step` is the only definition of this forward pass. PyTorch runs it through `forward_chunk`, and
`stream_asr.acoustic.moonshine.onnx_export` turns it into a graph for ONNX Runtime. It therefore branches on nothing but
the sizes of the encoder.

Source: Dai et al., "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context", 2019 (cached states).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import KeysValues, make_rotation

_Layer = TypeVar("_Layer")


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Output of `forward_step`.

    Attributes:
        frames: float, shape (1, frames, width).
        encoded: output of the layers before frames are joined, or of all layers if they never are, without the final
            norm; float, shape (1, frames before they are joined, width).
        moments: for each step of the first convolution: count, sum and sum of squares of its outputs, float64, shape
            (3, steps).
        own: keys and values of the new frames, for each layer.
    """

    frames: Tensor
    encoded: Tensor
    moments: Tensor
    own: tuple[KeysValues, ...]


def forward_step(
    encoder: Encoder, samples: Tensor, first: Tensor, moments: Tensor, past: Sequence[KeysValues]
) -> StepOutput:
    """Run the encoder on a chunk of audio.

    Args:
        encoder: the encoder.
        samples: float, shape (1, samples).
        first: position of the first frame before frames are joined, float32, shape ().
        moments: `StepOutput.moments` of the kept audio before, summed over steps; float64 (float32 on devices that lack
            it), shape (3,).
        past: cached keys and values, for each layer.
    """
    filtered = encoder.filter(samples)
    new_moments = _moments(filtered, moments.dtype)
    x = encoder.convolve(_normalize(encoder, filtered, moments + new_moments.sum(1)))
    stride, own, encoded = 1, [], None
    for number, (layer, before) in enumerate(zip(encoder.layers, past, strict=True)):
        if number == encoder.joined_after:
            encoded, x, stride = x, encoder.join_frames(x), 2
        if number in (0, encoder.joined_after):
            rotation = make_rotation(x, encoder.sizes, stride, first, encoder.fused)
        x, new = layer(x, rotation, None, before)
        own.append(new)
    return StepOutput(encoder.layer_norm(x), x if encoded is None else encoded, new_moments, tuple(own))


def _moments(filtered: Tensor, dtype: torch.dtype) -> Tensor:
    """See `StepOutput.moments`. Single precision holds the sums of one step; those of an utterance need double."""
    numbers = filtered[0].float()
    total = numbers.sum(0)
    return torch.stack((torch.full_like(total, filtered.shape[1]), total, (numbers * numbers).sum(0))).to(dtype)


def _normalize(encoder: Encoder, filtered: Tensor, moments: Tensor) -> Tensor:
    """Apply group norm with the moments of all channels and of the utterance so far."""
    norm = encoder.groupnorm
    count, total, squares = moments.unbind()
    mean = total / count
    scale = torch.rsqrt((squares / count - mean * mean).clamp(min=0.0) + norm.eps)
    weight = norm.weight[:, None] * scale.to(filtered.dtype)
    return filtered * weight + (norm.bias[:, None] - weight * mean.to(filtered.dtype))


@dataclass(frozen=True, slots=True)
class Block(Generic[_Layer]):
    """Cached keys and values of the kept part of a chunk. States share blocks.

    Attributes:
        frames: number of frames, before they are joined.
        past: the keys and values; an item for each layer, or for each graph input of ONNX Runtime.
    """

    frames: int
    past: tuple[_Layer, ...]


def append_block(
    blocks: tuple[Block[_Layer], ...], block: Block[_Layer], max_left_frames: int
) -> tuple[Block[_Layer], ...]:
    """Append a block, and drop blocks that attention no longer reaches."""
    blocks = (*blocks, block)
    while blocks and sum(later.frames for later in blocks[1:]) >= max_left_frames:
        blocks = blocks[1:]
    return blocks


def first_visible(blocks: Sequence[Block[Any]], max_left_frames: int, rate: int) -> int:
    """Return the first frame of the first block that attention reaches.

    Args:
        blocks: the blocks of a state.
        max_left_frames: see `EncoderState`.
        rate: see `frame_rate`.
    """
    return max(0, sum(block.frames for block in blocks) // rate - max_left_frames // rate)


def frame_rate(joined_after: int | None, layer: int) -> int:
    """Return how many frames, before they are joined, a frame of a layer stands for."""
    return 1 if joined_after is None or layer < joined_after else 2


@dataclass(frozen=True, slots=True)
class EncoderState:
    """State of one stream. Immutable: each chunk yields a new one.

    Attributes:
        max_left_frames: how far attention reaches back, in frames before they are joined.
        frames: frames so far, before they are joined.
        moments: see `forward_step`.
        blocks: cached keys and values, oldest first.
    """

    max_left_frames: int
    frames: int = 0
    moments: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    blocks: tuple[Block[KeysValues], ...] = ()


def forward_chunk(
    encoder: Encoder, samples: Tensor, kept_samples: int, state: EncoderState, preview_kept_samples: int = 0
) -> tuple[Tensor, Tensor, EncoderState, EncoderState | None]:
    """Run a chunk in PyTorch.

    Args:
        encoder: the encoder.
        samples: float, shape (samples,). The first one follows the last sample that was kept before.
        kept_samples: how many of them enter the next state: whole output frames, or more than there are samples if no
            chunk follows.
        state: the state before the first sample.
        preview_kept_samples: see `stream_asr.acoustic.base.Chunk`.

    Returns:
        Frames, float, shape (1, frames, width); `StepOutput.encoded`; the next state; and the preview state.
    """
    first = torch.tensor(float(state.frames), device=samples.device)
    moments_dtype = torch.float32 if samples.device.type == "mps" else torch.float64
    moments = state.moments.to(samples.device, moments_dtype)
    step = forward_step(encoder, samples[None], first, moments, _cached_past(encoder, samples, state))

    def state_after(new_samples: int) -> EncoderState:
        frames = new_samples // encoder.stride
        block = Block(
            frames,
            tuple(
                own.between(0, frames // frame_rate(encoder.joined_after, layer)).copy()
                for layer, own in enumerate(step.own)
            ),
        )
        new_moments = step.moments[:, : new_samples // encoder.conv1.stride[0]].sum(1)
        return EncoderState(
            state.max_left_frames,
            state.frames + frames,
            state.moments + new_moments.to(state.moments.device),
            append_block(state.blocks, block, state.max_left_frames),
        )

    next_state = state_after(kept_samples) if kept_samples else state
    preview_state = state_after(preview_kept_samples) if preview_kept_samples else None
    return step.frames, step.encoded, next_state, preview_state


def _cached_past(encoder: Encoder, samples: Tensor, state: EncoderState) -> list[KeysValues]:
    """Return the keys and values to which a chunk attends, for each layer."""
    if not state.blocks:
        return len(encoder.layers) * [_empty_past(encoder, samples)]
    past = []
    for layer, (oldest, *later) in enumerate(zip(*(block.past for block in state.blocks), strict=True)):
        rate = frame_rate(encoder.joined_after, layer)
        start = first_visible(state.blocks, state.max_left_frames, rate)
        past.append(oldest.between(start, oldest.keys.shape[2]).concat(*later))
    return past


def _empty_past(encoder: Encoder, samples: Tensor) -> KeysValues:
    sizes = encoder.sizes
    empty = samples.new_empty((1, sizes.heads, 0, sizes.width // sizes.heads))
    return KeysValues(empty, empty)
