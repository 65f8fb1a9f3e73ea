"""Moonshine's encoder in ONNX Runtime: same output as PyTorch, and when it is used."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr import InputError, ModelError, Recognizer
from stream_asr.acoustic.base import State, StreamingEncoder
from stream_asr.acoustic.int8 import Int8Linear
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine import model as moonshine_model
from stream_asr.acoustic.moonshine.model import StatefulMoonshine, TorchEncoder
from stream_asr.acoustic.moonshine.onnx_runtime import OnnxEncoder
from stream_asr.array_types import FloatArray
from tests.support.checkpoints import load_runner, made_once, save_moonshine_ctc, save_wav2vec2_layer
from tests.support.command_line import run_main

FRAME, MAX_LEFT_FRAMES = 768, 40
"""Samples of an output frame of the embedded model; frames that attention reaches back, before they are joined."""


def run_chunks(encoder: StreamingEncoder, audio: FloatArray, sizes: list[tuple[int, int]]) -> list[FloatArray]:
    """Logits of chunks with so many kept frames and so many frames of right context, with a preview before each."""
    outputs, state, at = [], encoder.initial_state(MAX_LEFT_FRAMES), 0
    for kept, right in sizes:
        chunk = audio[at * FRAME : (at + kept + right) * FRAME]
        preview, _ = encoder.forward(chunk[: (kept + right + 2) // 2 * FRAME], 0, state)
        logits, state = encoder.forward(chunk, kept * FRAME, state)
        outputs += [preview, logits]
        at += kept
    return outputs


def load_encoder(**options: Any) -> StreamingEncoder:
    model = load_model(device="cpu", **options)
    assert isinstance(model, StatefulMoonshine)
    return model.encoder


@pytest.fixture(scope="module")
def torch_encoder() -> StreamingEncoder:
    return load_encoder(precision="float32", backend="torch")


@pytest.fixture(scope="module")
def onnx_encoder() -> StreamingEncoder:
    return load_encoder(precision="float32", backend="onnxruntime")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return made_once(tmp_path_factory, {"moonshine": save_moonshine_ctc, "wav2vec2": save_wav2vec2_layer})


# --- same output as PyTorch ---------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(2, 14), st.integers(0, 10)), min_size=1, max_size=4))
def test_chunks_of_any_size_equal_those_of_pytorch(
    sizes: list[tuple[int, int]],
    torch_encoder: StreamingEncoder,
    onnx_encoder: StreamingEncoder,
    speech: FloatArray,
) -> None:
    assert (torch_encoder.backend, onnx_encoder.backend) == ("torch", "onnxruntime")
    audio = speech[4_000:]
    expected, found = run_chunks(torch_encoder, audio, sizes), run_chunks(onnx_encoder, audio, sizes)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, atol=5e-3)


def test_state_is_immutable_and_bounded(onnx_encoder: StreamingEncoder, speech: FloatArray) -> None:
    state = onnx_encoder.initial_state(MAX_LEFT_FRAMES)
    for at in range(0, 30, 5):
        _, state = onnx_encoder.forward(speech[at * FRAME : (at + 9) * FRAME], 5 * FRAME, state)
    assert {past.shape[2] for past in state.past} == {MAX_LEFT_FRAMES, MAX_LEFT_FRAMES // 2}
    assert state.frames == 60
    chunk = speech[30 * FRAME : 40 * FRAME]
    first, after_preview = onnx_encoder.forward(chunk, 0, state)
    assert after_preview is state, "a preview leaves no trace"
    onnx_encoder.forward(speech[: 10 * FRAME], 10 * FRAME, state)
    np.testing.assert_array_equal(onnx_encoder.forward(chunk, 0, state)[0], first)


def test_captions_equal_those_of_pytorch(speech: FloatArray) -> None:
    texts = []
    for backend in ("torch", "onnxruntime"):
        with Recognizer.from_pretrained(device="cpu", precision="float32", backend=backend) as recognizer:
            texts.append(recognizer.transcribe(speech).text)
    assert texts[0] == texts[1]
    assert len(texts[0].split()) > 10


def test_whole_windows_run_as_one_chunk(onnx_encoder: StreamingEncoder, speech: FloatArray) -> None:
    class Counting:
        backend = "counting"
        calls = 0

        def initial_state(self, max_left_frames: int) -> State:
            return onnx_encoder.initial_state(max_left_frames)

        def forward(self, samples: FloatArray, kept_samples: int, state: State) -> tuple[FloatArray, State]:
            self.calls += 1
            return onnx_encoder.forward(samples, kept_samples, state)

    runner, encoder, window = load_runner(precision="float32"), Counting(), speech[: 60 * FRAME]
    [found] = StatefulMoonshine(runner, 1, encoder).log_probs([window])
    assert encoder.calls == 1
    np.testing.assert_allclose(found, runner.log_probs([window])[0], atol=5e-3)


def test_threads_do_not_interfere(onnx_encoder: StreamingEncoder, speech: FloatArray) -> None:
    def run(start: int) -> list[FloatArray]:
        return run_chunks(onnx_encoder, speech[start * FRAME :], [(8, 8), (8, 8), (8, 0)])

    expected = [run(start) for start in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))
    for one, other in zip(expected, found, strict=True):
        for alone, together in zip(one, other, strict=True):
            np.testing.assert_array_equal(together, alone)


def test_int8_spells_nearly_the_same(speech: FloatArray) -> None:
    eight_bit, whole = (load_model(device="cpu", precision=precision) for precision in ("int8", "float32"))
    assert isinstance(eight_bit, StatefulMoonshine)
    assert eight_bit.backend == "onnxruntime"
    assert not any(isinstance(module, Int8Linear) for module in eight_bit.runner.model.modules())
    [found], [expected] = (model.log_probs([speech]) for model in (eight_bit, whole))
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    assert np.abs(found - expected).max() > 0.01, "nothing was quantized"


# --- when it is used ----------------------------------------------------------------------------------------


def test_auto_uses_it_where_graphs_exist(checkpoint: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(load_encoder(), OnnxEncoder)
        assert isinstance(load_encoder(backend="torch"), TorchEncoder)
        assert isinstance(load_encoder(name=checkpoint("moonshine")), TorchEncoder), "no graphs for these sizes"
    assert not caplog.records


def test_impossible_requests_are_refused(checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown backend 'tpu'; accepted are auto, torch, onnxruntime"):
        load_model(backend="tpu")
    with pytest.raises(InputError, match=r"runs embedded-en and models .* from it, not '/.*'; use torch"):
        load_model(checkpoint("wav2vec2"), device="cpu", backend="onnxruntime")
    with pytest.raises(ModelError, match=r"'/.*' has no graphs for onnxruntime; use torch"):
        load_model(checkpoint("moonshine"), device="cpu", backend="onnxruntime")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match="onnxruntime runs models on the CPU only, not on cuda"):
        load_model(device="cuda", backend="onnxruntime")


def test_a_failing_runtime_falls_back_to_pytorch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> OnnxEncoder:
        raise RuntimeError("no operator DynamicQuantizeMatMul")

    monkeypatch.setattr(moonshine_model, "OnnxEncoder", broken)
    with pytest.raises(ModelError, match=r"does not run 'embedded-en': no operator .*; use torch"):
        load_model(device="cpu", backend="onnxruntime")
    with caplog.at_level(logging.WARNING):
        model = load_model(device="cpu", precision="int8")
    assert "so PyTorch does: no operator" in caplog.text
    assert isinstance(model, StatefulMoonshine)
    assert model.backend == "torch"
    assert any(isinstance(module, Int8Linear) for module in model.runner.model.modules())


def test_recognizing_imports_neither_onnx_nor_onnxscript() -> None:
    program = (
        "import sys; sys.modules |= {'onnx': None, 'onnxscript': None}\n"
        "from stream_asr.acoustic.loading import load_model\n"
        "assert load_model(device='cpu', backend='onnxruntime').backend == 'onnxruntime'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_command_line_accepts_both_backends(
    demo_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for backend in ("torch", "onnxruntime"):
        result = run_main(monkeypatch, capfd, "transcribe", demo_path, "--backend", backend)
        assert result.status == 0
        assert len(result.out.split()) > 10
    refused = run_main(monkeypatch, capfd, "transcribe", demo_path, "--backend", "tensorflow")
    assert refused.status == 2
    assert "'tensorflow'" in refused.err
