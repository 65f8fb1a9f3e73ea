"""Exported graphs: same output as PyTorch, in every number format."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.int8 import has_vnni
from stream_asr.acoustic.moonshine import onnx_runtime
from stream_asr.acoustic.moonshine.encoder import encoder_sizes
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
    weight_type,
)
from stream_asr.acoustic.moonshine.streaming import EncoderState, forward_chunk
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from tests.support.decoders import DECODER_FILES

pytestmark = pytest.mark.usefixtures("one_thread")

FRAME, MAX_LEFT_FRAMES = 768, 40
CHUNKS = ((4, 2), (6, 6), (40, 3), (2, 2), (14, 10), (5, 0))
"""Kept frames and frames of right context of each chunk."""


def make_network(config: MoonshineCTCConfig) -> MoonshineForCTC:
    """Create a network with random weights."""
    torch.manual_seed(0)
    model = MoonshineForCTC(config).requires_grad_(False)
    model.train(False)
    for name, weight in model.named_parameters():  # make attention matter as much as in a trained encoder
        if any(part in name for part in ("q_proj", "k_proj", "v_proj", "ctc_head.weight")):
            weight.mul_(80 / math.sqrt(config.hidden_size))
    return model


def make_small_network() -> MoonshineForCTC:
    config = MoonshineCTCConfig(
        hidden_size=64,
        intermediate_size=128,
        encoder_num_hidden_layers=2,
        encoder_num_attention_heads=2,
        rotary_dim=20,
        joined_after=1,
    )
    return make_network(config)


def run_torch(model: MoonshineForCTC, audio: FloatArray) -> list[FloatArray]:
    outputs, state, at = [], EncoderState(MAX_LEFT_FRAMES), 0
    for kept, right in CHUNKS:
        chunk = torch.from_numpy(audio[at : at + (kept + right) * FRAME])
        frames, _, state, _ = forward_chunk(model.encoder, chunk, kept * FRAME, state)
        outputs.append(model.ctc_head(frames)[0].numpy())
        at += kept * FRAME
    return outputs


def run_onnx(encoder: OnnxEncoder, audio: FloatArray) -> list[FloatArray]:
    outputs, state, at = [], encoder.initial_state(MAX_LEFT_FRAMES), 0
    for kept, right in CHUNKS:
        logits, _, state, _ = encoder.forward(audio[at : at + (kept + right) * FRAME], kept * FRAME, state)
        outputs.append(logits)
        at += kept * FRAME
    return outputs


@pytest.mark.slow
def test_exported_graph_equals_pytorch(speech: FloatArray, tmp_path: Path) -> None:
    model = make_small_network()
    save_graphs(model.encoder, tmp_path)
    assert has_graphs(tmp_path, model.encoder.sizes)
    found = run_onnx(OnnxEncoder(model, tmp_path, int8=False), speech)
    for onnx_logits, torch_logits in zip(found, run_torch(model, speech), strict=True):
        assert torch_logits.std() > 0.01
        np.testing.assert_allclose(onnx_logits, torch_logits, atol=1e-3)


def test_graph_serves_any_weights_and_alphabet(speech: FloatArray) -> None:
    model = make_network(MoonshineCTCConfig.from_pretrained(EMBEDDED_FOLDER, vocab_size=43))
    found = run_onnx(OnnxEncoder(model, EMBEDDED_FOLDER, int8=False), speech)
    for onnx_logits, torch_logits in zip(found, run_torch(model, speech), strict=True):
        assert torch_logits.shape[1] == 43
        assert torch_logits.std() > 0.5
        np.testing.assert_allclose(onnx_logits, torch_logits, atol=5e-3)


def test_graphs_are_found_by_the_sizes_of_the_encoder(tmp_path: Path) -> None:
    sizes = encoder_sizes(MoonshineCTCConfig.from_pretrained(EMBEDDED_FOLDER))
    assert has_graphs(EMBEDDED_FOLDER, sizes)
    assert not has_graphs(EMBEDDED_FOLDER, replace(sizes, rotary_dim=sizes.rotary_dim - 2))
    assert not has_graphs(tmp_path, sizes)


@pytest.mark.parametrize("int8", [False, True])
def test_only_the_graph_of_the_number_format_is_needed(int8: bool, tmp_path: Path) -> None:
    sizes = encoder_sizes(MoonshineCTCConfig.from_pretrained(EMBEDDED_FOLDER))
    file = GRAPH_FILES[weight_type(int8=int8)]
    shutil.copyfile(EMBEDDED_FOLDER / file, tmp_path / file)
    assert has_graphs(tmp_path, sizes, int8=int8)
    assert not has_graphs(tmp_path, sizes, int8=not int8)


@pytest.mark.slow
def test_bundled_graphs_are_up_to_date(embedded: TransformersCTC, tmp_path: Path) -> None:
    save_graphs(embedded.model.encoder, tmp_path)
    for file in GRAPH_FILES.values():
        bundled, exported = (
            onnx.load(folder / file, load_external_data=False) for folder in (EMBEDDED_FOLDER, tmp_path)
        )
        assert [node.op_type for node in bundled.graph.node] == [node.op_type for node in exported.graph.node]
        assert {weight.name for weight in bundled.graph.initializer} == {
            weight.name for weight in exported.graph.initializer
        }


@pytest.mark.parametrize("signed", [True, False])
def test_signed_and_unsigned_int8_recognize_nearly_the_same(
    signed: bool, speech: FloatArray, embedded: TransformersCTC, monkeypatch: pytest.MonkeyPatch
) -> None:
    if signed and not has_vnni():
        pytest.skip("without VNNI, sums of signed int8 products saturate")
    monkeypatch.setattr(onnx_runtime, "has_vnni", lambda: signed)
    found, expected = (
        np.concatenate(run_onnx(OnnxEncoder(embedded.model, EMBEDDED_FOLDER, int8=int8), speech))
        for int8 in (True, False)
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


@pytest.mark.parametrize("file", [*GRAPH_FILES.values(), *DECODER_FILES])
def test_bundled_graphs_have_no_weights_and_run_in_old_runtimes(file: str) -> None:
    path = EMBEDDED_FOLDER / file
    assert path.stat().st_size < 100_000
    model = onnx.load(path, load_external_data=False)
    assert model.ir_version <= 10
    assert {operators.domain: operators.version for operators in model.opset_import}[""] <= 20


def test_fusing_changes_only_the_speed(speech: FloatArray) -> None:
    model = make_small_network()
    expected = run_torch(model, speech)
    assert "layers.0.self_attn.qkv_proj.weight" in quantized_weights(fused_copy(model.encoder))
    model.encoder.fuse()
    for fused, separate in zip(run_torch(model, speech), expected, strict=True):
        np.testing.assert_allclose(fused, separate, atol=1e-3)
