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

import torch
from torch import Tensor

from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import KeysValues, make_rotation


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
class EncoderState:
    """State of one stream. Immutable: each chunk yields a new one.

    Attributes:
        max_left_frames: how far attention reaches back, in frames before they are joined.
        frames: frames so far, before they are joined.
        moments: see `forward_step`.
        past: cached keys and values of each layer; empty at the start.
    """

    max_left_frames: int
    frames: int = 0
    moments: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    past: tuple[KeysValues, ...] = ()


def forward_chunk(
    encoder: Encoder, samples: Tensor, kept_samples: int, state: EncoderState
) -> tuple[Tensor, Tensor, EncoderState]:
    """Run a chunk in PyTorch.

    Args:
        encoder: the encoder.
        samples: float, shape (samples,). The first one follows the last sample that was kept before.
        kept_samples: how many of them enter the next state: whole output frames, or more than there are samples if no
            chunk follows.
        state: the state before the first sample.

    Returns:
        Frames, float, shape (1, frames, width); `StepOutput.encoded`; and the next state.
    """
    past = state.past or len(encoder.layers) * (_empty_past(encoder, samples),)
    first = torch.tensor(float(state.frames), device=samples.device)
    moments_dtype = torch.float32 if samples.device.type == "mps" else torch.float64
    step = forward_step(encoder, samples[None], first, state.moments.to(samples.device, moments_dtype), past)
    if not kept_samples:
        return step.frames, step.encoded, state
    frames, cached = kept_samples // encoder.stride, []
    for number, (before, own) in enumerate(zip(past, step.own, strict=True)):
        start, skip, stop = cached_range(
            encoder.joined_after, number, before.keys.shape[2], frames, state.max_left_frames
        )
        cached.append(before.between(start, before.keys.shape[2]).concat(own.between(skip, stop)))
    kept_moments = step.moments[:, : kept_samples // encoder.conv1.stride[0]].sum(1)
    moments = state.moments + kept_moments.to(state.moments.device)
    next_state = EncoderState(state.max_left_frames, state.frames + frames, moments, tuple(cached))
    return step.frames, step.encoded, next_state


def cached_range(
    joined_after: int | None, layer: int, cached_frames: int, new_frames: int, max_left_frames: int
) -> tuple[int, int, int]:
    """Which keys and values of a layer are cached for the next chunk.

    Args:
        joined_after: see `EncoderSizes`.
        layer: index of the layer.
        cached_frames: frames cached so far, in frames of this layer.
        new_frames: kept frames of the chunk, before frames are joined.
        max_left_frames: see `EncoderState`.

    Returns:
        The first of the cached frames that stays, and the range [start, stop) of the chunk's frames that are added.
    """
    rate = 1 if joined_after is None or layer < joined_after else 2
    stop = new_frames // rate
    start = max(0, cached_frames + stop - max_left_frames // rate)
    return start, max(0, start - cached_frames), stop


def _empty_past(encoder: Encoder, samples: Tensor) -> KeysValues:
    sizes = encoder.sizes
    empty = samples.new_empty((1, sizes.heads, 0, sizes.width // sizes.heads))
    return KeysValues(empty, empty)
