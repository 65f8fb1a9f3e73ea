"""Fixtures for the tests of acoustic models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_asr.acoustic.transformers_ctc import TransformersCTC
from tests.support.checkpoints import cached_checkpoints, load_runner


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """From the name of a family to the folder of a checkpoint, which must not be changed."""
    return cached_checkpoints(tmp_path_factory)


@pytest.fixture
def copied_checkpoint(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """Folder with a copy of a checkpoint, for a test to change."""
    return Path(shutil.copytree(checkpoint("wav2vec2 layer norm"), tmp_path / "copied"))


@pytest.fixture(scope="session")
def embedded() -> TransformersCTC:
    """The bundled model in float32, run by PyTorch on whole windows."""
    return load_runner(precision="float32")
