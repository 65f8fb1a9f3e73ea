from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from fakes import FRAME, FakeModel, conversation, loud, sound

from stream_asr import Recognizer
from stream_asr.acoustic.side_by_side import SideBySide
from stream_asr.arrays import FloatArray


def test_windows_of_any_length_come_out_as_they_do_alone() -> None:
    windows = [sound("hello world"), sound("a"), sound("good morning"), sound("hello")]
    model = FakeModel()
    outputs = SideBySide(model, cores=3).log_probs(windows)
    assert sorted(map(len, model.batches)) == [1, 1, 1, 1]
    for window, output in zip(windows, outputs, strict=True):
        np.testing.assert_array_equal(output, FakeModel().log_probs([window])[0])


def test_windows_run_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=30)
    model = SideBySide(FakeModel(lambda _: together.wait() and None), cores=2)  # one after the other would break it
    assert len(model.log_probs([sound("one"), sound("two")])) == 2


def test_a_window_that_breaks_the_model_says_so() -> None:
    def refuse(windows: Sequence[FloatArray]) -> None:
        if len(windows[0]) == FRAME:
            raise ValueError("too short")

    model = SideBySide(FakeModel(refuse), cores=2)
    with pytest.raises(ValueError, match="too short"):
        model.log_probs([sound("one"), np.zeros(FRAME, dtype=np.float32)])
    assert len(model.log_probs([sound("one")])) == 1, "the others may try again"


def test_the_text_is_the_same_on_any_number_of_cores() -> None:
    audio = conversation("the first sentence of some length", "the second", "and one more after it")
    texts = []
    for model in (FakeModel(), SideBySide(FakeModel(), cores=1), SideBySide(FakeModel(), cores=3)):
        with Recognizer(model, detector=lambda: loud) as recognizer:
            texts.append(recognizer.transcribe(audio).text)
    assert texts[0].startswith("the first sentence")
    assert len(set(texts)) == 1
