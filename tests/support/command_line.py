"""Running the command line in this process, as if it were a program of its own."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from stream_asr.cli.main import main


class Result(NamedTuple):
    """Exit status, and what was written to stdout and stderr."""

    status: int
    out: str
    err: str


def run_main(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Run ``stream-asr`` with these arguments; nothing that a user does may end in a traceback."""
    monkeypatch.setattr(sys, "argv", ["stream-asr", *map(str, arguments)])
    capfd.readouterr()
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return Result(status, captured.out, captured.err)
