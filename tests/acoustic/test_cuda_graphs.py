"""CUDA graphs and copies to and from a device, tested without a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stream_asr import InputError
from stream_asr.acoustic.cuda_graphs import CudaGraphCapture, ForwardPass, GraphCache, Inputs, bucket
from stream_asr.acoustic.device_copies import PinnedCopies, device_copies
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.config import AcousticConfig
from tests.support.checkpoints import load_runner

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


class FakeCapture:
    """A `Capture` that counts.

    Args:
        error: relative error of the outputs of a replay.
        fails_at: number of captures before one raises an error; None for no error.

    Attributes:
        shapes: shape of the first input of each captured pass.
        replays: number of replays.
    """

    def __init__(self, error: float = 0.0, fails_at: int | None = None) -> None:
        self.shapes: list[list[int]] = []
        self.replays = 0
        self._error, self._fails_at = error, fails_at

    def __call__(self, forward: ForwardPass, inputs: Inputs) -> ForwardPass:
        if len(self.shapes) == self._fails_at:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.shapes.append(list(next(iter(inputs.values())).shape))

        def replay(new_inputs: Inputs) -> Tensor:
            self.replays += 1
            return forward(new_inputs) * (1 + self._error)

        return replay


def double(inputs: Inputs) -> Tensor:
    """A model pass."""
    return 2 * inputs["x"]


def make_inputs(*shape: int) -> dict[str, Tensor]:
    return {"x": torch.arange(float(np.prod(shape))).reshape(shape)}


# --- which passes are captured ------------------------------------------------------------------------------


@given(count=st.integers(1, 10_000))
def test_batches_are_filled_up_to_the_next_power_of_two(count: int) -> None:
    filled = bucket(count)
    assert filled.bit_count() == 1
    assert count <= filled < 2 * count


def test_pass_is_captured_when_its_shape_recurs() -> None:
    capture = FakeCapture()
    cache = GraphCache(double, capture)
    cache(make_inputs(2, 3))
    assert (capture.shapes, capture.replays) == ([], 0)
    cache(make_inputs(2, 3))
    assert (capture.shapes, capture.replays) == ([[2, 3]], 1), "one replay checks the output"
    for inputs in (make_inputs(2, 3), {"x": torch.ones(2, 3)}):
        assert torch.equal(cache(inputs), 2 * inputs["x"])
    assert capture.replays == 3
    cache(make_inputs(4, 3))
    assert capture.shapes == [[2, 3]], "a new shape runs eagerly"
    cache({"x": torch.ones(2, 3, dtype=torch.float64)})
    assert capture.replays == 3, "so does a new dtype"


@given(sizes=st.lists(st.integers(1, 6), max_size=40), max_graphs=st.integers(1, 4))
def test_number_of_graphs_is_limited(sizes: list[int], max_graphs: int) -> None:
    capture = FakeCapture()
    cache = GraphCache(double, capture, AcousticConfig(max_graphs=max_graphs))
    for size in sizes:
        assert torch.equal(cache(make_inputs(size)), 2 * make_inputs(size)["x"])
    recurring = dict.fromkeys(size for place, size in enumerate(sizes) if size in sizes[:place])
    assert [size for [size] in capture.shapes] == list(recurring)[:max_graphs]


def test_number_of_remembered_shapes_is_limited() -> None:
    capture = FakeCapture()
    cache = GraphCache(double, capture, AcousticConfig(max_seen_shapes=2))
    for size in (1, 2, 3, 3, 2):
        assert torch.equal(cache(make_inputs(size)), 2 * make_inputs(size)["x"])
    assert capture.shapes == [[2]]


@pytest.mark.parametrize(
    ("capture", "message"),
    [
        (FakeCapture(fails_at=1), "not permitted when stream is capturing"),
        (FakeCapture(error=0.5), "the replay differs by 0."),
    ],
    ids=["error", "difference"],
)
def test_failed_capture_makes_all_passes_eager(
    capture: FakeCapture, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = GraphCache(double, capture)
    with caplog.at_level(logging.WARNING):
        for size in (2, 2, 3, 3, 2, 3, 4, 4):
            assert torch.equal(cache(make_inputs(size)), 2 * make_inputs(size)["x"])
    assert not cache.works
    assert len(caplog.records) == 1
    assert message in caplog.text
    assert len(capture.shapes) == 1, "no capture is tried again"


# --- with models --------------------------------------------------------------------------------------------


def with_capture(runner: TransformersCTC, capture: FakeCapture) -> TransformersCTC:
    return TransformersCTC(
        runner.name, runner.model, runner.feature_extractor, runner.labels, device=CPU, capture=capture
    )


@pytest.mark.parametrize(
    ("family", "pads"), [("moonshine", True), ("wav2vec2 layer norm", True), ("wav2vec2 group norm", False)]
)
def test_graphs_do_not_change_the_output(
    family: str, pads: bool, checkpoint: Callable[[str], Path], speech: FloatArray
) -> None:
    eager, capture = load_runner(checkpoint(family), precision="float32"), FakeCapture()
    captured = with_capture(eager, capture)
    assert eager.pads == pads
    stride = eager.frame_samples
    for frames in ([30], [30], [31], [30, 30, 30], [30, 30, 30], [33, 33, 33, 33, 33], [30, 30, 30]):
        windows = [speech[1_000 * start :][: count * stride] for start, count in enumerate(frames)]
        for found, expected in zip(captured.log_probs(windows), eager.log_probs(windows), strict=True):
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=2e-3)
    assert capture.replays > len(capture.shapes) > 0
    for batch_size, samples in capture.shapes:
        assert batch_size in (1, 2, 4, 8)
        assert samples % 3_200 == 0 if pads else samples in (30 * stride, 31 * stride, 33 * stride)


def test_batches_are_not_filled_up_after_a_failed_capture(
    checkpoint: Callable[[str], Path], speech: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = load_runner(checkpoint("moonshine"), precision="float32")
    captured, shapes, forward = with_capture(eager, FakeCapture(fails_at=0)), [], eager.model.forward

    def record_shape(input_values: Tensor, attention_mask: Tensor) -> Any:
        shapes.append(tuple(input_values.shape))
        return forward(input_values, attention_mask)

    monkeypatch.setattr(eager.model, "forward", record_shape)
    length = 30 * eager.frame_samples
    for _ in range(3):
        captured.log_probs(3 * [speech[:length]])
    assert shapes == [*2 * [(4, length + -length % 3_200)], (3, length)]


def test_models_that_keep_tensors_between_passes_are_refused(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match=r"CUDA graphs work with data2vec-audio, hubert, .*, not with '/"):
        load_model(checkpoint("parakeet"), device="cuda", cuda_graphs=True)


# --- calls of CUDA ------------------------------------------------------------------------------------------


class StreamLike(Protocol):
    def wait_stream(self, other: StreamLike) -> None: ...


class FakeCuda:
    """Replaces ``torch.cuda``: runs everything at once, on the CPU.

    Attributes:
        log: how streams and events were synchronized, in order.
        current: the current stream.
        capturing: the graph that is being captured.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.current = self.Stream(CPU, "model")
        self.capturing: FakeCuda.CUDAGraph | None = None

    def Stream(self, device: torch.device, name: str = "side") -> StreamLike:  # noqa: N802 - as in torch.cuda
        log = self.log

        class NamedStream:
            def __str__(self) -> str:
                return name

            def wait_stream(self, other: StreamLike) -> None:
                log.append(f"{name} waits for {other}")

        return NamedStream()

    class CUDAGraph:
        def __init__(self) -> None:
            self.operations: list[Callable[[], object]] = []

        def replay(self) -> None:
            for run in self.operations:
                run()

    def Event(self) -> Any:  # noqa: N802
        log = self.log

        class Event:
            def record(self, stream: StreamLike) -> None:
                log.append(f"event on {stream}")

            def synchronize(self) -> None:
                log.append("wait for event")

        return Event()

    @contextmanager
    def stream(self, stream: StreamLike) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: CUDAGraph, *, pool: str, stream: StreamLike, capture_error_mode: str) -> Iterator[None]:
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

    def current_stream(self, device: torch.device) -> StreamLike:
        return self.current

    def graph_pool_handle(self) -> str:
        return "pool"

    def double(self, inputs: Inputs) -> Tensor:
        """A model pass that can be captured."""
        source = inputs["x"]
        output = 2 * source
        if self.capturing is not None:
            self.capturing.operations.append(lambda: output.copy_(2 * source))
        return output


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake, empty = FakeCuda(), torch.empty
    for name in ("Stream", "CUDAGraph", "Event", "stream", "graph", "device", "current_stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))

    def pin(tensor: Tensor) -> Tensor:
        fake.log.append(f"pinned on {fake.current}")
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pin(tensor.clone()))
    monkeypatch.setattr(torch, "empty", lambda *sizes, pin_memory: pin(empty(*sizes)))
    return fake


def test_replay_computes_the_output_for_new_inputs(cuda: FakeCuda) -> None:
    ran_on: list[str] = []

    def forward(inputs: Inputs) -> Tensor:
        ran_on.append(str(cuda.current))
        return cuda.double(inputs)

    example = make_inputs(2, 2)
    replay = CudaGraphCapture(CPU)(forward, example)
    assert ran_on == 4 * ["side"], "warm-ups run on the stream of the capture"
    assert cuda.log[0] == "side waits for model"
    assert cuda.log[-1] == "model waits for side"
    for inputs in (make_inputs(2, 2), {"x": torch.full((2, 2), 7.0)}):
        assert torch.equal(replay(inputs), 2 * inputs["x"])
    assert len(ran_on) == 4, "a replay does not run the model"
    assert torch.equal(example["x"], make_inputs(2, 2)["x"]), "the example is not overwritten"


def test_number_of_warm_ups_is_configurable(cuda: FakeCuda) -> None:
    passes: list[Inputs] = []

    def forward(inputs: Inputs) -> Tensor:
        passes.append(inputs)
        return cuda.double(inputs)

    CudaGraphCapture(CPU, AcousticConfig(graph_warm_ups=1))(forward, make_inputs(2))
    assert len(passes) == 2


def test_cache_of_cuda_graphs_does_not_change_the_output(cuda: FakeCuda) -> None:
    cache = GraphCache(cuda.double, CudaGraphCapture(CPU))
    for factor in (1, 2, 3, 4):
        inputs = {"x": factor * torch.ones(3)}
        assert torch.equal(cache(inputs), 2 * inputs["x"])
    assert cache.works


def test_failed_cuda_capture_makes_all_passes_eager(cuda: FakeCuda) -> None:
    def forward(inputs: Inputs) -> Tensor:
        if cuda.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")
        return 2 * inputs["x"]

    cache = GraphCache(forward, CudaGraphCapture(CPU))
    for _ in range(4):
        assert torch.equal(cache(make_inputs(2, 2)), 2 * make_inputs(2, 2)["x"])
    assert not cache.works


def test_copies_are_synchronized_with_the_stream_of_the_model(cuda: FakeCuda) -> None:
    copies = PinnedCopies(CPU)
    copied = copies.to_device(make_inputs(2, 2))
    assert cuda.log == ["side waits for model", "pinned on side", "model waits for side"]
    assert torch.equal(copied["x"], make_inputs(2, 2)["x"])
    cuda.log.clear()
    array = copies.to_host(torch.tensor([0.5, 2.0], dtype=torch.float16))
    assert cuda.log == ["side waits for model", "pinned on side", "event on side", "wait for event"]
    assert array.dtype == np.float32
    assert array.tolist() == [0.5, 2.0]


@pytest.mark.usefixtures("cuda")
def test_copies_are_pinned_on_cuda_only() -> None:
    assert isinstance(device_copies(torch.device("cuda")), PinnedCopies)
    for device in ("cpu", "mps"):
        assert not isinstance(device_copies(torch.device(device)), PinnedCopies)
