"""Run the command line in this process or in a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np
import pytest

from stream_asr.array_types import FloatArray
from stream_asr.cli.main import main

TERMINAL_ENVIRONMENT = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}


class Result(NamedTuple):
    """Exit status of a command, and its output on stdout and stderr."""

    status: int
    out: str
    err: str


class RunCommand(Protocol):
    """Type of the fixture ``run``, which runs a command in this process."""

    def __call__(self, *arguments: object, stdin: bytes = b"", load_model: bool = False) -> Result:
        """Run ``stream-asr`` with the arguments.

        Args:
            arguments: command and options.
            stdin: content of stdin.
            load_model: load the model that the options name, in place of the model that the tests share.
        """


def run_main(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Run ``stream-asr`` with the arguments in this process. A traceback on stderr fails the test."""
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


def start_process(
    *arguments: object,
    stdin: int | None = None,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``stream-asr`` with the arguments in a new process.

    Args:
        arguments: command and options.
        stdin: as in `subprocess.Popen`; inherited unless given.
        stdout: as in `subprocess.Popen`.
        stderr: as in `subprocess.Popen`.
        environment: variables that are added to the environment.
    """
    command = [sys.executable, "-m", "stream_asr", *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=stdin, stdout=stdout, stderr=stderr, env={**os.environ, **(environment or {})}
    )


def read_terminal(descriptor: int) -> Iterator[bytes]:
    """Yield what is written to a pseudo-terminal until no process has it open, then close it."""
    with suppress(OSError):  # how Linux reports that no process has it open
        while block := os.read(descriptor, 1 << 16):
            yield block
    os.close(descriptor)


def to_pcm(samples: FloatArray) -> bytes:
    """Encode float32 samples as pcm_s16le."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def save_options(*paths: Path) -> list[object]:
    """Return a ``--save`` option for each path."""
    return [part for path in paths for part in ("--save", path)]
