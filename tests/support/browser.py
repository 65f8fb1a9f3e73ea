"""Chromium, driven by Playwright, with a file as its microphone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TIMEOUT_MS = 60_000


def find_chromium() -> str:
    """Return the path of Chromium. Skip the test if it is not installed."""
    path = next(filter(None, map(shutil.which, _EXECUTABLES)), None)
    if path is None:
        pytest.skip(f"Chromium is not installed: none of {', '.join(_EXECUTABLES)} is on the PATH")
    return path


@contextmanager
def chromium(microphone: Path) -> Iterator[Any]:
    """Run a headless browser whose microphone plays a WAV file once."""
    executable = find_chromium()
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    arguments = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
    ]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


class Tab:
    """Page in a browser context without shared state.

    Attributes:
        page: Playwright's ``Page``.
        problems: errors and warnings that the page has logged, and its uncaught exceptions.
    """

    def __init__(self, browser: Any, *, microphone: bool = True, **settings: Any) -> None:
        context = browser.new_context(**settings)
        context.set_default_timeout(_TIMEOUT_MS)
        if microphone:
            context.grant_permissions(["microphone"])
        self.page = context.new_page()
        self.problems: list[str] = []
        self.page.on("console", self._record_message)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _record_message(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until an element contains ``text``."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def wait_for_state(self, state: str) -> None:
        """Wait until the page is in ``state``."""
        self.page.locator(f"#state[data-state={state}]").wait_for()

    @property
    def finals(self) -> list[str]:
        """Texts of the finished captions."""
        texts: list[str] = self.page.locator("#finals p").all_inner_texts()
        return texts

    def close(self) -> None:
        """Close the page and its context."""
        self.page.context.close()


OpenTab = Callable[..., Tab]
"""Opens a page in a new tab: its address, and settings of `Tab`."""
