"""Which layers of Moonshine's encoder run in int8."""

from __future__ import annotations

import torch

from stream_asr.acoustic.int8 import Int8Linear, quantize_linears
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import MLP, SelfAttention


def quantize_encoder(encoder: Encoder) -> None:
    """Quantize the products that take most of the time, in place.

    The inputs of the last convolution and of the layer that joins frames contain a few values so large that eight bits
    would leave nothing of the others. The remaining products are too small to gain anything.

    Raises:
        RuntimeError: this build of PyTorch has no int8 kernels.
    """
    conv = encoder.conv2
    conv.product = Int8Linear(conv.weight.flatten(1), conv.bias)
    del conv.weight
    conv.bias = None
    for module in encoder.modules():
        if isinstance(module, SelfAttention):
            weights = [projection.weight for projection in (module.q_proj, module.k_proj, module.v_proj)]
            module.qkv_proj = Int8Linear(torch.cat(weights), None)
            del module.q_proj, module.k_proj, module.v_proj
        elif isinstance(module, MLP):
            quantize_linears(module)
