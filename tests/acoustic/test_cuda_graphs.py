"""Passes recorded and played back, and copies to a device and from it: what can be said of them without one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stream_asr import InputError
from stream_asr.acoustic.cuda_graphs import CudaGraphCapture, ForwardPass, GraphCache, Inputs, bucket
from stream_asr.acoustic.device_copies import PinnedCopies, device_copies
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from tests.support.checkpoints import (
    load_runner,
    made_once,
    save_moonshine_ctc,
    save_parakeet,
    save_wav2vec2_group,
    save_wav2vec2_layer,
)

CPU = torch.device("cpu")


@given(count=st.integers(1, 10_000))
def test_as_few_are_added_as_make_a_power_of_two(count: int) -> None:
    filled = bucket(count)
    assert filled.bit_count() == 1
    assert count <= filled < 2 * count


class Tape:
    """A recorder that keeps what it was given."""

    def __init__(self, add: float = 0.0, fails_at: int | None = None) -> None:
        self.shapes: list[list[int]] = []
        self.played = 0
        self._add, self._fails_at = add, fails_at

    def __call__(self, run: ForwardPass, inputs: Inputs) -> ForwardPass:
        if len(self.shapes) == self._fails_at:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.shapes.append(list(next(iter(inputs.values())).shape))

        def played_back(again: Inputs) -> Tensor:
            self.played += 1
            return run(again) * (1 + self._add)

        return played_back


class Doubling:
    calls = 0

    def __call__(self, inputs: Inputs) -> Tensor:
        self.calls += 1
        return 2 * inputs["x"]


def of(*sizes: int) -> dict[str, Tensor]:
    return {"x": torch.arange(float(np.prod(sizes))).reshape(sizes)}


def test_a_shape_is_recorded_when_it_comes_again() -> None:
    run, tape = Doubling(), Tape()
    replays = GraphCache(run, tape)
    replays(of(2, 3))
    assert (tape.shapes, tape.played) == ([], 0)
    replays(of(2, 3))
    assert (tape.shapes, tape.played) == ([[2, 3]], 1), "played back once, to see whether it is the same"
    for inputs in (of(2, 3), {"x": torch.ones(2, 3)}):
        assert torch.equal(replays(inputs), 2 * inputs["x"])
    assert tape.played == 3
    replays(of(4, 3))
    assert tape.shapes == [[2, 3]], "another shape is another matter"
    replays({"x": torch.ones(2, 3, dtype=torch.float64)})
    assert tape.played == 3, "and so is another type"


@given(shapes=st.lists(st.integers(1, 6), max_size=40), most=st.integers(1, 4))
def test_answers_are_the_models_and_recordings_are_limited(shapes: list[int], most: int) -> None:
    tape = Tape()
    replays = GraphCache(Doubling(), tape, most)
    for size in shapes:
        assert torch.equal(replays(of(size)), 2 * of(size)["x"])
    again = [size for place, size in enumerate(shapes) if size in shapes[:place]]
    assert [size for [size] in tape.shapes] == list(dict.fromkeys(again))[:most], "each once, the first to come again"


@pytest.mark.parametrize(
    ("tape", "words"),
    [(Tape(fails_at=1), "not permitted when stream is capturing"), (Tape(add=0.5), "played back is 0")],
)
def test_what_cannot_be_recorded_is_left_to_the_model(tape: Tape, words: str, caplog: pytest.LogCaptureFixture) -> None:
    replays = GraphCache(Doubling(), tape)
    with caplog.at_level(logging.WARNING):
        for size in (2, 2, 3, 3, 2, 3, 4, 4):
            assert torch.equal(replays(of(size)), 2 * of(size)["x"])
    assert not replays.works
    assert len(caplog.records) == 1, "said once"
    assert words in caplog.text
    assert len(tape.shapes) == 1, "and never tried again"


# --- with models --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return made_once(
        tmp_path_factory,
        {"moonshine": save_moonshine_ctc, "group": save_wav2vec2_group, "layer": save_wav2vec2_layer},
    )


def recording(model: TransformersCTC, tape: Tape) -> TransformersCTC:
    return TransformersCTC(model.name, model.model, model.feature_extractor, model.labels, device=CPU, capture=tape)


@pytest.mark.parametrize(("name", "pads"), [("moonshine", True), ("layer", True), ("group", False)])
def test_models_give_what_they_give_without(
    name: str, pads: bool, checkpoint: Callable[[str], Path], speech: FloatArray
) -> None:
    plain, tape = load_runner(checkpoint(name), device="cpu", precision="float32", backend="torch"), Tape()
    recorded = recording(plain, tape)
    assert plain.pads == pads
    stride = plain.frame_samples
    for counts in ([30], [30], [31], [30, 30, 30], [30, 30, 30], [33, 33, 33, 33, 33], [30, 30, 30]):
        windows = [speech[1_000 * at :][: count * stride] for at, count in enumerate(counts)]
        for found, expected in zip(recorded.log_probs(windows), plain.log_probs(windows), strict=True):
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=2e-3)
    assert tape.played > len(tape.shapes) > 0
    for windows_at_once, samples in tape.shapes:
        assert windows_at_once in (1, 2, 4, 8)
        assert samples % 3_200 == 0 if pads else samples in (30 * stride, 31 * stride, 33 * stride)


def test_nothing_is_filled_up_once_recording_has_failed(
    checkpoint: Callable[[str], Path], speech: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_runner(checkpoint("moonshine"), device="cpu", precision="float32", backend="torch")
    recorded, shapes, forward = recording(plain, Tape(fails_at=0)), [], plain.model.forward

    def watched(input_values: Tensor, attention_mask: Tensor) -> Any:
        shapes.append(tuple(input_values.shape))
        return forward(input_values, attention_mask)

    monkeypatch.setattr(plain.model, "forward", watched)
    for _ in range(3):
        recorded.log_probs(3 * [speech[: 30 * plain.frame_samples]])
    length = 30 * plain.frame_samples
    assert shapes == [*2 * [(4, length + -length % 3_200)], (3, length)]


def test_models_that_remember_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    save_parakeet(tmp_path)
    with pytest.raises(InputError, match=r"CUDA graphs are for data2vec-audio, hubert, .*, not for '/"):
        load_runner(tmp_path, device="cuda", cuda_graphs=True)


def test_graphs_are_for_cuda() -> None:
    with pytest.raises(InputError, match="CUDA graphs are for CUDA, not for cpu"):
        load_runner(device="cpu", cuda_graphs=True)


# --- what is asked of CUDA ----------------------------------------------------------------------------------


class FakeCuda:
    """Stands for ``torch.cuda``: does at once, on the processor, what is asked of it, and writes it down."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.current = self.Stream(CPU, "model")
        self.capturing: FakeCuda.CUDAGraph | None = None
        self._streams = 0

    def Stream(self, device: torch.device, name: str = "own") -> Any:  # noqa: N802 - as in torch.cuda
        log = self.log

        class Stream:
            def __str__(self) -> str:
                return name

            def wait_stream(self, other: Any) -> None:
                log.append(f"{name} waits for {other}")

        return Stream()

    class CUDAGraph:
        def __init__(self) -> None:
            self.work: list[Callable[[], None]] = []

        def replay(self) -> None:
            for work in self.work:
                work()

    def Event(self) -> Any:  # noqa: N802
        log = self.log

        class Event:
            def record(self, stream: Any) -> None:
                log.append(f"event on {stream}")

            def synchronize(self) -> None:
                log.append("wait for event")

        return Event()

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: CUDAGraph, *, pool: str, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert (pool, capture_error_mode) == ("pool", "thread_local")
        self.capturing = graph
        try:
            with self.stream(stream):
                yield
        finally:
            self.capturing = None

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    def current_stream(self, device: torch.device) -> Any:
        return self.current

    def doubled(self, inputs: Inputs) -> Tensor:
        """A pass of a model, which is recorded where one is captured."""
        source = inputs["x"]
        output = 2 * source
        if self.capturing is not None:
            self.capturing.work.append(lambda: output.copy_(2 * source))
        return output

    def graph_pool_handle(self) -> str:
        return "pool"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake, empty = FakeCuda(), torch.empty
    for name in ("Stream", "CUDAGraph", "Event", "stream", "graph", "device", "current_stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))

    def pinned(made: Tensor) -> Tensor:
        fake.log.append(f"pinned on {fake.current}")
        return made

    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned(tensor.clone()))
    monkeypatch.setattr(torch, "empty", lambda *sizes, pin_memory: pinned(empty(*sizes)))
    return fake


def test_a_recording_is_played_with_new_numbers(cuda: FakeCuda) -> None:
    ran_on: list[str] = []

    def run(inputs: Inputs) -> Tensor:
        ran_on.append(str(cuda.current))
        return cuda.doubled(inputs)

    example = of(2, 2)
    recorded = CudaGraphCapture(CPU)(run, example)
    assert ran_on == 4 * ["own"], "warmed up where it is recorded"
    assert cuda.log[0] == "own waits for model"
    assert cuda.log[-1] == "model waits for own"
    for inputs in (of(2, 2), {"x": torch.full((2, 2), 7.0)}):
        assert torch.equal(recorded(inputs), 2 * inputs["x"])
    assert len(ran_on) == 4, "played back, not run"
    assert torch.equal(example["x"], of(2, 2)["x"]), "the example is left alone"


def test_replays_with_cuda_graphs_answer_as_the_model(cuda: FakeCuda) -> None:
    replays = GraphCache(cuda.doubled, CudaGraphCapture(CPU))
    for factor in (1, 2, 3, 4):
        inputs = {"x": factor * torch.ones(3)}
        assert torch.equal(replays(inputs), 2 * inputs["x"])


def test_a_capture_that_fails_leaves_the_model_to_itself(cuda: FakeCuda) -> None:
    def run(inputs: Inputs) -> Tensor:
        if cuda.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")
        return 2 * inputs["x"]

    replays = GraphCache(run, CudaGraphCapture(CPU))
    for _ in range(4):
        assert torch.equal(replays(of(2, 2)), 2 * of(2, 2)["x"])
    assert not replays.works


def test_copies_wait_for_what_they_copy(cuda: FakeCuda) -> None:
    copies = PinnedCopies(CPU)
    moved = copies.to_device(of(2, 2))
    assert cuda.log == ["own waits for model", "pinned on own", "model waits for own"]
    assert torch.equal(moved["x"], of(2, 2)["x"])
    cuda.log.clear()
    half = torch.tensor([0.5, 2.0], dtype=torch.float16)
    back = copies.to_host(half)
    assert cuda.log == ["own waits for model", "pinned on own", "event on own", "wait for event"]
    assert back.dtype == np.float32
    assert back.tolist() == [0.5, 2.0]


def test_only_cuda_has_pinned_copies(cuda: FakeCuda) -> None:
    assert isinstance(device_copies(torch.device("cuda")), PinnedCopies)
    for device in ("cpu", "mps"):
        assert not isinstance(device_copies(torch.device(device)), PinnedCopies)
