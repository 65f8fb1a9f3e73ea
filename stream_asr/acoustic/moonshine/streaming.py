"""Moonshine's encoder on a stream: what it made of the past is kept, and only what is new is worked out.

Each piece of audio goes through all layers once. Its frames look at those of the piece and, through the keys and
values that are kept of each layer, at those before it. The convolutions look ahead only, so that nothing has to be
heard twice for them; the group norm over their first one takes in all of the utterance so far.

Source: Dai et al., "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context", 2019 (states of one
segment kept for the next).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import Past, rotation_of


@dataclass(frozen=True, slots=True)
class Level:
    """Sums over what the first convolution made of an utterance so far."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, count: int, total: float, squares: float) -> Level:
        return Level(self.count + count, self.total + total, self.squares + squares)

    def with_more(self, waves: Tensor) -> Level:
        numbers = waves.float()
        return self.plus(waves.numel(), float(numbers.sum()), float((numbers**2).sum()))


@dataclass(frozen=True, slots=True)
class EncoderState:
    """Of one stream; it never changes, each piece gives a new one.

    Attributes:
        reach: steps that a frame looks back; a step is a frame before any are joined.
        steps: since the memory began.
        level: of the audio so far.
        layers: what is kept of each.
    """

    reach: int
    steps: int = 0
    level: Level = Level()
    layers: tuple[Past, ...] = ()


def forward_chunk(encoder: Encoder, samples: Tensor, kept: int, state: EncoderState) -> tuple[Tensor, EncoderState]:
    """Hear a piece of audio.

    Args:
        samples: shape (samples,); the first follows the last one kept of the piece before.
        kept: how many of them, from the first, stay in the memory; whole frames of the output, or more than there are
            if nothing follows.

    Returns:
        What the encoder makes of the piece, ``(1, frames, width)``, and the memory with the kept part of it.
    """
    waves = encoder.waves(samples[None])
    steps = kept // encoder.stride
    ends = kept // encoder.conv1.stride[0]
    kept_level, norm = state.level.with_more(waves[..., :ends]), encoder.groupnorm
    level = kept_level.with_more(waves[..., ends:])
    mean = level.total / level.count
    scale = (max(0.0, level.squares / level.count - mean**2) + norm.eps) ** -0.5
    x = encoder.shaped((waves - mean) * scale * norm.weight[:, None] + norm.bias[:, None])
    layers: list[Past] = []
    keep, reach, rate = steps, state.reach, 1
    for number, layer in enumerate(encoder.layers):
        if number == encoder.joined_after:
            x, keep, reach, rate = encoder.joined(x), keep // 2, reach // 2, 2
        if number in (0, encoder.joined_after):
            rotation = rotation_of(x, encoder.sizes, rate, state.steps)
        past = state.layers[number] if state.layers else None
        before = 0 if past is None else past.keys.shape[2]
        x, seen = layer(x, rotation, None, past)
        layers.append(seen.between(max(0, before + keep - reach), before + keep))
    heard = EncoderState(state.reach, state.steps + steps, kept_level, tuple(layers))
    return encoder.layer_norm(x), heard
