"""Process of one recognizer: reads a job and audio from stdin, and writes lines of JSON to stdout.

    python -m recognizers.worker MODULE

The first line of stdin is the job, ``{"live", "threads", "options", "samples"}``; "samples" has the length of each
recording. The recordings follow as float32 at 16 kHz. ``MODULE.load(live, threads, **options)`` returns an `Adapter`,
which gets each recording as a whole or, if live, as a microphone would deliver it.

Output lines:

- ``{"kind": "ready", "versions"}`` after the model has been loaded and has run once.
- ``{"kind": "partial" | "final", "t", "text"}``. "t" is seconds since the first sample or, if not live, seconds of
  processing. A final is permanent. A partial replaces the previous partial; a final removes it. Lines with the same "t"
  are one change of the caption.
- ``{"kind": "done", "cpu_s", "wall_s", "peak_mib"}``.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000

_WARM_UP_SAMPLES = 3 * SAMPLE_RATE
_SAMPLE_BYTES = 4
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class SimulatedMicrophone:
    """Delivers a recording in real time: a read returns samples up to the current time."""

    def __init__(
        self,
        samples: Samples,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._samples = samples
        self._clock = clock
        self._sleep = sleep
        self._start_s = clock()
        self._read = 0

    @property
    def now_s(self) -> float:
        """Seconds since the first sample."""
        return self._clock() - self._start_s

    def read(self, min_samples: int) -> Samples:
        """Return all samples since the previous read, after waiting until there are at least ``min_samples``.

        A late reader gets all samples that it missed, as from a sound card with a long buffer. The last read may be
        shorter; at the end of the recording, reads return no samples.
        """
        wanted = min(self._read + min_samples, len(self._samples))
        wait_s = wanted / SAMPLE_RATE - self.now_s
        if wait_s > 0:
            self._sleep(wait_s)
        first, self._read = self._read, max(wanted, min(int(self.now_s * SAMPLE_RATE), len(self._samples)))
        return self._samples[first : self._read]


class Emit(Protocol):
    """Updates the caption: appends a final, if there is one, and replaces the partial."""

    def __call__(self, *, final: str | None = None, partial: str = "") -> None: ...


class Adapter(Protocol):
    """Interface of a recognizer."""

    packages: tuple[str, ...]
    """Distributions whose versions are reported."""

    def transcribe(self, samples: Samples) -> str:
        """Recognize a recording."""

    def transcribe_live(self, microphone: SimulatedMicrophone, emit: Emit) -> None:
        """Recognize a recording in real time until it ends."""


def pcm16(samples: Samples) -> bytes:
    """Encode samples in [-1, 1] as 16-bit PCM; larger values are clipped."""
    return (np.clip(samples, -1.0, 32767 / 32768) * 32768).astype(np.int16).tobytes()


def run_job(source: BinaryIO, sink: TextIO, module: str) -> None:
    """Read a job from ``source``, run it with an adapter module, and write the output lines to ``sink``."""

    def write_line(**line: Any) -> None:
        sink.write(json.dumps(line) + "\n")
        sink.flush()

    def read_recording(length: int) -> Samples:
        return np.frombuffer(source.read(_SAMPLE_BYTES * length), dtype=np.float32)

    job = json.loads(source.readline())
    if hasattr(os, "sched_setaffinity"):  # some libraries ignore their thread options, but none can ignore this
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    adapter: Adapter = importlib.import_module(module).load(job["live"], job["threads"], **job["options"])
    first = read_recording(job["samples"][0])
    adapter.transcribe(first[:_WARM_UP_SAMPLES])
    write_line(kind="ready", versions=_versions(adapter.packages))

    _reset_peak_memory()
    cpu_s = wall_s = 0.0
    for index, length in enumerate(job["samples"]):
        samples = read_recording(length) if index else first
        cpu_start_s, start_s = time.process_time(), time.monotonic()
        text = ""
        if job["live"]:
            _transcribe_live(adapter, samples, write_line)
        else:
            text = adapter.transcribe(samples)
        cpu_s += time.process_time() - cpu_start_s
        wall_s += time.monotonic() - start_s
        if not job["live"]:
            write_line(kind="final", t=wall_s, text=text)
    write_line(kind="done", cpu_s=cpu_s, wall_s=wall_s, peak_mib=_peak_memory_mib())


def _transcribe_live(adapter: Adapter, samples: Samples, write_line: Callable[..., None]) -> None:
    microphone = SimulatedMicrophone(samples)

    def emit(*, final: str | None = None, partial: str = "") -> None:
        at_s = microphone.now_s
        if final is not None:
            write_line(kind="final", t=at_s, text=final)
        if final is None or partial:
            write_line(kind="partial", t=at_s, text=partial)

    adapter.transcribe_live(microphone, emit)


def _versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    return {"python": platform.python_version(), **{package: metadata.version(package) for package in packages}}


def _reset_peak_memory() -> None:
    """Reset the peak memory of the process, so that loading does not count; only Linux supports this."""
    if _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5")


def _peak_memory_mib() -> float:
    """Return the peak resident memory since `_reset_peak_memory`, or since the start where that is not supported."""
    if _CLEAR_REFS.exists():
        peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    import resource  # not at the top: not available on Windows

    unit_bytes = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / (1 << 20)


if __name__ == "__main__":
    # Libraries may print to stdout. Redirect their output to stderr, so that the parent reads only JSON lines.
    json_lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    run_job(sys.stdin.buffer, json_lines, sys.argv[1])
