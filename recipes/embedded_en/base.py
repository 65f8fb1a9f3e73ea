"""The encoder that the training starts from: Moonshine tiny's, out of the package `moonshine-voice` (MIT).

The package holds it for ONNX Runtime, with weights of 8 bits. ONNX Runtime's own reader of that format gives the
graph; the weights are multiplied out and named as the model names them.
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
"""From the numbers of ONNX's ``TensorProto.DataType``."""

_QUANTIZED = "_quantized"
_LINEAR = re.compile(r"/layers\.(\d+)/(self_attn|mlp)/(\w+)/")


def encoder_file() -> Path:
    """Where the package keeps its encoder; the package itself is not imported.

    Raises:
        InputError: it is not installed, or another version of it is.
    """
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / FILE).exists():
            return path
    raise InputError(
        f"the encoder to start from is in a package: pip install --no-deps moonshine-voice==0.0.62 ({FILE})"
    )


def read_encoder(path: Path) -> dict[str, Tensor]:
    """The weights as `stream_asr.acoustic.moonshine.transformers.MoonshineForCTC` names them, without the output layer.

    Raises:
        InputError: ONNX Runtime, which knows the format, is not installed.
    """
    try:
        from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession
    except ImportError as error:
        raise InputError("reading the encoder needs two packages: pip install onnxruntime flatbuffers") from error
    graph = InferenceSession.GetRootAs(path.read_bytes(), 0).Model().Graph()
    arrays = {
        tensor.Name().decode(): _array(tensor) for tensor in map(graph.Initializers, range(graph.InitializersLength()))
    }
    weights = {_plain_name(name): array for name, array in arrays.items() if _plain_name(name)}
    for node in map(graph.Nodes, range(graph.NodesLength())):
        inputs = [node.Inputs(place).decode() for place in range(node.InputsLength())]
        outputs = [node.Outputs(place).decode() for place in range(node.OutputsLength())]
        for quantized in (name for name in inputs if name.endswith(_QUANTIZED) and name in arrays):
            place = _LINEAR.search(" ".join((node.Name().decode(), *outputs)))
            assert place is not None, f"what is {node.Name()}?"
            stem = quantized.removesuffix(_QUANTIZED)
            integers = arrays[quantized].astype(np.float32) - arrays[f"{stem}_zero_point"].astype(np.float32)
            name = f"layers.{place[1]}.{place[2]}.{place[3]}.weight"
            weights[name] = (integers * arrays[f"{stem}_scale"]).T  # ONNX multiplies from the other side
        if node.Name().decode() in ("/groupnorm/Mul", "/groupnorm/Add"):
            kind = "weight" if node.Name().endswith(b"Mul") else "bias"
            weights[f"groupnorm.{kind}"] = next(arrays[name] for name in inputs if name in arrays).reshape(-1)
    return {f"encoder.{name}": torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in weights.items()}


def _array(tensor: Any) -> npt.NDArray[Any]:
    shape = [tensor.Dims(place) for place in range(tensor.DimsLength())]
    if not tensor.RawDataLength():
        return np.zeros(0)
    return np.frombuffer(tensor.RawDataAsNumpy().tobytes(), _TENSOR_TYPES[tensor.DataType()]).reshape(shape)


def _plain_name(name: str) -> str:
    """What the model calls a weight that was left as it was; empty for anything else."""
    name = name.removesuffix("_add_tensor")
    return (
        name
        if re.fullmatch(
            r"conv\d\.(weight|bias)|(layers\.\d+\.)?\w*layer_?norm\.weight|layers\.\d+\.mlp\.fc\d\.bias", name
        )
        else ""
    )
