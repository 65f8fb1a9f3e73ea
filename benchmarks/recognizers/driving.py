"""Runs a recognizer in its process and takes down what it says; `child` is the other side."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from recognizers.roster import Way
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE

BENCHMARKS = Path(__file__).parent.parent

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LAST_LINES = 5


class PeerError(Exception):
    """A recognizer's process ended before it was done; the message has the last that it said."""


@dataclass(frozen=True, slots=True)
class Line:
    """Text that came.

    Attributes:
        at_s: seconds since the first sample; not live, seconds of work.
        final: it stays; otherwise it replaces the last that does not.
    """

    at_s: float
    final: bool
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job.

    Attributes:
        audio_s: of all recordings.
        cpu_s: of all threads, without loading and warming up.
        wall_s: as much; live, the length of the audio and what came after it.
        peak_mib: the most memory that was resident; on Linux without what only loading took.
    """

    lines: tuple[Line, ...]
    audio_s: float
    cpu_s: float
    wall_s: float
    peak_mib: float
    versions: Mapping[str, str]


def drive(python: Path, way: Way, recordings: Sequence[FloatArray], threads: int) -> Outcome:
    """Give a recognizer recordings, 16 kHz float32, and wait until it is done.

    Raises:
        PeerError: it failed.
    """
    lengths = [len(samples) for samples in recordings]
    job = {"live": way.live, "threads": threads, "options": dict(way.options), "samples": lengths}
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), "HF_HUB_OFFLINE": "1"}
    # The other side imports this package, from the working directory, and nothing else from here.
    command = [str(python), "-m", "recognizers.child", way.module]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=BENCHMARKS, env=environment
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        writer = threading.Thread(target=_write, args=(child.stdin, job, recordings), daemon=True)
        writer.start()
        told = [json.loads(line) for line in child.stdout]
        status = child.wait()
        writer.join()
        if status or not told or told[-1]["kind"] != "done":
            errors.seek(0)
            last = errors.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
            raise PeerError("\n".join([f"{way.name} failed with status {status}", *last]))
    ready, *texts, done = told
    lines = tuple(Line(line["t"], line["kind"] == "final", line["text"]) for line in texts)
    figures = {name: done[name] for name in ("cpu_s", "wall_s", "peak_mib")}
    return Outcome(lines, sum(lengths) / SAMPLE_RATE, **figures, versions=ready["versions"])


def _write(pipe: IO[bytes], job: Mapping[str, Any], recordings: Sequence[FloatArray]) -> None:
    """From a thread: the other side reads a recording when it needs it, and talks in between."""
    try:
        with pipe:
            pipe.write(json.dumps(job).encode() + b"\n")
            for samples in recordings:
                pipe.write(np.ascontiguousarray(samples, dtype=np.float32).tobytes())
    except BrokenPipeError:
        pass  # it failed, and its status says so
