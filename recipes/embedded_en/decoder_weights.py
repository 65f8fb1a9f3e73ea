"""The pretrained decoder: that of Moonshine tiny, from the package `moonshine-voice` (MIT).

The integers, scales and zero points of its quantized weights are kept as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.embedded_en.encoder_weights import read_encoder_weights
from recipes.embedded_en.package_files import QUANTIZED, read_network
from stream_asr.acoustic.base import Vocabulary
from stream_asr.acoustic.moonshine.decoder import DecoderSizes
from stream_asr.acoustic.moonshine.decoder_checkpoint import EMBEDDING, DecoderCheckpoint, QuantizedWeight, Weight

SIZES = DecoderSizes(width=288, inner_width=1152, layers=6, heads=8, rotary_dim=32, rope_theta=10_000.0, tokens=32_768)
UNKNOWN, BEGIN, END = 0, 1, 2

_LINEAR = re.compile(r"/layers\.(\d+)/(self_attn|encoder_attn|mlp)/(\w+)/")
_UNQUANTIZED = re.compile(r"model\.decoder\.((layers\.\d+\.)?\w*norm\.weight|layers\.\d+\.mlp\.fc\d\.bias)_merged_\d")
_EMBEDDING = "model.decoder.embed_tokens.weight_merged_0"
_SPECIAL_PIECE = re.compile(rb"<<ST_\d+>>")
_SPACE = "▁".encode()


def read_decoder_checkpoint(decoder: Path, encoder: Path, tokenizer: Path) -> DecoderCheckpoint:
    """Read the decoder.

    Args:
        decoder: file of the decoder.
        encoder: file of the encoder, whose final norm belongs to our decoder.
        tokenizer: file of the tokenizer.

    Raises:
        InputError: the package flatbuffers is not installed.
    """
    arrays, nodes = read_network(decoder)
    weights: dict[str, Weight] = {
        match[1]: array for name, array in arrays.items() if (match := _UNQUANTIZED.fullmatch(name))
    }
    # In the file of the decoder the embedding has the shape (tokens, width), and its copy in the output layer the
    # layout of all other products.
    embedding = _quantized(arrays, _EMBEDDING)
    weights[EMBEDDING] = QuantizedWeight(
        np.ascontiguousarray(embedding.integers.T),
        np.repeat(embedding.scales[:1], SIZES.tokens),
        np.repeat(embedding.zero_points[:1], SIZES.tokens),
    )
    for node in nodes:
        for name in (name for name in node.inputs if name.endswith(QUANTIZED) and name in arrays):
            if match := _LINEAR.search(node.place):
                parameter = f"layers.{match[1]}.{match[2]}.{match[3]}.weight"
                weights[parameter] = _quantized(arrays, name.removesuffix(QUANTIZED))
    weights["encoder_norm.weight"] = read_encoder_weights(encoder)["encoder.layer_norm.weight"].numpy()
    return DecoderCheckpoint(SIZES, BEGIN, Vocabulary(read_pieces(tokenizer), END), weights)


def read_pieces(tokenizer: Path) -> tuple[bytes, ...]:
    """Read the bytes of each token, empty for special tokens.

    The file has the length of each piece and its bytes. A length takes one byte or, from 128 on, two: 128 plus the low
    seven bits, and the others. "▁" stands for a space.
    """
    data, at = tokenizer.read_bytes(), 0
    pieces: list[bytes] = []
    while at < len(data):
        length, at = data[at], at + 1
        if length >= 128:
            length, at = length - 128 + 128 * data[at], at + 1
        piece = data[at : at + length]
        special = len(pieces) in (UNKNOWN, BEGIN, END) or _SPECIAL_PIECE.fullmatch(piece)
        pieces.append(b"" if special else piece.replace(_SPACE, b" "))
        at += length
    return tuple(pieces)


def _quantized(arrays: dict[str, NDArray[Any]], stem: str) -> QuantizedWeight:
    """Return a weight with signed instead of unsigned integers."""
    integers = arrays[f"{stem}{QUANTIZED}"]
    outputs = integers.shape[1]
    return QuantizedWeight(
        _signed(integers),
        np.full(outputs, arrays[f"{stem}_scale"].reshape(()), dtype=np.float32),
        np.full(outputs, _signed(arrays[f"{stem}_zero_point"]).reshape(()), dtype=np.int8),
    )


def _signed(integers: NDArray[Any]) -> NDArray[np.int8]:
    assert integers.dtype == np.uint8, integers.dtype
    return (integers ^ 0x80).view(np.int8)
