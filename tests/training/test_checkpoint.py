"""Checkpoints and the state of random number generators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stream_asr.errors import InputError
from stream_asr.training.checkpoint import (
    load_checkpoint,
    preserve_random_state,
    random_state,
    save_checkpoint,
    set_random_state,
)


def test_random_state_survives_a_checkpoint(tmp_path: Path) -> None:
    np.random.standard_normal()  # caches the second of two normal deviates in the generator
    save_checkpoint(tmp_path / "state.pt", random_state())
    expected = torch.rand(3), np.random.standard_normal(3)
    set_random_state(load_checkpoint(tmp_path / "state.pt"))
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.standard_normal(3), expected[1])


def test_preserve_random_state_hides_draws() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    with preserve_random_state():
        torch.rand(5)
        np.random.rand(5)
    assert (torch.rand(1), np.random.rand()) == expected


def test_failed_write_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, {"step": 2, "unpicklable": lambda: None})
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_missing_or_damaged_checkpoint_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(InputError, match=r"there is no checkpoint .*state\.pt to resume from"):
        load_checkpoint(path)
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.pt cannot be read as a checkpoint"):
        load_checkpoint(path)
