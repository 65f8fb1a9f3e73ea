"""Small attention decoders with random weights, and requests to decoders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from stream_asr.acoustic.base import DecodeOutput, DecodeRequest, State, Vocabulary
from stream_asr.acoustic.moonshine.decoder import Decoder, DecoderSizes
from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, float_weights
from stream_asr.acoustic.moonshine.decoder_onnx import GRAPH_FILES
from stream_asr.acoustic.moonshine.second_pass import MoonshineSecondPass
from stream_asr.array_types import FloatArray

DECODER_FILES = [file for files in GRAPH_FILES.values() for file in (files.project, files.step)]
"""File names of the graphs."""

SMALL = DecoderSizes(width=64, inner_width=96, layers=2, heads=2, rotary_dim=28, rope_theta=10_000.0, tokens=50)


def make_decoder(seed: int = 0, sizes: DecoderSizes = SMALL) -> Decoder:
    """Create a decoder whose output depends on the audio and on all earlier tokens."""
    torch.manual_seed(seed)
    decoder = Decoder(sizes).eval().requires_grad_(False)
    for name, weight in decoder.named_parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.5 if "attn" in name else 0.2)
    return decoder


def make_checkpoint(seed: int = 0, sizes: DecoderSizes = SMALL) -> DecoderCheckpoint:
    """Create a checkpoint of `make_decoder`. Token 1 begins a hypothesis and token 2 ends it."""
    pieces = tuple(b"" if index < 3 else f" {index}".encode() for index in range(sizes.tokens))
    weights = float_weights(make_decoder(seed, sizes), torch.float32)
    return DecoderCheckpoint(sizes, 1, Vocabulary(pieces, 2), weights)


def random_states(frames: int, width: int = SMALL.width, seed: int = 0) -> FloatArray:
    """Create encoder states."""
    return np.random.default_rng(seed).standard_normal((frames, width)).astype(np.float32)


def make_request(
    model: MoonshineSecondPass,
    encoded: FloatArray,
    *,
    state: State = None,
    prefix: tuple[int, ...] = (),
    draft: tuple[int, ...] = (),
    max_tokens: int = 24,
    kept_frames: int | None = None,
) -> DecodeRequest:
    """Create a request that keeps all frames unless ``kept_frames`` is given."""
    kept_frames = len(encoded) if kept_frames is None else kept_frames
    state = model.initial_state() if state is None else state
    return DecodeRequest(encoded, kept_frames, None, state, prefix, draft, max_tokens)


def decode_greedily(model: MoonshineSecondPass, request: DecodeRequest) -> DecodeOutput:
    """Decode without a draft, one token per request, without the states of the requests in between."""
    tokens = request.prefix
    while len(tokens) < request.max_tokens:
        [output] = model.decode([replace(request, prefix=tokens, draft=(), max_tokens=len(tokens) + 1)])
        if output.tokens == tokens:
            break
        tokens = output.tokens
    [output] = model.decode([replace(request, prefix=tokens, draft=(), max_tokens=len(tokens))])
    return output
