"""A browser with a fake microphone, and a server with the bundled model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from tests.support.browser import OpenTab, Tab, chromium
from tests.support.serving import RunningServer, run_server

SPOKEN_S = 10.8
"""Length of the first three utterances of the bundled recording."""


@pytest.fixture(scope="package")
def spoken(speech: FloatArray) -> FloatArray:
    """The first three utterances of the bundled recording."""
    return speech[: round(SPOKEN_S * 16_000)]


@pytest.fixture(scope="package")
def browser(spoken: FloatArray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    microphone = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    silence = np.zeros(16_000, np.float32)  # Chromium repeats the end of the file
    sound = soxr.resample(np.concatenate([spoken, silence]), 16_000, 48_000)
    soundfile.write(microphone, sound, 48_000, subtype="PCM_16")
    with chromium(microphone) as running:
        yield running


@pytest.fixture(scope="package")
def served(recognizer: Recognizer, browser: Any) -> Iterator[RunningServer]:
    with run_server(recognizer, max_speed=100) as server:
        yield server


@pytest.fixture
def open_tab(browser: Any, served: RunningServer) -> Iterator[OpenTab]:
    """Open a page in a new tab; at the end of the test, no page may have logged problems."""
    tabs: list[Tab] = []

    def open_address(address: str = "/", **settings: Any) -> Tab:
        tabs.append(Tab(browser, **settings))
        tabs[-1].page.goto(address if "://" in address else f"http://{served.address}{address}")
        return tabs[-1]

    yield open_address
    for tab in tabs:
        tab.close()
        assert not tab.problems
