"""Exported graphs: what PyTorch computes, for any sizes and number format."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.int8 import has_vnni
from stream_asr.acoustic.moonshine import onnx_runtime
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.onnx_export import save_graphs
from stream_asr.acoustic.moonshine.onnx_runtime import (
    GRAPH_FILES,
    SIZES_KEY,
    EightBit,
    OnnxEncoder,
    fused_copy,
    has_graphs,
    quantize_weight,
    quantized_weights,
)
from stream_asr.acoustic.moonshine.streaming import EncoderState, forward_chunk
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.array_types import FloatArray
from tests.support.checkpoints import load_runner

FRAME, MAX_LEFT_FRAMES = 768, 40
CHUNKS = ((4, 2), (6, 6), (40, 3), (2, 2), (14, 10), (5, 0))
"""Kept frames and frames of right context of each chunk."""


def make_network(joined_after: int | None, tokens: int = 29, rotary_dim: int = 20) -> MoonshineForCTC:
    torch.manual_seed(0)
    config = MoonshineCTCConfig(
        vocab_size=tokens,
        hidden_size=64,
        intermediate_size=128,
        encoder_num_attention_heads=2,
        encoder_num_hidden_layers=2,
        joined_after=joined_after,
        rotary_dim=rotary_dim,
    )
    model = MoonshineForCTC(config).requires_grad_(False)
    model.train(False)
    for name, weight in model.named_parameters():  # make attention matter as much as in a trained encoder
        if any(part in name for part in ("q_proj", "k_proj", "v_proj", "ctc_head.weight")):
            weight.mul_(10)
    return model


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int | None], Path]:
    """From ``joined_after`` to a folder with the graphs of such a network."""

    @cache
    def folder(joined_after: int | None) -> Path:
        made = tmp_path_factory.mktemp("graphs")
        save_graphs(make_network(joined_after).encoder, made)
        return made

    return folder


def run_torch(model: MoonshineForCTC, audio: FloatArray) -> list[FloatArray]:
    outputs, state, at = [], EncoderState(MAX_LEFT_FRAMES), 0
    for kept, right in CHUNKS:
        chunk = torch.from_numpy(audio[at : at + (kept + right) * FRAME])
        frames, state = forward_chunk(model.encoder, chunk, kept * FRAME, state)
        outputs.append(model.ctc_head(frames)[0].numpy())
        at += kept * FRAME
    return outputs


def run_onnx(encoder: OnnxEncoder, audio: FloatArray) -> list[FloatArray]:
    outputs, state, at = [], encoder.initial_state(MAX_LEFT_FRAMES), 0
    for kept, right in CHUNKS:
        logits, state = encoder.forward(audio[at : at + (kept + right) * FRAME], kept * FRAME, state)
        outputs.append(logits)
        at += kept * FRAME
    return outputs


@pytest.mark.slow
@pytest.mark.parametrize("joined_after", [None, 0, 1])
def test_graphs_equal_pytorch_for_any_sizes(
    joined_after: int | None, graphs: Callable[[int | None], Path], speech: FloatArray
) -> None:
    model = make_network(joined_after)
    found = run_onnx(OnnxEncoder(model, graphs(joined_after), int8=False), speech)
    for here, there in zip(found, run_torch(model, speech), strict=True):
        assert there.std() > 0.01
        np.testing.assert_allclose(here, there, atol=1e-3)


@pytest.mark.slow
def test_one_graph_serves_any_alphabet(graphs: Callable[[int | None], Path], speech: FloatArray) -> None:
    model = make_network(1, tokens=43)
    found = run_onnx(OnnxEncoder(model, graphs(1), int8=False), speech)
    np.testing.assert_allclose(found[0], run_torch(model, speech)[0], atol=1e-3)


@pytest.mark.slow
def test_graphs_are_found_by_the_sizes_of_the_encoder(graphs: Callable[[int | None], Path], tmp_path: Path) -> None:
    assert has_graphs(graphs(1), make_network(1).encoder.sizes)
    assert not has_graphs(graphs(1), make_network(1, rotary_dim=24).encoder.sizes)
    assert not has_graphs(tmp_path, make_network(1).encoder.sizes)


@pytest.mark.slow
def test_bundled_graphs_are_those_that_are_exported_today(tmp_path: Path) -> None:
    encoder = load_runner(precision="float32").model.encoder
    assert isinstance(encoder, Encoder)
    save_graphs(encoder, tmp_path)
    for file in GRAPH_FILES.values():
        bundled, exported = (
            onnx.load(folder / file, load_external_data=False) for folder in (EMBEDDED_FOLDER, tmp_path)
        )
        assert [node.op_type for node in bundled.graph.node] == [node.op_type for node in exported.graph.node]
        assert {weight.name for weight in bundled.graph.initializer} == {
            weight.name for weight in exported.graph.initializer
        }


@pytest.mark.parametrize("signed", [True, False])
def test_signed_and_unsigned_int8_spell_nearly_the_same(
    signed: bool, speech: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    if signed and not has_vnni():
        pytest.skip("without VNNI, sums of signed int8 products saturate")
    monkeypatch.setattr(onnx_runtime, "has_vnni", lambda: signed)
    model = load_runner(precision="float32").model
    found, expected = (
        np.concatenate(run_onnx(OnnxEncoder(model, EMBEDDED_FOLDER, int8=int8), speech)) for int8 in (True, False)
    )
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    assert np.abs(found - expected).max() > 0.01, "nothing was quantized"


@pytest.mark.parametrize("eight_bit", ["int8", "uint8"])
def test_quantized_weights_are_the_nearest_values(eight_bit: EightBit) -> None:
    weight = np.random.default_rng(0).standard_normal((30, 7)).astype(np.float32)
    weight[:, 3] = 0.0
    quantized, scales, zero_points = quantize_weight("weight", weight, eight_bit).values()
    assert (quantized.dtype, zero_points.dtype) == (np.dtype(eight_bit), np.dtype(eight_bit))
    error = np.abs((quantized.astype(np.float32) - zero_points.astype(np.float32)) * scales - weight)
    assert (error <= np.abs(weight).max(axis=0) / 127 * 0.501).all()


def test_int8_graph_quantizes_the_most_expensive_products() -> None:
    model = onnx.load(EMBEDDED_FOLDER / GRAPH_FILES["int8"], load_external_data=False)
    products = {node.input[1] for node in model.graph.node if node.op_type == "DynamicQuantizeMatMul"}
    assert model.metadata_props[0].key == SIZES_KEY
    assert len(products) == 1 + 3 * 8


@pytest.mark.parametrize("file", GRAPH_FILES.values())
def test_bundled_graphs_have_no_weights_and_run_in_old_runtimes(file: str) -> None:
    path = EMBEDDED_FOLDER / file
    assert path.stat().st_size < 100_000
    model = onnx.load(path, load_external_data=False)
    assert model.ir_version <= 10
    assert {operators.domain: operators.version for operators in model.opset_import}[""] <= 20


def test_fusing_changes_only_the_speed(speech: FloatArray) -> None:
    model = make_network(1)
    expected = run_torch(model, speech)
    assert "layers.0.self_attn.qkv_proj.weight" in quantized_weights(fused_copy(model.encoder))
    model.encoder.fuse()
    for here, there in zip(run_torch(model, speech), expected, strict=True):
        np.testing.assert_allclose(here, there, atol=1e-3)
