"""Run Moonshine's decoder in ONNX Runtime, which is faster on a CPU than PyTorch.

As for the encoder, graph files contain no weights. Weights that are stored in eight bits are handed in as they are;
only their columns are reordered and their scales multiplied. See `stream_asr.acoustic.moonshine.decoder_export`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from stream_asr.acoustic.moonshine.decoder import DecoderSizes
from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, QuantizedWeight, Weight, as_parameter
from stream_asr.acoustic.moonshine.layers import fused_order
from stream_asr.acoustic.moonshine.onnx_runtime import EightBit, quantize_weight, weight_type
from stream_asr.acoustic.moonshine.second_pass import Cache, DecoderPass, PassOutput, RunPasses
from stream_asr.array_types import FloatArray


@dataclass(frozen=True, slots=True)
class DecoderGraphs:
    """File names of the graphs for a number format.

    Attributes:
        project: encoder states to keys and values.
        step: tokens to scores of the next tokens.
    """

    project: str
    step: str


GRAPH_FILES: dict[EightBit | None, DecoderGraphs] = {
    None: DecoderGraphs("decoder.project.onnx", "decoder.onnx"),
    "int8": DecoderGraphs("decoder.project.int8.onnx", "decoder.int8.onnx"),
    "uint8": DecoderGraphs("decoder.project.uint8.onnx", "decoder.uint8.onnx"),
}
"""The graphs in a model's folder. None stands for float32."""

PROJECT_WEIGHTS = ("encoder_norm.", "cross_proj.")
"""Beginnings of the names of the weights that `DecoderGraphs.project` needs. The other graph needs all others."""

Product: TypeAlias = "FloatArray | QuantizedWeight"
"""A matrix of shape (inputs, outputs)."""


class OnnxDecoder:
    """See `DecoderRunner`.

    Args:
        checkpoint: the decoder.
        folder: holds graphs for a decoder of these sizes; see `has_graphs`.
        int8: run all products in eight bits.

    Raises:
        Exception: of any kind, if ONNX Runtime cannot be imported or is too old, or does not run the graphs.
    """

    backend = "onnxruntime"

    def __init__(self, checkpoint: DecoderCheckpoint, folder: Path, *, int8: bool) -> None:
        # Imported late: where the import fails, PyTorch runs the model.
        import onnxruntime

        self._sizes = checkpoint.sizes
        eight_bit = weight_type(int8=int8)
        weights = external_weights(checkpoint, eight_bit)
        # Kept alive: ONNX Runtime may use the arrays in place.
        self._weights = {name: onnxruntime.OrtValue.ortvalue_from_numpy(weight) for name, weight in weights.items()}

        def load(file: str, names: Collection[str]) -> Any:
            options = onnxruntime.SessionOptions()
            # Requests run in parallel, one on each core.
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.add_external_initializers(list(names), [self._weights[name] for name in names])
            return onnxruntime.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])

        projecting = {name for name in weights if name.startswith(PROJECT_WEIGHTS)}
        self._project = load(GRAPH_FILES[eight_bit].project, projecting)
        self._step = load(GRAPH_FILES[eight_bit].step, weights.keys() - projecting)
        self._frames, self._past = (
            [f"{kind}_{part}_{layer}" for layer in range(self._sizes.layers) for part in ("keys", "values")]
            for kind in ("encoded", "past")
        )
        # A graph that does not run should fail now.
        [frames] = self.project([np.zeros((2, self._sizes.width), dtype=np.float32)])
        self._run(DecoderPass((0,), (0,), self.empty()), frames)

    def empty(self) -> Cache:
        empty = np.zeros((1, self._sizes.heads, 0, self._sizes.head_width), dtype=np.float32)
        return 2 * self._sizes.layers * (empty,)

    def project(self, encoded: Sequence[FloatArray]) -> list[Cache]:
        return [tuple(self._project.run(None, {"encoded": states[None]})) for states in encoded]

    def concat(self, first: Cache, second: Cache) -> Cache:
        return tuple(_concat(*pair) for pair in zip(first, second, strict=True))

    def pack(self, cache: Cache) -> Cache:
        return tuple(torch.from_numpy(part).half().numpy() for part in cache)

    def cut(self, cache: Cache, length: int) -> Cache:
        return cache if length >= cache[0].shape[2] else tuple(part[:, :, :length].copy() for part in cache)

    def begin(self, encoded: Sequence[Cache]) -> RunPasses:
        return lambda passes: [self._run(each, encoded[item]) for item, each in passes]

    def _run(self, each: DecoderPass, frames: Cache) -> PassOutput:
        inputs: dict[str, NDArray[Any]] = {
            "tokens": np.array([each.tokens], dtype=np.int64),
            "targets": np.array(each.targets, dtype=np.int64),
            "first": np.array(each.past[0].shape[2], dtype=np.float32),
            **dict(zip(self._frames, frames, strict=True)),
            **dict(zip(self._past, each.past, strict=True)),
        }
        best, best_log_probs, target_log_probs, *past = self._step.run(None, inputs)
        return PassOutput(best.tolist(), best_log_probs.tolist(), target_log_probs.tolist(), tuple(past))


def _concat(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    # PyTorch converts half precision much faster than NumPy.
    later = torch.from_numpy(second)
    joined: NDArray[Any] = torch.cat((torch.from_numpy(first).to(later.dtype), later), dim=2).numpy()
    return joined


def has_graphs(folder: Path, sizes: DecoderSizes, *, int8: bool = False) -> bool:
    """Whether a folder holds graphs that `OnnxDecoder` can load for a decoder of these sizes."""
    files = GRAPH_FILES[weight_type(int8=int8)]
    paths = [folder / file for file in (files.project, files.step)]
    # Metadata is stored verbatim; parsing the file would need the package onnx.
    return all(path.is_file() and repr(sizes).encode() in path.read_bytes() for path in paths)


def external_weights(checkpoint: DecoderCheckpoint, eight_bit: EightBit | None) -> dict[str, NDArray[Any]]:
    """Return the weights that graphs of this number format need, by their names in the graphs."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, weight in fused_weights(checkpoint, int8=eight_bit is not None).items():
        if not isinstance(weight, QuantizedWeight):
            arrays[name] = weight
            continue
        parts: list[NDArray[Any]] = [weight.integers, weight.zero_points]
        if eight_bit == "uint8":
            parts = [(part ^ -128).view(np.uint8) for part in parts]
        arrays |= {f"{name}.quantized": parts[0], f"{name}.scales": weight.scales, f"{name}.zero_points": parts[1]}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def fused_weights(checkpoint: DecoderCheckpoint, *, int8: bool) -> dict[str, Product]:
    """Return the weights of a decoder after `Decoder.fuse`, those of products in the shape (inputs, outputs).

    Args:
        checkpoint: the decoder.
        int8: return the matrices in eight bits. Matrices in floating point are quantized, with a scale for each output.
    """
    sizes = checkpoint.sizes
    as_product = _as_int8 if int8 else _as_float
    weights: dict[str, Product] = {}
    for name, weight in checkpoint.weights.items():
        matrix = isinstance(weight, QuantizedWeight) or weight.ndim == 2
        weights[name] = as_product(name, weight) if matrix else as_parameter(weight)
    order = [
        head * sizes.head_width + place
        for head in range(sizes.heads)
        for place in fused_order(sizes.rotary_dim, sizes.head_width)
    ]
    scale, cross = 1 / math.sqrt(sizes.head_width), []
    for layer in (f"layers.{index}" for index in range(sizes.layers)):
        query, key, value = (weights.pop(f"{layer}.self_attn.{kind}_proj.weight") for kind in "qkv")
        query, key = _scale(_reorder(query, order), scale), _reorder(key, order)
        weights[f"{layer}.self_attn.qkv_proj.weight"] = _join([query, key, value])
        name = f"{layer}.encoder_attn.q_proj.weight"
        weights[name] = _scale(weights[name], scale)
        cross += [weights.pop(f"{layer}.encoder_attn.{kind}_proj.weight") for kind in "kv"]
    weights["cross_proj.weight"] = _join(cross)
    return weights


def _as_float(_: str, weight: Weight) -> FloatArray:
    return weight.dequantize() if isinstance(weight, QuantizedWeight) else np.ascontiguousarray(as_parameter(weight).T)


def _as_int8(name: str, weight: Weight) -> QuantizedWeight:
    if isinstance(weight, QuantizedWeight):
        return weight
    quantized, scales, zero_points = quantize_weight(name, as_parameter(weight).T, "int8").values()
    return QuantizedWeight(quantized, scales, zero_points)


def _reorder(weight: Product, order: list[int]) -> Product:
    if isinstance(weight, QuantizedWeight):
        return QuantizedWeight(weight.integers[:, order], weight.scales[order], weight.zero_points[order])
    return weight[:, order]


def _scale(weight: Product, factor: float) -> Product:
    if isinstance(weight, QuantizedWeight):
        return replace(weight, scales=weight.scales * np.float32(factor))
    scaled: FloatArray = weight * np.float32(factor)
    return scaled


def _join(weights: Sequence[Product]) -> Product:
    """Put matrices side by side."""
    quantized = [weight for weight in weights if isinstance(weight, QuantizedWeight)]
    if not quantized:
        return np.concatenate([weight for weight in weights if not isinstance(weight, QuantizedWeight)], axis=1)
    return QuantizedWeight(
        np.concatenate([weight.integers for weight in quantized], axis=1),
        np.concatenate([weight.scales for weight in quantized]),
        np.concatenate([weight.zero_points for weight in quantized]),
    )
