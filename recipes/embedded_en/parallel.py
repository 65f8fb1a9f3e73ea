"""Data parallel training in several processes with one thread each.

On a CPU, two processes that average their gradients are faster than one process with two threads: most operations of a
small model are too short to be split among threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

T = TypeVar("T")

_TIMEOUT = timedelta(hours=1)
"""Longer than any evaluation, during which the first process keeps the others waiting."""


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_processes(work: Callable[[int, int, T], None], argument: T, folder: Path, processes: int) -> None:
    """Run a function in several processes, and wait until all of them are done.

    Args:
        work: a module-level function; called with the index of the process, the number of processes and ``argument``.
        argument: must be picklable.
        folder: folder for the file through which the processes connect.
        processes: number of processes; 1 runs the function in this process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rendezvous = folder / ".processes"
    rendezvous.unlink(missing_ok=True)
    if processes == 1:
        _run_process(0, 1, work, argument, rendezvous)
    else:
        spawn(_run_process, (processes, work, argument, rendezvous), nprocs=processes)


def _run_process(rank: int, processes: int, work: Callable[[int, int, T], None], argument: T, rendezvous: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{rendezvous.absolute()}",
        rank=rank,
        world_size=processes,
        timeout=_TIMEOUT,
    )
    work(rank, processes, argument)
    dist.destroy_process_group()
