"""The pretrained encoder: Moonshine tiny, from the package `moonshine-voice` (MIT), dequantized and renamed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.embedded_en.package_files import QUANTIZED, read_network

_LINEAR = re.compile(r"/layers\.(\d+)/(self_attn|mlp)/(\w+)/")
_UNQUANTIZED = re.compile(r"conv\d\.(weight|bias)|(layers\.\d+\.)?\w*layer_?norm\.weight|layers\.\d+\.mlp\.fc\d\.bias")


def read_encoder_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of the encoder.

    Returns:
        float32 tensors with the names of `stream_asr.acoustic.moonshine.transformers.MoonshineForCTC`. The output layer
        is missing.

    Raises:
        InputError: the package flatbuffers is not installed.
    """
    arrays, nodes = read_network(path)
    weights = {parameter: array for name, array in arrays.items() if (parameter := _parameter_name(name))}
    for node in nodes:
        for quantized in (name for name in node.inputs if name.endswith(QUANTIZED) and name in arrays):
            match = _LINEAR.search(node.place)
            assert match is not None, f"unexpected node {node.place}"
            stem = quantized.removesuffix(QUANTIZED)
            integers = arrays[quantized].astype(np.float32) - arrays[f"{stem}_zero_point"].astype(np.float32)
            # ONNX stores the transposed matrix.
            weights[f"layers.{match[1]}.{match[2]}.{match[3]}.weight"] = (integers * arrays[f"{stem}_scale"]).T
        name = node.place.split()[0]
        if name in ("/groupnorm/Mul", "/groupnorm/Add"):
            kind = "weight" if name.endswith("Mul") else "bias"
            weights[f"groupnorm.{kind}"] = next(arrays[name] for name in node.inputs if name in arrays).reshape(-1)
    return {f"encoder.{name}": torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in weights.items()}


def _parameter_name(name: str) -> str | None:
    """Return the model's name of an unquantized weight; None for other arrays."""
    name = name.removesuffix("_add_tensor")
    return name if _UNQUANTIZED.fullmatch(name) else None
