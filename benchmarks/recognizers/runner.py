"""Runs a recognizer in a separate process (`worker`) and collects its captions."""

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

from recognizers.registry import Setup
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE

BENCHMARKS = Path(__file__).parent.parent

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ERROR_LINES = 5
"""Lines of stderr that an error message includes."""


class PeerError(Exception):
    """The process of a recognizer failed; the message includes the end of its stderr."""


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """An update of the caption.

    Attributes:
        at_s: seconds since the first sample or, if not live, seconds of processing.
        final: whether the text is permanent; otherwise it replaces the previous partial.
    """

    at_s: float
    final: bool
    text: str


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a job.

    Attributes:
        audio_s: total duration of the recordings.
        cpu_s: CPU time of all threads, without loading and warm-up.
        wall_s: elapsed time, without loading and warm-up.
        peak_mib: peak resident memory; on Linux without that of loading.
        versions: versions of Python and of the adapter's packages.
    """

    lines: tuple[CaptionLine, ...]
    audio_s: float
    cpu_s: float
    wall_s: float
    peak_mib: float
    versions: Mapping[str, str]


def run_peer(python: Path, setup: Setup, recordings: Sequence[FloatArray], threads: int) -> RunResult:
    """Recognize recordings, 16 kHz float32, with the interpreter of a peer.

    Raises:
        PeerError: the process failed.
    """
    lengths = [len(samples) for samples in recordings]
    job = {"live": setup.live, "threads": threads, "options": dict(setup.options), "samples": lengths}
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), "HF_HUB_OFFLINE": "1"}
    # The working directory makes the package `recognizers` importable in the environment of the peer.
    command = [str(python), "-m", "recognizers.worker", setup.module]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=BENCHMARKS, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        writer = threading.Thread(target=_write_job, args=(process.stdin, job, recordings), daemon=True)
        writer.start()
        messages = [json.loads(line) for line in process.stdout]
        status = process.wait()
        writer.join()
        if status or not messages or messages[-1]["kind"] != "done":
            errors.seek(0)
            last_lines = errors.read().decode(errors="replace").splitlines()[-_ERROR_LINES:]
            raise PeerError("\n".join([f"{setup.name} failed with exit status {status}", *last_lines]))
    ready, *updates, done = messages
    lines = tuple(CaptionLine(update["t"], update["kind"] == "final", update["text"]) for update in updates)
    figures = {name: done[name] for name in ("cpu_s", "wall_s", "peak_mib")}
    return RunResult(lines, sum(lengths) / SAMPLE_RATE, **figures, versions=ready["versions"])


def _write_job(pipe: IO[bytes], job: Mapping[str, Any], recordings: Sequence[FloatArray]) -> None:
    """Write a job; in a thread, because the worker reads each recording only when it needs it."""
    try:
        with pipe:
            pipe.write(json.dumps(job).encode() + b"\n")
            for samples in recordings:
                pipe.write(np.ascontiguousarray(samples, dtype=np.float32).tobytes())
    except BrokenPipeError:
        pass  # the worker failed; its exit status is reported
