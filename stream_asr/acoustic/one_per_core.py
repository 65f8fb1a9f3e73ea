"""Small models on a processor: each window alone, on a core of its own.

A window of a small model is too little work to share among cores: waiting for each other costs them more than the
work. And what comes out for a window that is run alone does not depend on its company.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from stream_asr.acoustic.base import AcousticModel
from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class OnePerCore:
    """See `AcousticModel`.

    Args:
        model: runs the windows.
        cores: that it may have.
    """

    pads = True
    batches_kept_windows = True

    def __init__(self, model: AcousticModel, cores: int) -> None:
        self._model = model
        self.most_windows = cores
        threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(cores, "stream_asr-model")
        everyone = threading.Barrier(cores)
        list(self._pool.map(lambda _: _one_thread(everyone), range(cores)))
        # What a thread asks for, PyTorch keeps for threads to come as well.
        torch.set_num_threads(threads)

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def frame_samples(self) -> int:
        return self._model.frame_samples

    @property
    def longest_samples(self) -> int | None:
        return self._model.longest_samples

    @property
    def labels(self) -> Labels:
        return self._model.labels

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        return self._each(self._alone, windows)

    def _alone(self, window: FloatArray) -> FloatArray:
        return self._model.log_probs([window])[0]

    def _each(self, run: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
        """All items at the same time, as far as there are cores."""
        return list(self._pool.map(run, items))


def _one_thread(everyone: threading.Barrier) -> None:
    """Of this thread's own; all workers wait for each other, lest one does it twice."""
    everyone.wait()
    torch.get_num_threads()  # the first question sets it to what the process has
    torch.set_num_threads(1)
