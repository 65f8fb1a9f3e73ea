"""Files of a fine-tuned model."""

from __future__ import annotations

from pathlib import Path

from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.decoder_checkpoint import read_decoder
from stream_asr.acoustic.moonshine.decoder_onnx import GRAPH_FILES as DECODER_GRAPH_FILES
from stream_asr.acoustic.moonshine.model import StatefulMoonshine
from stream_asr.acoustic.moonshine.onnx_runtime import GRAPH_FILES
from stream_asr.acoustic.moonshine.second_pass import MoonshineSecondPass
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.training.artifacts import save_model


def test_saved_model_has_the_onnx_graphs_of_its_base(tmp_path: Path) -> None:
    save_model(tmp_path, load_pretrained())
    names = {file.name for file in tmp_path.iterdir()}
    assert names >= {*GRAPH_FILES.values(), "config.json", "model.safetensors"}
    assert not any(name.startswith("decoder.") for name in names)
    model = load_model(tmp_path, device="cpu", backend="onnxruntime")
    assert isinstance(model, StatefulMoonshine)
    assert model.backend == "onnxruntime"


def test_saved_decoder_runs_in_onnxruntime(tmp_path: Path) -> None:
    save_model(tmp_path, load_pretrained(), read_decoder(EMBEDDED_FOLDER, "embedded-en"))
    assert {file.name for file in tmp_path.iterdir()} >= {
        file for graphs in DECODER_GRAPH_FILES.values() for file in (graphs.project, graphs.step)
    }
    second_pass = load_model(tmp_path, device="cpu", backend="onnxruntime").second_pass
    assert isinstance(second_pass, MoonshineSecondPass)
    assert second_pass.backend == "onnxruntime"
