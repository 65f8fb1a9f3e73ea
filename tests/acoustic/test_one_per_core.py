from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from stream_asr.acoustic.one_per_core import OnePerCore
from stream_asr.array_types import FloatArray
from tests.support.checkpoints import load_runner, save_moonshine_ctc
from tests.support.fakes import FRAME, FakeModel, sound


def test_windows_of_any_length_come_out_as_they_do_alone() -> None:
    windows = [sound("hello world"), sound("a"), sound("good morning"), sound("hello")]
    model = FakeModel()
    outputs = OnePerCore(model, cores=3).log_probs(windows)
    assert sorted(map(len, model.batches)) == [1, 1, 1, 1]
    for window, output in zip(windows, outputs, strict=True):
        np.testing.assert_array_equal(output, FakeModel().log_probs([window])[0])


def test_windows_run_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=30)
    model = OnePerCore(FakeModel(lambda _: together.wait() and None), cores=2)  # one after the other would break it
    assert len(model.log_probs([sound("one"), sound("two")])) == 2


def test_a_window_that_breaks_the_model_says_so() -> None:
    def refuse(windows: Sequence[FloatArray]) -> None:
        if len(windows[0]) == FRAME:
            raise ValueError("too short")

    model = OnePerCore(FakeModel(refuse), cores=2)
    with pytest.raises(ValueError, match="too short"):
        model.log_probs([sound("one"), np.zeros(FRAME, dtype=np.float32)])
    assert len(model.log_probs([sound("one")])) == 1, "the others may try again"


@pytest.mark.usefixtures("one_thread")
def test_what_comes_out_is_the_same_on_any_number_of_cores(speech: FloatArray) -> None:
    """To the last bit, or a stream could end in another text than the recording of it."""
    runner = load_runner(device="cpu")
    windows = [speech[start : start + 60 * 768] for start in (8_000, 40_000, 90_000)]
    outputs = []
    for threads, cores in ((1, 1), (2, 1), (2, 3)):
        torch.set_num_threads(threads)
        outputs.append(np.stack(OnePerCore(runner, cores).log_probs(windows)))
    np.testing.assert_array_equal(outputs[1], outputs[0])
    np.testing.assert_array_equal(outputs[2], outputs[0])


@pytest.mark.usefixtures("one_thread")
def test_only_its_own_threads_are_restricted() -> None:
    torch.set_num_threads(2)
    model = OnePerCore(FakeModel(), cores=2)
    seen: list[int] = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert (torch.get_num_threads(), seen) == (2, [2])
    assert model._map(lambda _: torch.get_num_threads(), range(4)) == [1, 1, 1, 1]


def test_a_large_model_in_int8_is_no_small_one(tmp_path: Path) -> None:
    save_moonshine_ctc(tmp_path)
    whole, quantised = (load_runner(tmp_path, device="cpu", precision=p) for p in ("float32", "int8"))
    assert whole.parameters == quantised.parameters > 0
