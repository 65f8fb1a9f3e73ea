"""Linear layers in int8: a quarter of the memory to read for each window, and products that are several times faster
on processors that have instructions for them.

The weights have a scale for each output; the activations are quantised as they come, with one scale for all.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from stream_asr.acoustic.moonshine.encoder import Encoder, encoder_of
from stream_asr.acoustic.moonshine.layers import MLP, SelfAttention

_MOST = 127


def has_instructions() -> bool:
    """Does this processor have some for sums of products of int8 (AVX-512 VNNI)? False where PyTorch cannot say."""
    asked = getattr(torch.cpu, "_is_vnni_supported", None)
    return asked is not None and bool(asked())


def is_fast() -> bool:
    """Does it, and does PyTorch use them?"""
    quantises = hasattr(torch, "quantize_per_channel") and torch.backends.quantized.engine in ("x86", "fbgemm")
    return quantises and has_instructions()


class Int8Linear(nn.Module):
    """Takes ``(..., inputs)`` to ``(..., outputs)``, float32. It cannot be trained, nor saved: it has no parameters.

    Args:
        weight: float32, shape (outputs, inputs).
        bias: shape (outputs,).

    Raises:
        RuntimeError: this build of PyTorch has no int8.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scales = weight.detach().abs().amax(dim=1).clamp(min=1e-12) / _MOST
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that PyTorch means to move these functions elsewhere
                quantised = torch.quantize_per_channel(weight.detach(), scales, zeros, 0, torch.qint8)
                self._packed = torch.ops.quantized.linear_prepack(quantised, None if bias is None else bias.detach())
        except AttributeError as error:  # they have moved
            raise RuntimeError("this version of PyTorch has no int8") from error
        # Without those instructions, sums of two products of eight bits each do not fit.
        self._narrow = not is_fast()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, self._narrow)
        return out


def quantize(model: nn.Module) -> None:
    """Turn a model's linear layers into int8, in place; with Moonshine's encoder, those that it pays for.

    Raises:
        RuntimeError: this build of PyTorch has no int8.
    """
    if (encoder := encoder_of(model)) is not None:
        _quantise_encoder(encoder)
    else:
        _quantise_linears(model)


def _quantise_linears(model: nn.Module) -> None:
    for name, part in list(model.named_children()):
        if isinstance(part, nn.Linear):
            setattr(model, name, Int8Linear(part.weight, part.bias))
        else:
            _quantise_linears(part)


def _quantise_encoder(encoder: Encoder) -> None:
    """Moonshine's: what takes its time.

    The rest of the model stays. Of the numbers that go into the last convolution and into the joining of frames a few
    are so large that eight bits would leave nothing of the others; the other products are too small to gain anything.
    """
    conv = encoder.conv2
    conv.product = Int8Linear(conv.weight.flatten(1), conv.bias)
    del conv.weight
    conv.bias = None
    for part in encoder.modules():
        if isinstance(part, SelfAttention):
            weights = [projection.weight for projection in (part.q_proj, part.k_proj, part.v_proj)]
            part.qkv_proj = Int8Linear(torch.cat(weights), None)
            del part.q_proj, part.k_proj, part.v_proj
        elif isinstance(part, MLP):
            _quantise_linears(part)
