"""Which parts of Moonshine's encoder run in int8, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stream_asr.acoustic.int8 import Int8Linear
from stream_asr.acoustic.moonshine import model as moonshine_model
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import StridedConv
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from tests.support.checkpoints import load_runner

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("kernel_size", "stride"), [(7, 3), (3, 2), (1, 1), (4, 4)])
def test_strided_convolution_equals_that_of_pytorch(kernel_size: int, stride: int) -> None:
    torch.manual_seed(0)
    conv, x = StridedConv(6, 9, kernel_size=kernel_size, stride=stride), torch.randn(2, 50, 6)
    expected = F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, stride).transpose(1, 2)
    torch.testing.assert_close(conv(x), expected)


@torch.inference_mode()
def test_parts_that_need_precision_are_not_quantized(speech: FloatArray, embedded: TransformersCTC) -> None:
    quantized = load_runner(precision="int8").model
    encoder = quantized.encoder
    assert isinstance(encoder, Encoder)
    assert sum(isinstance(module, Int8Linear) for module in quantized.modules()) == 1 + 3 * len(encoder.layers)
    assert type(encoder.conv3) is StridedConv
    assert type(encoder.join) is nn.Linear
    assert type(quantized.ctc_head) is nn.Linear
    waveform = torch.from_numpy(speech[None, :64_000])
    found, expected = encoder.features(waveform), embedded.model.encoder.features(waveform)
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    ("family", "precision", "fast", "expected"),
    [
        ("moonshine", "auto", True, True),
        ("moonshine", "auto", False, False),
        ("moonshine", "float32", True, False),
        ("moonshine", "int8", False, True),
        ("wav2vec2 layer norm", "auto", True, False),
        ("wav2vec2 layer norm", "int8", False, True),
    ],
)
def test_auto_selects_int8_for_moonshine_where_it_is_fast(
    family: str,
    precision: str,
    fast: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: Callable[[str], Path],
    speech: FloatArray,
) -> None:
    monkeypatch.setattr(moonshine_model, "is_fast", lambda: fast)
    runner = load_runner(checkpoint(family), precision=precision)
    assert any(isinstance(module, Int8Linear) for module in runner.model.modules()) == expected
    [log_probs] = runner.log_probs([speech[:32_000]])
    assert np.isfinite(log_probs).all()
