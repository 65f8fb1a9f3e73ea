"""Moonshine's encoder in ONNX Runtime: the same as in PyTorch, and who gets it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr import InputError, ModelError, Recognizer
from stream_asr.acoustic import loading
from stream_asr.acoustic.base import State, StreamingEncoder
from stream_asr.acoustic.int8 import Int8Linear, has_instructions
from stream_asr.acoustic.loading import arranged, load_model
from stream_asr.acoustic.moonshine import onnx_runtime as moonshine_runtime
from stream_asr.acoustic.moonshine.model import StatefulMoonshine, TorchEncoder
from stream_asr.acoustic.moonshine.onnx_graph import Graph
from stream_asr.acoustic.moonshine.onnx_runtime import OnnxEncoder
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from tests.support.checkpoints import made_once, save_moonshine_ctc, save_wav2vec2_layer
from tests.support.command_line import run_main

FRAME, REACH = 768, 40
"""Samples of a frame of the embedded model's output; frames, before they are joined, that it looks back here."""


def in_pieces(hearer: StreamingEncoder, audio: FloatArray, sizes: list[tuple[int, int]]) -> list[FloatArray]:
    """Logits of pieces of so many kept frames and so many that are right context, with a preview before each."""
    made, state, at = [], hearer.initial_state(REACH), 0
    for kept, right in sizes:
        piece = audio[at * FRAME : (at + kept + right) * FRAME]
        preview, _ = hearer.forward(piece[: (kept + right + 2) // 2 * FRAME], 0, state)
        logits, state = hearer.forward(piece, kept * FRAME, state)
        made += [preview, logits]
        at += kept
    return made


@pytest.fixture(scope="module")
def in_torch() -> TransformersCTC:
    return load_model(device="cpu", precision="float32", backend="torch")


@pytest.fixture(scope="module")
def in_onnx() -> TransformersCTC:
    return load_model(device="cpu", precision="float32", backend="onnxruntime")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return made_once(tmp_path_factory, {"moonshine": save_moonshine_ctc, "wav2vec2": save_wav2vec2_layer})


# --- the same as in PyTorch ---------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(2, 14), st.integers(0, 10)), min_size=1, max_size=6))
def test_pieces_of_any_sizes_sound_the_same(
    sizes: list[tuple[int, int]], in_torch: TransformersCTC, in_onnx: TransformersCTC, speech: FloatArray
) -> None:
    assert in_onnx.hearer is not None
    audio = speech[4_000:]
    expected, found = in_pieces(TorchEncoder(in_torch), audio, sizes), in_pieces(in_onnx.hearer, audio, sizes)
    for there, here in zip(expected, found, strict=True):
        np.testing.assert_allclose(here, there, atol=5e-3)


@pytest.mark.parametrize("joined_after", [None, 0, 1])
def test_hearers_of_other_shapes_sound_the_same(joined_after: int | None, speech: FloatArray) -> None:
    torch.manual_seed(0)
    config = MoonshineCTCConfig(encoder_num_hidden_layers=2, joined_after=joined_after, rotary_dim=20)
    model = MoonshineForCTC(config).eval()
    for layer in model.encoder.layers:  # so that a frame's neighbours matter as much as they do to a trained one
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            projection.weight.data.mul_(5)

    class Runner:
        device = torch.device("cpu")

    runner: Any = Runner()
    runner.model = model
    sizes = [(4, 2), (3, 0), (6, 6), (40, 3), (2, 2)]
    expected = in_pieces(TorchEncoder(runner), speech, sizes)
    found = in_pieces(OnnxEncoder(model, int8=False), speech, sizes)
    for there, here in zip(expected, found, strict=True):
        assert there.std() > 0.01
        np.testing.assert_allclose(here, there, atol=1e-3)


def test_a_memory_stays_as_it_is_and_within_its_reach(in_onnx: TransformersCTC, speech: FloatArray) -> None:
    hearer = in_onnx.hearer
    assert isinstance(hearer, OnnxEncoder)
    state = hearer.initial_state(REACH)
    for at in range(0, 30, 5):
        _, state = hearer.forward(speech[at * FRAME : (at + 9) * FRAME], 5 * FRAME, state)
    assert {past.shape[1] for past in state.past} == {REACH, REACH // 2}
    assert state.steps == 60
    piece = speech[30 * FRAME : 40 * FRAME]
    first, other = hearer.forward(piece, 0, state)
    assert other is state, "nothing of a preview is kept"
    hearer.forward(speech[: 10 * FRAME], 10 * FRAME, state)
    np.testing.assert_array_equal(hearer.forward(piece, 0, state)[0], first)


def test_captions_are_those_of_pytorch(speech: FloatArray) -> None:
    texts = []
    for backend in ("torch", "onnxruntime"):
        with Recognizer.from_pretrained(device="cpu", precision="float32", backend=backend) as recognizer:
            texts.append(recognizer.transcribe(speech).text)
    assert texts[0] == texts[1]
    assert len(texts[0].split()) > 10


def test_whole_windows_are_heard_by_it_as_well(in_onnx: TransformersCTC, speech: FloatArray) -> None:
    class Counting:
        calls = 0

        def initial_state(self, reach: int) -> State:
            return in_onnx.hearer.initial_state(reach) if in_onnx.hearer else None

        def forward(self, samples: FloatArray, kept_samples: int, state: State) -> tuple[FloatArray, State]:
            assert in_onnx.hearer is not None
            self.calls += 1
            return in_onnx.hearer.forward(samples, kept_samples, state)

    hearer, window = Counting(), speech[: 60 * FRAME]
    [found] = StatefulMoonshine(in_onnx, 1, hearer).log_probs([window])
    assert hearer.calls == 1
    np.testing.assert_allclose(found, in_onnx.log_probs([window])[0], atol=5e-3)


def test_threads_do_not_disturb_each_other(in_onnx: TransformersCTC, speech: FloatArray) -> None:
    hearer = in_onnx.hearer
    assert hearer is not None

    def heard(start: int) -> list[FloatArray]:
        return in_pieces(hearer, speech[start * FRAME :], [(8, 8), (8, 8), (8, 0)])

    alone = [heard(start) for start in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(heard, range(4)))
    for one, other in zip(alone, together, strict=True):
        for expected, found in zip(one, other, strict=True):
            np.testing.assert_array_equal(found, expected)


# --- eight bits ---------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 40),
    inputs=st.integers(4, 300),
    outputs=st.integers(4, 300),
    biased=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_product_in_eight_bits_is_a_few_percent_off(
    frames: int, inputs: int, outputs: int, biased: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((frames, inputs), (outputs, inputs)))
    bias = rng.standard_normal(outputs).astype(np.float32) if biased else None
    made = {}
    for int8 in (False, True):
        graph = Graph(signed=has_instructions())
        source = graph.input("x", np.float32, [None, inputs])
        product = (graph.product_int8 if int8 else graph.product)(source, weight, bias)
        graph.output("y", product, np.float32, [None, outputs])
        session = onnxruntime.InferenceSession(graph.model(), providers=["CPUExecutionProvider"])
        [made[int8]] = session.run(None, {"x": x})
    expected = x @ weight.T + (0 if bias is None else bias)
    np.testing.assert_allclose(made[False], expected, atol=1e-3)
    assert 0 < np.linalg.norm(made[True] - expected) < 0.04 * np.linalg.norm(expected)


def test_eight_bits_spell_nearly_the_same(in_onnx: TransformersCTC, speech: FloatArray) -> None:
    eight = load_model(device="cpu", precision="int8", backend="onnxruntime")
    assert not any(isinstance(part, Int8Linear) for part in eight.model.modules()), "PyTorch's are left as they are"
    [found], [expected] = (arranged(model).log_probs([speech]) for model in (eight, in_onnx))
    assert (found[:, :481].argmax(axis=1) == expected[:, :481].argmax(axis=1)).mean() > 0.95
    assert np.abs(found - expected).max() > 0.01, "nothing was quantised"


# --- who gets it --------------------------------------------------------------------------------------------


def test_auto_takes_it_where_it_can(checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_model(device="cpu").hearer is not None
    assert load_model(checkpoint("moonshine"), device="cpu").hearer is not None
    assert load_model(checkpoint("wav2vec2"), device="cpu").hearer is None
    assert load_model(device="cpu", backend="torch").hearer is None
    monkeypatch.setattr(moonshine_runtime, "missing_packages", lambda: ["onnx"])
    assert load_model(device="cpu").hearer is None


def test_what_it_cannot_do_is_said(checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown backend 'tpu'; accepted are auto, torch, onnxruntime"):
        load_model(backend="tpu")
    with pytest.raises(InputError, match=r"runs embedded-en and what is made from it, not '/.*'; use torch"):
        load_model(checkpoint("wav2vec2"), device="cpu", backend="onnxruntime")
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        with pytest.raises(InputError, match="onnxruntime runs models on the processor only, not on cuda"):
            load_model(device="cuda", backend="onnxruntime")
    monkeypatch.setattr(moonshine_runtime, "missing_packages", lambda: ["onnx"])
    with pytest.raises(InputError, match=r'not installed \(onnx\): pip install "stream-asr\[onnx\]"'):
        load_model(device="cpu", backend="onnxruntime")


def test_one_that_does_not_work_is_left_for_pytorch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> OnnxEncoder:
        raise RuntimeError("no operator DynamicQuantizeMatMul")

    monkeypatch.setattr(loading, "OnnxEncoder", broken)
    with pytest.raises(ModelError, match=r"does not run 'embedded-en': no operator .*; use torch"):
        load_model(device="cpu", backend="onnxruntime")
    with caplog.at_level(logging.WARNING):
        model = load_model(device="cpu", precision="int8")
    assert "so PyTorch does: no operator" in caplog.text
    assert model.hearer is None
    assert any(isinstance(part, Int8Linear) for part in model.model.modules())


def test_the_command_line_takes_either(
    demo_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for backend in ("torch", "onnxruntime"):
        done = run_main(monkeypatch, capfd, "transcribe", demo_path, "--backend", backend)
        assert done.status == 0
        assert len(done.out.split()) > 10
    refused = run_main(monkeypatch, capfd, "transcribe", demo_path, "--backend", "tensorflow")
    assert refused.status == 2
    assert "'tensorflow'" in refused.err
