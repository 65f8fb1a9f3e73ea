"""Everything a run needs to go on as if it had never been cut off, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stream_asr.atomic_files import replacing, writing
from stream_asr.errors import InputError

State = dict[str, Any]
"""Tensors, numbers, strings, and lists and dictionaries of them: what PyTorch loads without running code."""


def save_checkpoint(path: Path, state: State) -> None:
    """Replace the file at once.

    Raises:
        StreamASRError: it cannot be written; the old one still stands.
    """
    with replacing(path) as file, writing(path):
        torch.save(state, file)


def load_checkpoint(path: Path) -> State:
    """Read a checkpoint into the processor's memory.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"there is no {path} to resume from") from error
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} cannot be read as a checkpoint: {error}") from error
    return state


def seed_all(seed: int) -> None:
    """Start the generators of `random_state` from a number."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)


def random_state() -> State:
    """Of the generators that models draw from: PyTorch's, on every device, and NumPy's (Transformers' SpecAugment)."""
    numpy = np.random.get_state(legacy=False)
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all(), "numpy": numpy}


def set_random_state(state: State) -> None:
    """Go back to a `random_state`; that of CUDA only where there are as many devices as then."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    numpy = state["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(numpy | {"state": numpy["state"] | {"key": key}})


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """What happens inside draws numbers without moving the generators on."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)
