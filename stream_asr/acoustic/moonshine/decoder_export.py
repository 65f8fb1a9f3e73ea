"""Build step: export Moonshine's decoder from PyTorch to graphs for ONNX Runtime.

See `stream_asr.acoustic.moonshine.onnx_export`, which does the same for the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from stream_asr.acoustic.int8 import INT8_MAX
from stream_asr.acoustic.moonshine.decoder import Decoder, DecoderSizes, forward_step
from stream_asr.acoustic.moonshine.decoder_onnx import GRAPH_FILES, PROJECT_WEIGHTS
from stream_asr.acoustic.moonshine.layers import flatten_layers, group_layers
from stream_asr.acoustic.moonshine.onnx_export import export_graph, name_weights, save_without_weights
from stream_asr.acoustic.moonshine.onnx_runtime import EightBit, quantize_weight

_STEP, _ZERO, _MIN_SCALE, _LAST_AXIS = "input_step", "input_zero_point", "min_input_scale", "last_axis"
"""Names of the constants that quantize the inputs of products."""


def save_decoder_graphs(sizes: DecoderSizes, folder: Path) -> None:
    """Write the graphs for decoders of these sizes to ``folder``; see `GRAPH_FILES`.

    Raises:
        RuntimeError: an exported graph does not have the expected weights.
    """
    decoder = Decoder(sizes).eval().requires_grad_(False)
    decoder.fuse()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in decoder.parameters():  # all different, so that each can be identified in the graph
            nn.init.normal_(parameter)
    weights = _weights(decoder)
    projecting = {name for name in weights if name.startswith(PROJECT_WEIGHTS)}
    for field, model, used in (
        ("project", _export_project(decoder), projecting),
        ("step", _export_step(decoder), weights.keys() - projecting),
    ):
        needed = {name: weights[name] for name in used}
        name_weights(model.graph, needed)
        for eight_bit, files in GRAPH_FILES.items():
            variant = onnx.ModelProto()
            variant.CopyFrom(model)
            if eight_bit is not None:
                _quantize(variant, {name for name, weight in needed.items() if weight.ndim == 2}, eight_bit)
            names = {initializer.name for initializer in variant.graph.initializer}
            external = {name for name in names if any(name.startswith(weight) for weight in needed)}
            save_without_weights(variant, external, folder / getattr(files, field))


def _weights(decoder: Decoder) -> dict[str, NDArray[Any]]:
    """Return the weights by name, those of products in the shape (inputs, outputs)."""
    weights: dict[str, NDArray[Any]] = {name: weight.numpy() for name, weight in decoder.state_dict().items()}
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Linear):
            weights[f"{name}.weight"] = np.ascontiguousarray(module.weight.numpy().T)
    return weights


class _Project(nn.Module):
    """`Decoder.project` with flat outputs: ``(keys of layer 0, values of layer 0, keys of layer 1, ...)``."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, encoded: Tensor) -> tuple[Tensor, ...]:
        return flatten_layers(self.decoder.project(encoded))


class _Step(nn.Module):
    """`forward_step` and the output layer, with flat inputs and outputs."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, tokens: Tensor, targets: Tensor, first: Tensor, encoded: Sequence[Tensor], past: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Run one step.

        Args:
            tokens, first: see `forward_step`.
            targets: for each token one whose probability to follow is requested, int64, shape (tokens,).
            encoded: ``[keys of layer 0, values of layer 0, keys of layer 1, ...]`` of the encoder states.
            past: the same of earlier tokens.

        Returns:
            For each token the most probable next token, its log-probability, and that of the target, each of shape
            (tokens,); keys and values of the earlier tokens and of these, in the order of ``past``.
        """
        before = group_layers(past)
        states, own = forward_step(self.decoder, tokens, first, group_layers(encoded), before)
        log_probs = self.decoder.logits(states[0]).log_softmax(-1)
        best = log_probs.argmax(-1)
        best_log_probs, target_log_probs = log_probs.gather(1, torch.stack((best, targets), dim=1)).unbind(1)
        joined = [earlier.concat(new) for earlier, new in zip(before, own, strict=True)]
        return (best, best_log_probs, target_log_probs, *flatten_layers(joined))


def _export_project(decoder: Decoder) -> onnx.ModelProto:
    sizes = decoder.sizes
    return export_graph(
        _Project(decoder),
        (torch.zeros(1, 17, sizes.width),),
        ({1: torch.export.Dim.AUTO},),
        ["encoded"],
        _names("encoded", sizes),
        repr(sizes),
    )


def _export_step(decoder: Decoder) -> onnx.ModelProto:
    sizes, any_length = decoder.sizes, torch.export.Dim.AUTO
    frames, past = (
        [torch.zeros(1, sizes.heads, length, sizes.head_width) for _ in range(2 * sizes.layers)] for length in (23, 11)
    )
    tokens = torch.zeros(1, 5, dtype=torch.int64)
    return export_graph(
        _Step(decoder),
        (tokens, tokens[0], torch.tensor(0.0), frames, past),
        ({1: any_length}, {0: any_length}, {}, [{2: any_length} for _ in frames], [{2: any_length} for _ in past]),
        ["tokens", "targets", "first", *_names("encoded", sizes), *_names("past", sizes)],
        ["best", "best_log_probs", "target_log_probs", *_names("new", sizes)],
        repr(sizes),
    )


def _names(kind: str, sizes: DecoderSizes) -> list[str]:
    return [f"{kind}_{part}_{layer}" for layer in range(sizes.layers) for part in ("keys", "values")]


def _quantize(model: onnx.ModelProto, names: Set[str], eight_bit: EightBit) -> None:
    """Run the products with the named weights, and the embedding, in eight bits.

    The input of a product is quantized with a scale for each row. So the result for a token does not depend on the
    other tokens of a pass, as it would with ``DynamicQuantizeMatMul``, which has one scale for all rows.
    """
    graph, nodes = model.graph, list[onnx.NodeProto]()
    shapes = {initializer.name: tuple(initializer.dims) for initializer in graph.initializer}
    operands = {
        name: quantize_weight(name, np.ones(shapes[name], dtype=np.float32), eight_bit) for name in sorted(names)
    }
    for node in graph.node:
        weight = next((name for name in node.input if name in names), None)
        if weight is None:
            nodes.append(node)
        elif node.op_type == "Gather":
            nodes += _quantized_embedding(node, list(operands[weight]))
        else:
            nodes += _quantized_product(node, list(operands[weight]))
    constants: dict[str, NDArray[Any]] = {
        _STEP: np.array(1 / INT8_MAX, dtype=np.float32),
        _ZERO: np.array(INT8_MAX + 1, dtype=np.uint8),
        _MIN_SCALE: np.array(1e-12, dtype=np.float32),
        _LAST_AXIS: np.array([-1]),
    }
    kept = [initializer for initializer in graph.initializer if initializer.name not in names]
    added = {name: array for weight in operands.values() for name, array in weight.items()} | constants
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(numpy_helper.from_array(array, name) for name, array in added.items())])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _quantized_embedding(node: onnx.NodeProto, operands: list[str]) -> list[onnx.NodeProto]:
    """Look up columns, and dequantize them."""
    [output] = node.output
    columns = [f"{output}.{place}" for place in range(3)]
    lookups = [
        helper.make_node("Gather", [operand, node.input[1]], [column], axis=int(place == 0))
        for place, (operand, column) in enumerate(zip(operands, columns, strict=True))
    ]
    return [*lookups, helper.make_node("DequantizeLinear", columns, [output], axis=1)]


def _quantized_product(node: onnx.NodeProto, operands: list[str]) -> list[onnx.NodeProto]:
    """Divide each row by its largest absolute value, multiply in eight bits, and multiply by that value again."""
    [output], [x, _], [weight, scales, zero_points] = node.output, node.input, operands
    size, largest, scale, divided, rounded, product = (f"{output}.{place}" for place in range(6))
    return [
        helper.make_node("Abs", [x], [size]),
        helper.make_node("ReduceMax", [size, _LAST_AXIS], [largest], keepdims=1),
        helper.make_node("Max", [largest, _MIN_SCALE], [scale]),
        helper.make_node("Div", [x, scale], [divided]),
        helper.make_node("QuantizeLinear", [divided, _STEP, _ZERO], [rounded]),
        helper.make_node(
            "MatMulIntegerToFloat",
            [rounded, weight, _STEP, scales, _ZERO, zero_points],
            [product],
            domain="com.microsoft",
        ),
        helper.make_node("Mul", [product, scale], [output]),
    ]
