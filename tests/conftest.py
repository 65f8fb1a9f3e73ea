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

# CI machines are slow and shared: an example that takes long is no failure.
settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")

DEMO = Path(stream_asr.__file__).parent / "assets" / "demo.ogg"


@pytest.fixture(scope="session")
def demo_path() -> Path:
    """The bundled recording, 16 kHz mono."""
    return DEMO


@pytest.fixture(scope="session")
def speech() -> FloatArray:
    """The samples of the bundled recording, float32 at 16 kHz."""
    samples, rate = soundfile.read(DEMO, dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, dtype=np.float32)


@pytest.fixture(scope="session")
def recognizer() -> Iterator[Recognizer]:
    """The embedded model, loaded once."""
    with Recognizer.from_pretrained() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Handing out the work of models as small as ours takes longer than the work, above all on a busy machine."""
    import torch  # not at the top: most tests need none of it, and it takes seconds

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fake_recognizer() -> Iterator[Recognizer]:
    with Recognizer(FakeModel(), detector=lambda: loud) as made:
        yield made
