"""Test of ``stream-asr demo``."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support.command_line import TERMINAL_ENVIRONMENT, read_terminal, start_process


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_demo_captions_the_bundled_recording_in_a_terminal() -> None:
    """Takes as long as the recording, which plays in real time."""
    import pty

    terminal, child_end = pty.openpty()
    process = start_process("demo", stdout=child_end, stderr=child_end, environment=TERMINAL_ENVIRONMENT)
    os.close(child_end)
    text = b"".join(read_terminal(terminal)).decode()
    assert process.wait(30) == 0
    assert "Good morning" in text
    assert "\x1b[2m" in text, "unstable words are dim"
    assert "word emission latency" in text
    assert "the same text" in text
    assert "NOT the same text" not in text
