"""The pretrained encoder: Moonshine tiny, from the package `moonshine-voice` (MIT).

The package contains the encoder in ONNX Runtime's own format, with weights of 8 bits. This module reads the file with
ONNX Runtime's Python reader, dequantizes the weights and renames them.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stream_asr.errors import InputError

PACKAGE = "moonshine_voice"
FILE = "assets/tiny-en/encoder_model.ort"
_TENSOR_TYPES: dict[int, Any] = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}
"""NumPy types by ONNX's ``TensorProto.DataType``."""

_QUANTIZED = "_quantized"
_LINEAR = re.compile(r"/layers\.(\d+)/(self_attn|mlp)/(\w+)/")
_UNQUANTIZED = re.compile(r"conv\d\.(weight|bias)|(layers\.\d+\.)?\w*layer_?norm\.weight|layers\.\d+\.mlp\.fc\d\.bias")


def find_encoder_file() -> Path:
    """Return the path of the encoder in the installed package, without importing the package.

    Raises:
        InputError: the package is not installed, or its version does not contain the encoder.
    """
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / FILE).exists():
            return path
    raise InputError(f"the pretrained encoder ({FILE}) is not installed: pip install --no-deps moonshine-voice==0.0.62")


def read_encoder_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of the encoder.

    Returns:
        float32 tensors with the names of `stream_asr.acoustic.moonshine.transformers.MoonshineForCTC`. The output layer
        is missing.

    Raises:
        InputError: the package flatbuffers is not installed.
    """
    try:
        from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession
    except ImportError as error:
        raise InputError("reading the encoder needs the package flatbuffers: pip install flatbuffers") from error
    graph = InferenceSession.GetRootAs(path.read_bytes(), 0).Model().Graph()
    arrays = {
        tensor.Name().decode(): _to_array(tensor)
        for tensor in map(graph.Initializers, range(graph.InitializersLength()))
    }
    weights = {parameter: array for name, array in arrays.items() if (parameter := _parameter_name(name))}
    for node in map(graph.Nodes, range(graph.NodesLength())):
        node_name = node.Name().decode()
        inputs = [node.Inputs(index).decode() for index in range(node.InputsLength())]
        outputs = [node.Outputs(index).decode() for index in range(node.OutputsLength())]
        for quantized in (name for name in inputs if name.endswith(_QUANTIZED) and name in arrays):
            match = _LINEAR.search(" ".join((node_name, *outputs)))
            assert match is not None, f"unexpected node {node_name}"
            stem = quantized.removesuffix(_QUANTIZED)
            integers = arrays[quantized].astype(np.float32) - arrays[f"{stem}_zero_point"].astype(np.float32)
            # ONNX stores the transposed matrix.
            weights[f"layers.{match[1]}.{match[2]}.{match[3]}.weight"] = (integers * arrays[f"{stem}_scale"]).T
        if node_name in ("/groupnorm/Mul", "/groupnorm/Add"):
            kind = "weight" if node_name.endswith("Mul") else "bias"
            weights[f"groupnorm.{kind}"] = next(arrays[name] for name in inputs if name in arrays).reshape(-1)
    return {f"encoder.{name}": torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in weights.items()}


def _to_array(tensor: Any) -> npt.NDArray[Any]:
    shape = [tensor.Dims(index) for index in range(tensor.DimsLength())]
    if not tensor.RawDataLength():
        return np.zeros(0)
    return np.frombuffer(tensor.RawDataAsNumpy().tobytes(), _TENSOR_TYPES[tensor.DataType()]).reshape(shape)


def _parameter_name(name: str) -> str | None:
    """Return the model's name of an unquantized weight; None for other arrays."""
    name = name.removesuffix("_add_tensor")
    return name if _UNQUANTIZED.fullmatch(name) else None
