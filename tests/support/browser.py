"""A real browser: the Chromium of this machine, driven by Playwright, its microphone played from a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TIMEOUT_MS = 60_000


def path_of_chromium() -> str:
    """Skips the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(_NAMES)} is on the PATH")
    return found


@contextmanager
def chromium(microphone: Path) -> Iterator[Any]:
    """A headless browser whose microphone gives the sound of a WAV file, once."""
    executable = path_of_chromium()
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    arguments = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
    ]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


class Tab:
    """A page, and all it complained about; see Playwright's ``Page`` for what `page` can do."""

    def __init__(self, browser: Any, *, microphone: bool = True, **settings: Any) -> None:
        context = browser.new_context(**settings)
        context.set_default_timeout(_TIMEOUT_MS)
        if microphone:
            context.grant_permissions(["microphone"])
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def await_text(self, selector: str, text: str) -> None:
        """Until an element has ``text`` in it."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def await_state(self, state: str) -> None:
        self.page.locator(f"#state[data-state={state}]").wait_for()

    @property
    def finals(self) -> list[str]:
        texts: list[str] = self.page.locator("#finals p").all_inner_texts()
        return texts

    def close(self) -> None:
        self.page.context.close()
