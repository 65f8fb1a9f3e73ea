"""Files of the package `moonshine-voice` (MIT), which contains Moonshine tiny with weights of 8 bits.

The networks are in ONNX Runtime's own format. ONNX Runtime's Python reader gives their arrays and nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_asr.errors import InputError

PACKAGE = "moonshine_voice"
FOLDER = "assets/tiny-en"
ENCODER, DECODER, TOKENIZER = "encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"

QUANTIZED = "_quantized"
"""Ending of the names of quantized arrays."""

_TENSOR_TYPES: dict[int, Any] = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}
"""NumPy types by ONNX's ``TensorProto.DataType``."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph.

    Attributes:
        place: names of the node and of its outputs, separated by spaces; they contain the path of the module.
        inputs: names of its inputs.
    """

    place: str
    inputs: tuple[str, ...]


def find_package_file(file: str) -> Path:
    """Return the path of a file in the installed package, without importing the package.

    Args:
        file: `ENCODER`, `DECODER` or `TOKENIZER`.

    Raises:
        InputError: the package is not installed, or its version does not contain the file.
    """
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / FOLDER / file).exists():
            return path
    raise InputError(
        f"the pretrained model ({FOLDER}/{file}) is not installed: pip install --no-deps moonshine-voice==0.0.62"
    )


def read_network(path: Path) -> tuple[dict[str, NDArray[Any]], list[Node]]:
    """Read the arrays, by name, and the nodes of a network, those of the branches of conditions included.

    Raises:
        InputError: the package flatbuffers is not installed.
    """
    try:
        from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession
    except ImportError as error:
        raise InputError("reading the network needs the package flatbuffers: pip install flatbuffers") from error
    arrays: dict[str, NDArray[Any]] = {}
    nodes: list[Node] = []
    graphs = [InferenceSession.GetRootAs(path.read_bytes(), 0).Model().Graph()]
    while graphs:
        graph = graphs.pop()
        for tensor in map(graph.Initializers, range(graph.InitializersLength())):
            arrays[tensor.Name().decode()] = _to_array(tensor)
        for node in map(graph.Nodes, range(graph.NodesLength())):
            inputs = tuple(node.Inputs(index).decode() for index in range(node.InputsLength()))
            outputs = (node.Outputs(index).decode() for index in range(node.OutputsLength()))
            nodes.append(Node(" ".join((node.Name().decode(), *outputs)), inputs))
            attributes = map(node.Attributes, range(node.AttributesLength()))
            graphs += [branch for attribute in attributes if (branch := attribute.G()) is not None]
    return arrays, nodes


def _to_array(tensor: Any) -> NDArray[Any]:
    shape = [tensor.Dims(index) for index in range(tensor.DimsLength())]
    if not tensor.RawDataLength():
        return np.zeros(0)
    return np.frombuffer(tensor.RawDataAsNumpy().tobytes(), _TENSOR_TYPES[tensor.DataType()]).reshape(shape)
