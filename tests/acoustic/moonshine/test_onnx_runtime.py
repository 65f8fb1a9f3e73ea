"""Moonshine's encoder in ONNX Runtime: it equals PyTorch, and `load_model` selects it where it can."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr import ModelError, Recognizer
from stream_asr.acoustic.base import State, StreamingEncoder
from stream_asr.acoustic.int8 import Int8Linear
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine import model as moonshine_model
from stream_asr.acoustic.moonshine.decoder_onnx import OnnxDecoder
from stream_asr.acoustic.moonshine.model import StatefulMoonshine, TorchEncoder
from stream_asr.acoustic.moonshine.onnx_runtime import OnnxEncoder
from stream_asr.acoustic.moonshine.second_pass import MoonshineSecondPass
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from tests.support.command_line import run_main

pytestmark = pytest.mark.usefixtures("one_thread")

FRAME, MAX_LEFT_FRAMES = 768, 40
"""Samples of an output frame of the bundled model; frames that attention reaches back, before they are joined."""


def run_chunks(encoder: StreamingEncoder, audio: FloatArray, sizes: list[tuple[int, int]]) -> list[FloatArray]:
    """Logits of chunks with so many kept frames and so many frames of right context, with a preview before each."""
    outputs, state, at = [], encoder.initial_state(MAX_LEFT_FRAMES), 0
    for kept, right in sizes:
        chunk = audio[at * FRAME : (at + kept + right) * FRAME]
        preview, *_ = encoder.forward(chunk[: (kept + right + 2) // 2 * FRAME], 0, state)
        logits, _, state, _ = encoder.forward(chunk, kept * FRAME, state)
        outputs += [preview, logits]
        at += kept
    return outputs


def load_encoder(**options: Any) -> StreamingEncoder:
    model = load_model(device="cpu", **options)
    assert isinstance(model, StatefulMoonshine)
    return model.encoder


@pytest.fixture(scope="module")
def torch_encoder(embedded: TransformersCTC) -> StreamingEncoder:
    return TorchEncoder(embedded)


@pytest.fixture(scope="module")
def onnx_encoder() -> StreamingEncoder:
    return load_encoder(precision="float32", backend="onnxruntime")


# --- same output as PyTorch ---------------------------------------------------------------------------------


@settings(max_examples=8)
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
    for onnx_logits, torch_logits in zip(found, expected, strict=True):
        np.testing.assert_allclose(onnx_logits, torch_logits, atol=5e-3)


def test_state_is_immutable_and_bounded(onnx_encoder: StreamingEncoder, speech: FloatArray) -> None:
    state = onnx_encoder.initial_state(MAX_LEFT_FRAMES)
    for at in range(0, 30, 5):
        _, _, state, _ = onnx_encoder.forward(speech[at * FRAME : (at + 9) * FRAME], 5 * FRAME, state)
    assert sum(block.frames for block in state.blocks) == MAX_LEFT_FRAMES
    assert state.frames == 60
    chunk = speech[30 * FRAME : 40 * FRAME]
    first, _, after_preview, _ = onnx_encoder.forward(chunk, 0, state)
    assert after_preview is state, "a preview leaves no trace"
    onnx_encoder.forward(speech[: 10 * FRAME], 10 * FRAME, state)
    np.testing.assert_array_equal(onnx_encoder.forward(chunk, 0, state)[0], first)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_preview_state_continues_a_chunk_and_leaves_the_committed_state_alone(
    backend: str, torch_encoder: StreamingEncoder, onnx_encoder: StreamingEncoder, speech: FloatArray
) -> None:
    encoder = {"torch": torch_encoder, "onnxruntime": onnx_encoder}[backend]
    _, _, state, nothing = encoder.forward(speech[: 20 * FRAME], 10 * FRAME, encoder.initial_state(MAX_LEFT_FRAMES))
    assert nothing is None
    chunk, following = speech[10 * FRAME : 30 * FRAME], speech[22 * FRAME : 36 * FRAME]
    logits, _, plain, _ = encoder.forward(chunk, 5 * FRAME, state)
    same_logits, _, committed, preview = encoder.forward(chunk, 5 * FRAME, state, 12 * FRAME)
    np.testing.assert_array_equal(same_logits, logits)
    later = speech[15 * FRAME : 30 * FRAME]
    np.testing.assert_array_equal(encoder.forward(later, 0, committed)[0], encoder.forward(later, 0, plain)[0])
    _, _, kept, _ = encoder.forward(chunk, 12 * FRAME, state)
    expected = encoder.forward(following, 0, kept)[0]
    np.testing.assert_array_equal(encoder.forward(following, 0, preview)[0], expected)
    _, _, unchanged, only_preview = encoder.forward(chunk, 0, state, 12 * FRAME)
    assert unchanged is state
    np.testing.assert_array_equal(encoder.forward(following, 0, only_preview)[0], expected)


def test_states_share_the_blocks_before_them(onnx_encoder: StreamingEncoder, speech: FloatArray) -> None:
    state = onnx_encoder.initial_state(10**6)
    for at in (0, 10):
        _, _, state, preview = onnx_encoder.forward(
            speech[at * FRAME : (at + 20) * FRAME], 10 * FRAME, state, 15 * FRAME
        )
    assert state.blocks[0] is preview.blocks[0]
    assert [block.frames for block in preview.blocks] == [20, 30]
    assert all(array.base is None for block in preview.blocks for array in block.past), "a view keeps the whole chunk"


def test_text_equals_that_of_pytorch(
    torch_encoder: StreamingEncoder, onnx_encoder: StreamingEncoder, embedded: TransformersCTC, speech: FloatArray
) -> None:
    texts = []
    for encoder in (torch_encoder, onnx_encoder):
        with Recognizer(StatefulMoonshine(embedded, 2, encoder)) as recognizer:
            texts.append(recognizer.transcribe(speech[:160_000]).text)
    assert texts[0] == texts[1]
    assert len(texts[0].split()) > 10


def test_whole_windows_run_as_one_chunk(
    onnx_encoder: StreamingEncoder, embedded: TransformersCTC, speech: FloatArray
) -> None:
    class CountingEncoder:
        backend = "counting"
        calls = 0

        def initial_state(self, max_left_frames: int) -> State:
            return onnx_encoder.initial_state(max_left_frames)

        def forward(
            self, samples: FloatArray, kept_samples: int, state: State, preview_kept_samples: int = 0
        ) -> tuple[FloatArray, FloatArray, State, State]:
            self.calls += 1
            return onnx_encoder.forward(samples, kept_samples, state, preview_kept_samples)

    encoder, window = CountingEncoder(), speech[: 60 * FRAME]
    [found] = StatefulMoonshine(embedded, 1, encoder).log_probs([window])
    assert encoder.calls == 1
    np.testing.assert_allclose(found, embedded.log_probs([window])[0], atol=5e-3)


def test_threads_may_share_an_encoder(onnx_encoder: StreamingEncoder, speech: FloatArray) -> None:
    def run(start: int) -> list[FloatArray]:
        return run_chunks(onnx_encoder, speech[start * FRAME :], [(8, 8), (8, 8), (8, 0)])

    expected = [run(start) for start in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))
    for sequential, parallel in zip(expected, found, strict=True):
        for expected_logits, logits in zip(sequential, parallel, strict=True):
            np.testing.assert_array_equal(logits, expected_logits)


def test_int8_recognizes_nearly_the_same(
    onnx_encoder: StreamingEncoder, embedded: TransformersCTC, speech: FloatArray
) -> None:
    quantized = load_model(device="cpu", precision="int8")
    assert isinstance(quantized, StatefulMoonshine)
    assert quantized.backend == "onnxruntime"
    assert not any(isinstance(module, Int8Linear) for module in quantized.runner.model.modules())
    full = StatefulMoonshine(embedded, 1, onnx_encoder)
    [found], [expected] = (model.log_probs([speech[:240_000]]) for model in (quantized, full))
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    assert np.abs(found - expected).max() > 0.01, "nothing was quantized"


# --- selection ----------------------------------------------------------------------------------------------


def test_auto_selects_onnxruntime_where_graphs_exist(
    checkpoint: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "stream_asr"):
        assert isinstance(load_encoder(), OnnxEncoder)
        assert isinstance(load_encoder(backend="torch"), TorchEncoder)
        assert not caplog.records
        assert isinstance(load_encoder(name=checkpoint("moonshine")), TorchEncoder), "no graphs for these sizes"
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert "has no graphs for onnxruntime, so PyTorch runs it" in record.getMessage()


def test_model_without_graphs_is_refused(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"'/.*' has no graphs for onnxruntime; use torch"):
        load_model(checkpoint("moonshine"), device="cpu", backend="onnxruntime")


def test_auto_falls_back_to_pytorch_if_onnxruntime_fails(
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


def test_auto_falls_back_to_pytorch_if_onnxruntime_does_not_run_the_decoder(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> OnnxDecoder:
        raise RuntimeError("no operator MatMulIntegerToFloat")

    monkeypatch.setattr(moonshine_model, "OnnxDecoder", broken)
    with pytest.raises(ModelError, match=r"does not run 'embedded-en': no operator .*; use torch"):
        load_model(device="cpu", backend="onnxruntime")
    with caplog.at_level(logging.WARNING):
        decoder = load_model(device="cpu").second_pass
    assert "so PyTorch does: no operator" in caplog.text
    assert isinstance(decoder, MoonshineSecondPass)
    assert decoder.backend == "torch"


def test_command_line_accepts_both_backends(
    speech: FloatArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "recording.wav"
    soundfile.write(recording, speech[:48_000], 16_000)
    for backend in ("torch", "onnxruntime"):
        result = run_main(monkeypatch, capfd, "transcribe", recording, "--backend", backend)
        assert result.status == 0
        assert result.out.lower().startswith("good morning")
    refused = run_main(monkeypatch, capfd, "transcribe", recording, "--backend", "tensorflow")
    assert refused.status == 2
    assert "'tensorflow'" in refused.err
