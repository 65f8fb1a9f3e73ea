"""Build step: export Moonshine's streaming encoder from PyTorch to graphs for ONNX Runtime.

The graphs contain no weights; see `stream_asr.acoustic.moonshine.onnx_runtime`. One set of graphs serves every
encoder of the same sizes, fine-tuned ones included. This module needs the packages ``onnx`` and ``onnxscript`` (extra
``export``); recognizing speech does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxscript import optimizer
from torch import Tensor, nn

from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import flatten_layers, group_layers
from stream_asr.acoustic.moonshine.onnx_runtime import (
    GRAPH_FILES,
    SIZES_KEY,
    EightBit,
    fused_copy,
    graph_weights,
    quantize_weight,
    quantized_weights,
)
from stream_asr.acoustic.moonshine.streaming import forward_step

_OPSET = 20
"""Supported by ONNX Runtime 1.19 and later."""

_MAX_CONSTANT = 64
"""Elements of a constant that may stay in the graph; larger ones are weights."""

_NO_LIMIT = 2**31 - 1


def save_graphs(encoder: Encoder, folder: Path) -> None:
    """Write the graphs of an encoder to ``folder``, one for each number format; see `GRAPH_FILES`.

    Args:
        encoder: only its sizes matter.
        folder: where the model is.

    Raises:
        RuntimeError: the exported graph does not have the expected weights.
    """
    encoder = fused_copy(encoder)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in encoder.parameters():  # all different, so that each can be identified in the graph
            nn.init.normal_(parameter)
    model = _export(encoder)
    weights = {name: weight.numpy() for name, weight in graph_weights(encoder).items()}
    name_weights(model.graph, weights)
    for eight_bit, file in GRAPH_FILES.items():
        variant = onnx.ModelProto()
        variant.CopyFrom(model)
        external = set(weights)
        if eight_bit is not None:
            external |= _quantize(variant, quantized_weights(encoder), eight_bit)
        save_without_weights(variant, external, folder / file)


class _StreamingModel(nn.Module):
    """`forward_step` and the CTC head, with flat inputs and outputs.

    The head is an input: models that were fine-tuned for another alphabet differ only in its size.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self,
        samples: Tensor,
        first: Tensor,
        moments: Tensor,
        head_weight: Tensor,
        head_bias: Tensor,
        past: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Run one step.

        Args:
            samples, first, moments: see `forward_step`.
            head_weight: float, shape (width, tokens).
            head_bias: float, shape (tokens,).
            past: ``[keys of layer 0, values of layer 0, keys of layer 1, ...]``.

        Returns:
            Logits, float, shape (1, frames, tokens); `StepOutput.encoded`; the moments; keys and values of the new
            frames in the order of ``past``.
        """
        step = forward_step(self.encoder, samples, first, moments, group_layers(past))
        return (step.frames @ head_weight + head_bias, step.encoded, step.moments, *flatten_layers(step.own))


def _export(encoder: Encoder) -> onnx.ModelProto:
    """Export `_StreamingModel`."""
    sizes, tokens = encoder.sizes, 32
    lengths = [11 + layer for layer in range(sizes.layers) for _ in range(2)]
    past = [torch.zeros(1, sizes.heads, length, sizes.width // sizes.heads) for length in lengths]
    head = torch.zeros(sizes.width, tokens), torch.zeros(tokens)
    arguments = (torch.zeros(1, 16_000), torch.tensor(0.0), torch.ones(3, dtype=torch.float64), *head, past)
    any_length = torch.export.Dim.AUTO
    names = [f"past_{kind}_{layer}" for layer in range(sizes.layers) for kind in ("keys", "values")]
    return export_graph(
        _StreamingModel(encoder),
        arguments,
        ({1: any_length}, {}, {}, {1: any_length}, {0: any_length}, [{2: any_length} for _ in past]),
        ["samples", "first", "moments", "head_weight", "head_bias", *names],
        ["logits", "encoded", "new_moments", *(name.replace("past", "new") for name in names)],
        repr(sizes),
    )


def export_graph(
    network: nn.Module,
    arguments: tuple[Any, ...],
    dynamic_shapes: tuple[Any, ...],
    inputs: list[str],
    outputs: list[str],
    sizes: str,
) -> onnx.ModelProto:
    """Export a network and fold everything that depends on weights alone.

    Args:
        network: the network.
        arguments: example arguments.
        dynamic_shapes: their variable dimensions.
        inputs: names of the flattened arguments.
        outputs: names of the outputs.
        sizes: stored in the graph under `SIZES_KEY`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own code
        program = torch.onnx.export(
            network.eval(),
            arguments,
            dynamo=True,
            dynamic_shapes=dynamic_shapes,
            input_names=inputs,
            output_names=outputs,
            opset_version=_OPSET,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    optimizer.optimize(program.model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    model: onnx.ModelProto = program.model_proto
    for value in (*model.graph.node, *model.graph.value_info):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    model.metadata_props.add(key=SIZES_KEY, value=sizes)
    return model


def name_weights(graph: onnx.GraphProto, weights: dict[str, NDArray[np.float32]]) -> None:
    """Find each weight among the graph's constants by its value, and give it its name."""
    names = {(weight.shape, weight.tobytes()): name for name, weight in weights.items()}
    renamed = {}
    for initializer in graph.initializer:
        value = numpy_helper.to_array(initializer)
        name = names.get((value.shape, value.tobytes()))
        if name is not None:
            renamed[initializer.name] = initializer.name = name
        elif value.size > _MAX_CONSTANT:
            raise RuntimeError(f"{initializer.name} of shape {value.shape} is not a weight")
    if missing := weights.keys() - set(renamed.values()):
        raise RuntimeError(f"not in the graph: {', '.join(sorted(missing))}")
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _quantize(model: onnx.ModelProto, names: set[str], eight_bit: EightBit) -> set[str]:
    """Replace products with the named weights, and the addition of a bias, by ``DynamicQuantizeMatMul``.

    Returns:
        Names of the new weights.
    """
    graph = model.graph
    consumers = {name: node for node in graph.node for name in node.input}
    constants = {initializer.name: initializer for initializer in graph.initializer}
    fused: list[onnx.NodeProto] = []
    added: set[str] = set()
    for place, node in enumerate(graph.node):
        if node.op_type != "MatMul" or node.input[1] not in names:
            continue
        weight, consumer = constants[node.input[1]], consumers[node.output[0]]
        operands = quantize_weight(weight.name, numpy_helper.to_array(weight), eight_bit)
        inputs, output = [node.input[0], *operands], node.output[0]
        if consumer.op_type == "Add" and consumer.input[1] == weight.name.replace("weight", "bias"):
            fused.append(consumer)
            inputs, output = [*inputs, consumer.input[1]], consumer.output[0]
        product = helper.make_node("DynamicQuantizeMatMul", inputs, [output], domain="com.microsoft")
        graph.node[place].CopyFrom(product)
        added |= set(operands)
        graph.initializer.remove(weight)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in operands.items())
    for node in fused:
        graph.node.remove(node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return added


def save_without_weights(model: onnx.ModelProto, weights: Set[str], path: Path) -> None:
    """Check a graph and write it; the named initializers are external."""
    onnx.checker.check_model(model)
    for initializer in model.graph.initializer:
        if initializer.name in weights:
            _make_external(initializer)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _make_external(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="handed-in")
