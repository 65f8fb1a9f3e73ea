"""Fixtures and settings for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

import stream_asr
from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from tests.support.fakes import FakeModel, loud

# CI machines are slow and shared, so a slow example is not a failure.
settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")

DEMO = Path(stream_asr.__file__).parent / "assets" / "demo.ogg"


@pytest.fixture(scope="session")
def demo_path() -> Path:
    """Path of the bundled recording, 16 kHz mono."""
    return DEMO


@pytest.fixture(scope="session")
def speech() -> FloatArray:
    """Samples of the bundled recording, float32 at 16 kHz."""
    samples, rate = soundfile.read(DEMO, dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, dtype=np.float32)


@pytest.fixture(scope="session")
def recognizer() -> Iterator[Recognizer]:
    """Recognizer with the bundled model, loaded once."""
    with Recognizer.from_pretrained() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread: for small models, distributing the work takes longer than the work itself."""
    import torch  # imported late: it takes seconds, and most tests do not need it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fake_recognizer() -> Iterator[Recognizer]:
    """Recognizer with the fake model."""
    with Recognizer(FakeModel(), detector=lambda: loud) as recognizer:
        yield recognizer
