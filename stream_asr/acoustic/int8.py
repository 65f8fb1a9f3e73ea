"""Linear layers in int8: a quarter of the memory traffic, and faster products on CPUs with instructions for them.

Weights have a scale for each output. Activations are quantized dynamically with one scale.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

INT8_MAX = 127


def has_vnni() -> bool:
    """Whether this CPU has AVX-512 VNNI instructions for sums of int8 products; False if PyTorch cannot detect it."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return supported is not None and bool(supported())


def is_fast() -> bool:
    """Whether this CPU has VNNI instructions and PyTorch uses them."""
    available = hasattr(torch, "quantize_per_channel") and torch.backends.quantized.engine in ("x86", "fbgemm")
    return available and has_vnni()


class Int8Linear(nn.Module):
    """A linear layer, float32 (..., inputs) to (..., outputs). It has no parameters: it is neither trained nor saved.

    Args:
        weight: float32, shape (outputs, inputs).
        bias: float32, shape (outputs,), or None.

    Raises:
        RuntimeError: this build of PyTorch has no int8 kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scales = weight.detach().abs().amax(dim=1).clamp(min=1e-12) / INT8_MAX
        zero_points = torch.zeros(len(scales), dtype=torch.int64)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch announces that these functions will move
                quantized = torch.quantize_per_channel(weight.detach(), scales, zero_points, 0, torch.qint8)
                self._packed = torch.ops.quantized.linear_prepack(quantized, None if bias is None else bias.detach())
        except AttributeError as error:  # they have moved
            raise RuntimeError("this version of PyTorch has no int8 kernels") from error
        # Without VNNI, a sum of two products of eight bits overflows unless the range is reduced.
        self._reduce_range = not is_fast()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, self._reduce_range)
        return out


def quantize_linears(model: nn.Module) -> None:
    """Replace all linear layers of a model, in place.

    Raises:
        RuntimeError: this build of PyTorch has no int8 kernels.
    """
    for name, module in list(model.named_children()):
        if isinstance(module, nn.Linear):
            setattr(model, name, Int8Linear(module.weight, module.bias))
        else:
            quantize_linears(module)
