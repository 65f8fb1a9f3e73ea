"""Files of a fine-tuned model."""

from __future__ import annotations

from pathlib import Path

from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.model import StatefulMoonshine
from stream_asr.acoustic.moonshine.onnx_runtime import GRAPH_FILES
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.training.artifacts import save_model


def test_saved_model_has_the_onnx_graphs_of_its_base(tmp_path: Path) -> None:
    save_model(tmp_path, load_pretrained())
    assert {file.name for file in tmp_path.iterdir()} >= {*GRAPH_FILES.values(), "config.json", "model.safetensors"}
    model = load_model(tmp_path, device="cpu", backend="onnxruntime")
    assert isinstance(model, StatefulMoonshine)
    assert model.backend == "onnxruntime"
