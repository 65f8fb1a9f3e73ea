"""Graphs of the decoder: same output as PyTorch in every number format, and no weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.int8 import has_vnni
from stream_asr.acoustic.moonshine import onnx_runtime
from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, load_decoder, read_decoder
from stream_asr.acoustic.moonshine.decoder_export import save_decoder_graphs
from stream_asr.acoustic.moonshine.decoder_onnx import (
    GRAPH_FILES,
    OnnxDecoder,
    external_weights,
    has_graphs,
)
from stream_asr.acoustic.moonshine.decoder_torch import TorchDecoder
from stream_asr.acoustic.moonshine.second_pass import DecoderPass, DecoderRunner, PassOutput
from tests.support.decoders import DECODER_FILES, SMALL, make_checkpoint, random_states

pytestmark = pytest.mark.usefixtures("one_thread")


def run(runner: DecoderRunner, encoded: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> list[PassOutput]:
    """Run passes of several lengths, with and without earlier tokens."""
    [frames] = runner.project([encoded])
    passes = runner.begin([frames])
    outputs, past = [], runner.empty()
    for tokens in ((1, 30, 20, 31), (40,), (3, 44)):
        [output] = passes([(0, DecoderPass(tokens, tuple(token + 1 for token in tokens), past))])
        past = output.past
        outputs.append(output)
    return outputs


@pytest.fixture(scope="module")
def bundled() -> DecoderCheckpoint:
    decoder = read_decoder(EMBEDDED_FOLDER, "embedded-en")
    assert decoder is not None
    return decoder


@pytest.fixture(scope="module")
def small_graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    save_decoder_graphs(SMALL, folder)
    return folder


@pytest.mark.slow
def test_exported_graphs_equal_pytorch(small_graphs: Path) -> None:
    checkpoint, encoded = make_checkpoint(), random_states(13)
    expected = run(TorchDecoder(load_decoder(checkpoint), torch.device("cpu")), encoded)
    found = run(OnnxDecoder(checkpoint, small_graphs, int8=False), encoded)
    for one, other in zip(found, expected, strict=True):
        assert one.best == other.best
        np.testing.assert_allclose(one.best_log_probs, other.best_log_probs, atol=1e-3)
        np.testing.assert_allclose(one.target_log_probs, other.target_log_probs, atol=1e-3)
        for part, tensor in zip(one.past, other.past, strict=True):
            np.testing.assert_allclose(part, tensor.numpy(), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("signed", [True, False])
def test_float_weights_run_in_int8(signed: bool, small_graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine-tuned decoders are stored in floating point."""
    if signed and not has_vnni():
        pytest.skip("without VNNI, sums of signed int8 products saturate")
    monkeypatch.setattr(onnx_runtime, "has_vnni", lambda: signed)
    checkpoint, encoded = make_checkpoint(), random_states(13)
    expected, found = (run(OnnxDecoder(checkpoint, small_graphs, int8=int8), encoded) for int8 in (False, True))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.target_log_probs, other.target_log_probs, atol=1.0)
    assert found[0].target_log_probs != expected[0].target_log_probs, "nothing was quantized"


@pytest.mark.parametrize("signed", [True, False])
def test_bundled_integers_are_used_as_they_are(
    signed: bool, bundled: DecoderCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    if signed and not has_vnni():
        pytest.skip("without VNNI, sums of signed int8 products saturate")
    monkeypatch.setattr(onnx_runtime, "has_vnni", lambda: signed)
    encoded = random_states(20, bundled.sizes.width)
    expected, found = (run(OnnxDecoder(bundled, EMBEDDED_FOLDER, int8=int8), encoded) for int8 in (False, True))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.target_log_probs, other.target_log_probs, atol=1.0)
    full = external_weights(bundled, None)
    weights = external_weights(bundled, "int8" if signed else "uint8")
    for name in ("layers.3.self_attn.qkv_proj.weight", "layers.0.mlp.fc1.weight", "cross_proj.weight"):
        integers, scales, zero_points = (
            weights[f"{name}.{part}"].astype(np.float32) for part in ("quantized", "scales", "zero_points")
        )
        np.testing.assert_allclose((integers - zero_points) * scales, full[name], rtol=1e-5)


def test_rows_in_int8_do_not_depend_on_each_other(bundled: DecoderCheckpoint) -> None:
    decoder = OnnxDecoder(bundled, EMBEDDED_FOLDER, int8=True)
    tokens = (1, 500, 600, 700, 800)
    [frames] = decoder.project([random_states(30, bundled.sizes.width)])
    passes = decoder.begin([frames])
    [together] = passes([(0, DecoderPass(tokens, tokens, decoder.empty()))])
    past, single = decoder.empty(), []
    for token in tokens:
        [output] = passes([(0, DecoderPass((token,), (token,), past))])
        past = output.past
        single += output.target_log_probs
    np.testing.assert_allclose(single, together.target_log_probs, atol=0.1)


def test_graphs_are_found_by_the_sizes_of_the_decoder(bundled: DecoderCheckpoint, tmp_path: Path) -> None:
    for int8 in (False, True):
        assert has_graphs(EMBEDDED_FOLDER, bundled.sizes, int8=int8)
    assert not has_graphs(EMBEDDED_FOLDER, replace(bundled.sizes, layers=5))
    assert not has_graphs(tmp_path, bundled.sizes)


@pytest.mark.slow
def test_bundled_graphs_are_up_to_date(bundled: DecoderCheckpoint, tmp_path: Path) -> None:
    save_decoder_graphs(bundled.sizes, tmp_path)
    for file in DECODER_FILES:
        old, new = (onnx.load(folder / file, load_external_data=False) for folder in (EMBEDDED_FOLDER, tmp_path))
        assert [node.op_type for node in old.graph.node] == [node.op_type for node in new.graph.node]
        assert {weight.name for weight in old.graph.initializer} == {weight.name for weight in new.graph.initializer}


def test_int8_graph_stores_the_embedding_once() -> None:
    model = onnx.load(EMBEDDED_FOLDER / GRAPH_FILES["int8"].step, load_external_data=False)
    users = [node.op_type for node in model.graph.node if "embed_tokens.weight.quantized" in node.input]
    assert sorted(users) == ["Gather", "MatMulIntegerToFloat"]
