"""Checkpoints of a training run, including the state of the random number generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stream_asr.atomic_files import convert_os_errors, replace_file
from stream_asr.errors import InputError

State = dict[str, Any]
"""Tensors, numbers, strings, and lists and dictionaries of them: what PyTorch loads without executing code."""


def save_checkpoint(path: Path, state: State) -> None:
    """Write a checkpoint, replacing an existing file atomically.

    Raises:
        StreamASRError: the file cannot be written; the previous file is unchanged.
    """
    with replace_file(path) as file, convert_os_errors(path):
        torch.save(state, file)


def load_checkpoint(path: Path) -> State:
    """Read a checkpoint into CPU memory.

    Raises:
        InputError: the file does not exist or is damaged.
    """
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"there is no checkpoint {path} to resume from") from error
    except Exception as error:  # a damaged file can raise any exception
        raise InputError(f"{path} cannot be read as a checkpoint: {error}") from error
    return state


def seed_all(seed: int) -> None:
    """Seed the generators that `random_state` covers."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)


def random_state() -> State:
    """Return the state of the generators that models use: PyTorch's on all devices, and NumPy's global generator.

    Transformers' SpecAugment uses NumPy's.
    """
    numpy = np.random.get_state(legacy=False)
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all(), "numpy": numpy}


def set_random_state(state: State) -> None:
    """Restore a `random_state`. CUDA generators are restored only if the number of devices is the same."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    numpy = state["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(numpy | {"state": numpy["state"] | {"key": key}})


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restore the state of the generators on exit."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
