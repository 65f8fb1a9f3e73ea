"""One window per core."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from stream_asr.acoustic.one_per_core import OnePerCore
from stream_asr.array_types import FloatArray
from tests.support.checkpoints import load_runner
from tests.support.fakes import FRAME, FakeModel, sound


def test_each_window_runs_alone() -> None:
    windows = [sound("hello world"), sound("a"), sound("good morning"), sound("hello")]
    model = FakeModel()
    outputs = OnePerCore(model, cores=3).log_probs(windows)
    assert [len(batch) for batch in model.batches] == [1, 1, 1, 1]
    for window, output in zip(windows, outputs, strict=True):
        np.testing.assert_array_equal(output, FakeModel().log_probs([window])[0])


def test_windows_run_in_parallel() -> None:
    barrier = threading.Barrier(2, timeout=30)  # breaks if one window waits for the other to finish

    def wait_for_other(_: Sequence[FloatArray]) -> None:
        barrier.wait()

    model = OnePerCore(FakeModel(wait_for_other), cores=2)
    assert len(model.log_probs([sound("one"), sound("two")])) == 2


def test_error_of_one_window_is_raised() -> None:
    def refuse(windows: Sequence[FloatArray]) -> None:
        if len(windows[0]) == FRAME:
            raise ValueError("too short")

    model = OnePerCore(FakeModel(refuse), cores=2)
    with pytest.raises(ValueError, match="too short"):
        model.log_probs([sound("one"), np.zeros(FRAME, dtype=np.float32)])
    assert len(model.log_probs([sound("one")])) == 1, "the model still works"


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.usefixtures("one_thread")
def test_output_does_not_depend_on_the_number_of_cores(precision: str, speech: FloatArray) -> None:
    """Bit for bit; otherwise the text of a stream could differ from that of its recording."""
    runner = load_runner(precision=precision)
    windows = [speech[start : start + 60 * 768] for start in (8_000, 40_000, 90_000)]
    outputs = []
    for threads, cores in ((1, 1), (2, 1), (2, 3)):
        torch.set_num_threads(threads)
        outputs.append(np.stack(OnePerCore(runner, cores).log_probs(windows)))
    np.testing.assert_array_equal(outputs[1], outputs[0])
    np.testing.assert_array_equal(outputs[2], outputs[0])


@pytest.mark.usefixtures("one_thread")
def test_only_workers_are_limited_to_one_thread() -> None:
    torch.set_num_threads(2)
    model = OnePerCore(FakeModel(), cores=2)
    seen: list[int] = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert (torch.get_num_threads(), seen) == (2, [2])
    assert model.pool.map(lambda _: torch.get_num_threads(), range(4)) == [1, 1, 1, 1]
