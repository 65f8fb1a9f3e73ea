"""Files of a Moonshine decoder in a model's folder: sizes and vocabulary in JSON, weights in safetensors.

A weight is stored under its parameter name in float16 or float32, as PyTorch lays it out, or quantized to eight bits as
three tensors, with the layout of ONNX, shape (inputs, outputs):

- ``NAME.quantized``, int8, shape (inputs, outputs); for the embedding, shape (width, tokens);
- ``NAME.scale``, float32, and ``NAME.zero_point``, int8, both of shape () or (outputs,).

The value of a quantized weight is ``(quantized - zero_point) * scale``. Fine-tuning writes float16.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from stream_asr.acoustic.base import Vocabulary
from stream_asr.acoustic.moonshine.decoder import Decoder, DecoderSizes, parameter_shapes
from stream_asr.array_types import FloatArray
from stream_asr.errors import ModelError

CONFIG_FILE = "decoder.json"
WEIGHTS_FILE = "decoder.safetensors"

EMBEDDING = "embed_tokens.weight"

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedWeight:
    """A matrix in eight bits.

    Attributes:
        integers: int8, shape (inputs, outputs).
        scales: float32, shape (outputs,).
        zero_points: int8, shape (outputs,).
    """

    integers: NDArray[np.int8]
    scales: FloatArray
    zero_points: NDArray[np.int8]

    def dequantize(self) -> FloatArray:
        """Return the values, float32, shape (inputs, outputs)."""
        values = self.integers.astype(np.float32)
        values -= self.zero_points.astype(np.float32)
        values *= self.scales
        return values


Weight: TypeAlias = "FloatArray | NDArray[np.float16] | QuantizedWeight"
"""A parameter: an array as PyTorch lays it out, float32 or float16, or a quantized matrix."""


@dataclass(frozen=True, slots=True, eq=False)
class DecoderCheckpoint:
    """A decoder in memory.

    Attributes:
        sizes: its shapes.
        begin: the token that every hypothesis follows.
        vocabulary: its tokens.
        weights: all parameters of `Decoder`, by name.
    """

    sizes: DecoderSizes
    begin: int
    vocabulary: Vocabulary
    weights: Mapping[str, Weight]


def read_decoder(folder: Path, name: str) -> DecoderCheckpoint | None:
    """Read the decoder of a model.

    Args:
        folder: of the model.
        name: the name or folder that the user gave.

    Returns:
        None if the folder has no decoder.

    Raises:
        ModelError: the files are damaged.
    """
    if not (folder / CONFIG_FILE).exists():
        return None
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        sizes = DecoderSizes(**config["sizes"])
        vocabulary = Vocabulary(tuple(map(_piece_from_text, config["pieces"])), int(config["end"]))
        begin = int(config["begin"])
        if len(vocabulary.pieces) != sizes.tokens:
            raise ValueError(f"{len(vocabulary.pieces)} tokens instead of {sizes.tokens}")
        if not all(0 <= token < sizes.tokens for token in (begin, vocabulary.end)):
            raise ValueError("its special tokens are out of range")
        return DecoderCheckpoint(sizes, begin, vocabulary, _read_weights(folder / WEIGHTS_FILE, sizes))
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split()) or repr(error)
        raise ModelError(f"cannot load the decoder of {name!r} ({CONFIG_FILE}, {WEIGHTS_FILE}): {reason}") from error


def save_decoder(folder: Path, checkpoint: DecoderCheckpoint) -> None:
    """Write a decoder into a model's folder.

    To save a fine-tuned decoder, pass the checkpoint that it was loaded from with its `float_weights`.

    Args:
        folder: exists.
        checkpoint: the decoder.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for name, weight in checkpoint.weights.items():
        if isinstance(weight, QuantizedWeight):
            tensors[f"{name}.quantized"] = weight.integers
            tensors[f"{name}.scale"] = _shrink(weight.scales)
            tensors[f"{name}.zero_point"] = _shrink(weight.zero_points)
        else:
            tensors[name] = weight
    config = {
        "sizes": asdict(checkpoint.sizes),
        "begin": checkpoint.begin,
        "end": checkpoint.vocabulary.end,
        "pieces": [_text_from_piece(piece) for piece in checkpoint.vocabulary.pieces],
    }
    text = json.dumps(config, ensure_ascii=False, separators=(",", ":")).replace('"pieces":', '\n"pieces":')
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS_FILE)


def float_weights(decoder: Decoder, dtype: torch.dtype = torch.float16) -> dict[str, Weight]:
    """Return the parameters of a trained decoder for `DecoderCheckpoint.weights`."""
    return {name: weight.detach().cpu().to(dtype).numpy() for name, weight in decoder.state_dict().items()}


def load_decoder(checkpoint: DecoderCheckpoint, dtype: torch.dtype = torch.float32) -> Decoder:
    """Create the module for a checkpoint."""
    decoder = Decoder(checkpoint.sizes)
    weights = {name: torch.from_numpy(as_parameter(weight)) for name, weight in checkpoint.weights.items()}
    decoder.load_state_dict({name: weight.to(dtype) for name, weight in weights.items()}, assign=True)
    return decoder.eval()


def as_parameter(weight: Weight) -> FloatArray:
    """Return a weight as PyTorch lays it out, float32."""
    if isinstance(weight, QuantizedWeight):
        return np.ascontiguousarray(weight.dequantize().T)
    return weight.astype(np.float32, copy=False)


def _read_weights(file: Path, sizes: DecoderSizes) -> dict[str, Weight]:
    weights: dict[str, Weight] = {}
    with safe_open(file, "np") as tensors:
        stored = set(tensors.keys())
        for name, shape in parameter_shapes(sizes).items():
            if name in stored:
                weight = tensors.get_tensor(name)
                if weight.shape != shape or weight.dtype not in (np.float16, np.float32):
                    raise ValueError(f"{name} is {weight.dtype} of shape {weight.shape}, not float of shape {shape}")
                weights[name] = weight
            elif f"{name}.quantized" in stored:
                weights[name] = _quantized(
                    name,
                    shape,
                    *(tensors.get_tensor(f"{name}.{part}") for part in ("quantized", "scale", "zero_point")),
                )
            else:
                raise ValueError(f"{name} is missing")
    return weights


def _quantized(
    name: str, shape: tuple[int, ...], integers: NDArray[Any], scale: NDArray[Any], zero_point: NDArray[Any]
) -> QuantizedWeight:
    if integers.shape != shape[::-1] or not integers.dtype == zero_point.dtype == np.dtype(np.int8):
        raise ValueError(f"{name} is {integers.dtype} of shape {integers.shape}, not int8 of shape {shape[::-1]}")
    outputs = integers.shape[1:]
    return QuantizedWeight(
        integers,
        np.ascontiguousarray(np.broadcast_to(scale.astype(np.float32), outputs)),
        np.ascontiguousarray(np.broadcast_to(zero_point, outputs)),
    )


def _shrink(values: NDArray[Any]) -> NDArray[Any]:
    """Store one value where all are equal."""
    return values[0] if (values == values[0]).all() else values


def _piece_from_text(text: str) -> bytes:
    if len(text) == 6 and (match := _BYTE.fullmatch(text)):
        return bytes([int(match[1], 16)])
    return text.encode()


def _text_from_piece(piece: bytes) -> str:
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        [byte] = piece  # only single bytes are not text
        return f"<0x{byte:02X}>"
    return "".join(f"<0x{byte:02X}>" for byte in piece) if _BYTE.fullmatch(text) else text
