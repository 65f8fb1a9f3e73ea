"""Linear layers in int8."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stream_asr.acoustic import int8
from stream_asr.acoustic.int8 import Int8Linear, quantize_linears
from stream_asr.acoustic.loading import load_model
from stream_asr.errors import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@settings(max_examples=25)
@given(frames=st.integers(1, 40), inputs=st.integers(4, 300), outputs=st.integers(4, 300), seed=st.integers(0, 9))
def test_int8_is_within_four_percent_of_float32(frames: int, inputs: int, outputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = nn.Linear(inputs, outputs), torch.randn(2, frames, inputs)
    with torch.inference_mode():
        found, expected = Int8Linear(layer.weight, layer.bias)(x), layer(x)
    assert found.shape == expected.shape
    assert relative_error(found, expected) < 0.04
    assert not torch.equal(found, expected), "nothing was quantized"


def test_cpus_without_vnni_are_as_precise(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(300, 100), torch.randn(7, 300)
    monkeypatch.setattr(int8, "is_fast", lambda: False)
    with torch.inference_mode():
        assert relative_error(Int8Linear(layer.weight, layer.bias)(x), layer(x)) < 0.04


def test_each_output_has_its_own_scale() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(8, 64), torch.randn(5, 64)
    weight[3] *= 1e-4
    with torch.inference_mode():
        assert relative_error(Int8Linear(weight, None)(x)[:, 3], x @ weight[3]) < 0.05


def test_layers_at_any_depth_are_quantized() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 4)))
    quantize_linears(model)
    leaves = [type(module) for module in model.modules() if not list(module.children())]
    assert leaves == [Int8Linear, nn.ReLU, Int8Linear]
    assert model(torch.zeros(3, 8)).shape == (3, 4)


# --- support by CPU and PyTorch -----------------------------------------------------------------------------


def test_pytorch_without_int8_kernels_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "quantize_per_channel")
    with pytest.raises(ModelError, match="does not run in int8; use precision float32"):
        load_model(device="cpu", precision="int8", backend="torch")


def test_int8_is_not_fast_if_support_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_vnni_supported", raising=False)
    assert not int8.has_vnni()
    assert not int8.is_fast()


def test_int8_is_not_fast_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    monkeypatch.delattr(torch, "quantize_per_channel")
    assert int8.has_vnni()
    assert not int8.is_fast()
