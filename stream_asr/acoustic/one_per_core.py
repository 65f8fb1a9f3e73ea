"""Run small models on a CPU with one window for each core.

One window of a small model is too little work to split between cores: synchronization costs more than it gains. And the
output for a window that runs by itself does not depend on a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from stream_asr.acoustic.base import AcousticModel, SecondPassModel
from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class CorePool:
    """Worker threads, one for each core, each of which runs PyTorch on one thread.

    Args:
        cores: number of threads.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(cores, "stream_asr-model")
        all_started = threading.Barrier(cores)
        list(self._pool.map(lambda _: _limit_to_one_thread(all_started), range(cores)))
        # PyTorch applies a thread's setting to threads that start later, too.
        torch.set_num_threads(threads)

    def map(self, run: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """Run all items in parallel, at most one for each core."""
        return list(self._pool.map(run, items))


class OnePerCore:
    """See `AcousticModel`.

    Args:
        runner: runs single windows.
        cores: number of windows that run in parallel.
    """

    pads = True
    batches_commit_windows = True

    def __init__(self, runner: AcousticModel, cores: int) -> None:
        self.runner = runner
        self.parallel_windows = cores
        self.pool = CorePool(cores)

    @property
    def name(self) -> str:
        return self.runner.name

    @property
    def frame_samples(self) -> int:
        return self.runner.frame_samples

    @property
    def max_window_samples(self) -> int | None:
        return self.runner.max_window_samples

    @property
    def labels(self) -> Labels:
        return self.runner.labels

    @property
    def language_model(self) -> str | None:
        """Name of the bundled language model that the checkpoint was made for; None for none."""
        name: str | None = getattr(self.runner, "language_model", None)
        return name

    @property
    def second_pass(self) -> SecondPassModel | None:
        """The attention decoder of the checkpoint; None if there is none, or if the model cannot feed it."""
        return None

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        return self.pool.map(self._log_probs_of_one, windows)

    def _log_probs_of_one(self, window: FloatArray) -> FloatArray:
        return self.runner.log_probs([window])[0]


def _limit_to_one_thread(all_started: threading.Barrier) -> None:
    """Limit the calling worker to one PyTorch thread. The barrier makes every worker run this exactly once."""
    all_started.wait()
    torch.get_num_threads()  # the first query initializes the worker's setting from the process's
    torch.set_num_threads(1)
