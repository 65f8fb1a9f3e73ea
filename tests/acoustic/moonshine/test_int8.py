"""Linear layers in int8, and when they are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic import int8, loading
from stream_asr.acoustic.int8 import Int8Linear, quantize
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import Strided
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.errors import ModelError
from tests.support.checkpoints import made_once, save_moonshine_ctc, save_wav2vec2_layer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return made_once(tmp_path_factory, {"moonshine": save_moonshine_ctc, "wav2vec2": save_wav2vec2_layer})


def off_by(found: Tensor, expected: Tensor) -> float:
    """Relative to the size of what was expected."""
    return float((found - expected).norm() / expected.norm())


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 40), inputs=st.integers(4, 300), outputs=st.integers(4, 300), seed=st.integers(0, 9))
def test_int8_is_a_few_percent_from_float32(frames: int, inputs: int, outputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = nn.Linear(inputs, outputs), torch.randn(2, frames, inputs)
    with torch.inference_mode():
        found, expected = Int8Linear(layer.weight, layer.bias)(x), layer(x)
    assert found.shape == expected.shape
    assert off_by(found, expected) < 0.04
    assert not torch.equal(found, expected), "nothing was quantised"


def test_processors_without_the_instructions_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(300, 100), torch.randn(7, 300)
    monkeypatch.setattr(int8, "is_fast", lambda: False)
    with torch.inference_mode():
        assert off_by(Int8Linear(layer.weight, layer.bias)(x), layer(x)) < 0.04


def test_a_pytorch_without_int8_is_told_from_a_model_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "quantize_per_channel")
    with pytest.raises(ModelError, match="does not run in int8; use precision float32"):
        load_model(device="cpu", precision="int8", backend="torch")


def test_a_row_of_small_weights_keeps_its_shape() -> None:
    """Each output has a scale of its own."""
    torch.manual_seed(0)
    weight, x = torch.randn(8, 64), torch.randn(5, 64)
    weight[3] *= 1e-4
    with torch.inference_mode():
        assert off_by(Int8Linear(weight, None)(x)[:, 3], x @ weight[3]) < 0.05


@pytest.mark.parametrize(("kernel", "stride"), [(7, 3), (3, 2), (1, 1), (4, 4)])
def test_a_convolution_as_a_product_is_the_same(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    conv, x = Strided(6, 9, kernel_size=kernel, stride=stride), torch.randn(2, 50, 6)
    expected = F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, stride).transpose(1, 2)
    torch.testing.assert_close(conv(x), expected)


@torch.inference_mode()
def test_the_encoder_keeps_what_eight_bits_would_spoil(speech: FloatArray) -> None:
    whole, eight = (
        load_model(device="cpu", precision=precision, backend="torch").model for precision in ("float32", "int8")
    )
    encoder = eight.encoder
    assert isinstance(encoder, Encoder)
    assert sum(isinstance(part, Int8Linear) for part in eight.modules()) == 1 + 3 * len(encoder.layers)
    assert type(encoder.conv3) is Strided
    assert type(encoder.join) is nn.Linear
    assert type(eight.ctc_head) is nn.Linear
    waveform = torch.from_numpy(speech[None, :64_000])
    assert off_by(encoder.features(waveform), whole.encoder.features(waveform)) < 0.05


def test_auto_is_int8_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path], speech: FloatArray
) -> None:
    def loaded(name: str, precision: str, *, fast: bool) -> TransformersCTC:
        monkeypatch.setattr(loading, "is_fast", lambda: fast)
        return load_model(checkpoint(name), device="cpu", precision=precision, backend="torch")

    def in_int8(model: TransformersCTC) -> bool:
        return any(isinstance(part, Int8Linear) for part in model.model.modules())

    assert in_int8(loaded("moonshine", "auto", fast=True))
    assert not in_int8(loaded("moonshine", "auto", fast=False))
    assert not in_int8(loaded("moonshine", "float32", fast=True))
    assert in_int8(loaded("moonshine", "int8", fast=False))
    assert not in_int8(loaded("wav2vec2", "auto", fast=True))
    assert in_int8(loaded("wav2vec2", "int8", fast=False))
    (log_probs,) = loaded("moonshine", "int8", fast=False).log_probs([speech[:32_000]])
    assert np.isfinite(log_probs).all()


def test_int8_is_not_fast_where_pytorch_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_vnni_supported", raising=False)
    assert not int8.is_fast()


def test_int8_is_not_fast_without_its_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    monkeypatch.delattr(torch, "quantize_per_channel")
    assert not int8.is_fast()


def test_layers_at_any_depth_are_quantised() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 4)))
    quantize(model)
    assert [type(part) for part in model.modules() if not list(part.children())] == [Int8Linear, nn.ReLU, Int8Linear]
    assert model(torch.zeros(3, 8)).shape == (3, 4)
