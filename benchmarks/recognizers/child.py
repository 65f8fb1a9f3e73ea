"""The process of one recognizer: audio and a job come in on stdin, lines of JSON go out on stdout.

    python -m recognizers.child MODULE

The first line of stdin is the job, ``{"live", "threads", "options", "samples"}``, the last being the length of each
recording; behind it come the recordings, float32 at 16 kHz. A recording is given to ``MODULE.load(live, threads,
**options)``'s ``transcribe``, or, live, to ``listen``, which hears it as a microphone would deliver it.

Lines that go out: ``{"kind": "ready", "versions"}`` when the model is loaded and has run once; ``{"kind": "partial" |
"final", "t", "text"}``; ``{"kind": "done", "cpu_s", "wall_s", "peak_mib"}``. ``t`` is seconds since the first sample,
or, not live, seconds of work. A final is text that stays; a partial replaces the one before it and goes with a final.
Lines with the same ``t`` are one change of what is shown.
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
_PEAK = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class Microphone:
    """A recording that is heard as it is spoken: what was said before now, and nothing else, can be read."""

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

    def read(self, at_least: int) -> Samples:
        """All that was said since the last time, once that is so many samples; nothing after the end.

        Who comes late gets all that was missed, like the owner of a sound card with a long buffer.
        """
        wanted = min(self._read + at_least, len(self._samples))
        ahead_s = wanted / SAMPLE_RATE - self.now_s
        if ahead_s > 0:
            self._sleep(ahead_s)
        first, self._read = self._read, max(wanted, min(int(self.now_s * SAMPLE_RATE), len(self._samples)))
        return self._samples[first : self._read]


class Say(Protocol):
    """Shows text: a final, if there is one, for good, and behind it what may still change."""

    def __call__(self, *, final: str | None = None, partial: str = "") -> None: ...


class Adapter(Protocol):
    """What ``load(live, threads, **options)`` of an adapter's module returns."""

    packages: tuple[str, ...]
    """Distributions whose versions matter."""

    def transcribe(self, samples: Samples) -> str:
        """A recording at once."""

    def listen(self, microphone: Microphone, say: Say) -> None:
        """A recording while it is spoken, up to its end."""


def pcm16(samples: Samples) -> bytes:
    """For recognizers that take 16-bit samples."""
    return (np.clip(samples, -1.0, 32767 / 32768) * 32768).astype(np.int16).tobytes()


def run(source: BinaryIO, sink: TextIO, module: str) -> None:
    """Do one job."""

    def tell(**line: Any) -> None:
        sink.write(json.dumps(line) + "\n")
        sink.flush()

    def next_recording(length: int) -> Samples:
        return np.frombuffer(source.read(4 * length), dtype=np.float32)

    job = json.loads(source.readline())
    if hasattr(os, "sched_setaffinity"):  # the one limit that every library keeps
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    adapter: Adapter = importlib.import_module(module).load(job["live"], job["threads"], **job["options"])
    first = next_recording(job["samples"][0])
    adapter.transcribe(first[:_WARM_UP_SAMPLES])
    tell(kind="ready", versions=_versions(adapter.packages))

    _forget_peak()
    cpu_s = wall_s = 0.0
    for place, length in enumerate(job["samples"]):
        samples = next_recording(length) if place else first
        cpu_start, start = time.process_time(), time.monotonic()
        if job["live"]:
            _listen(adapter, samples, tell)
        else:
            text = adapter.transcribe(samples)
        cpu_s += time.process_time() - cpu_start
        wall_s += time.monotonic() - start
        if not job["live"]:
            tell(kind="final", t=wall_s, text=text)
    tell(kind="done", cpu_s=cpu_s, wall_s=wall_s, peak_mib=_peak_mib())


def _listen(adapter: Adapter, samples: Samples, tell: Callable[..., None]) -> None:
    microphone = Microphone(samples)

    def say(*, final: str | None = None, partial: str = "") -> None:
        at_s = microphone.now_s
        if final is not None:
            tell(kind="final", t=at_s, text=final)
        if final is None or partial:
            tell(kind="partial", t=at_s, text=partial)

    adapter.listen(microphone, say)


def _versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    return {"python": platform.python_version(), **{package: metadata.version(package) for package in packages}}


def _forget_peak() -> None:
    """Linux can forget how much memory a process once had, so that loading does not count."""
    if _PEAK.exists():
        _PEAK.write_text("5")


def _peak_mib() -> float:
    """The most memory that was resident, since `_forget_peak` where there is such a thing."""
    if _PEAK.exists():
        peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    import resource  # not at the top: Windows has none

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)


if __name__ == "__main__":
    # Libraries print what they like; only our lines may go where the parent reads.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    run(sys.stdin.buffer, lines, sys.argv[1])
