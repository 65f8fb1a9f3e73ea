"""What a stream asks of the engine: windows to run, and how urgent they are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import IntEnum

from stream_asr.acoustic.base import Chunk, State
from stream_asr.array_types import FloatArray
from stream_asr.config import EngineConfig, ms_to_samples
from stream_asr.streaming.caption import Caption
from stream_asr.streaming.windows import Window, WindowPlan


class Priority(IntEnum):
    """What the engine does first; lower is more urgent."""

    FINAL = 0
    """Windows of a live utterance that has ended: somebody waits for its final."""

    COMMIT = 1
    PREVIEW = 2


@dataclass(slots=True)
class Utterance:
    """An utterance whose final is still to come."""

    start: int
    plan: WindowPlan
    caption: Caption
    pending: int = 0
    """Windows to be kept that wait for the model or are in it."""

    end: int | None = None
    state: State = None
    """What a model that remembers keeps of the windows so far."""

    live: bool = True
    """Somebody waits for its final; a recording's are wanted all at once."""

    in_flight: bool = False
    """The model remembers, and a window of it is with the model: the next one has to wait for what comes of that."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A window that waits for the model; ``samples`` is float32 of shape (window.stop - window.start,)."""

    window: Window
    samples: FloatArray
    utterance: Utterance
    is_preview: bool
    state: State = None

    @property
    def piece(self) -> Chunk:
        """For a model that remembers; it need not remember a preview."""
        return Chunk(self.samples, self.kept_samples, self.state)

    @property
    def kept_samples(self) -> int:
        """Of the window: those whose frames will be kept."""
        return 0 if self.is_preview else self.window.keep_stop - self.window.keep_start

    @property
    def priority(self) -> Priority:
        if self.is_preview:
            return Priority.PREVIEW
        awaited = self.utterance.live and self.utterance.end is not None
        return Priority.FINAL if awaited else Priority.COMMIT


class JobQueue:
    """Windows to be kept, oldest first.

    Args:
        one_by_one: the model remembers, so that a window has to wait for the one before it of the same utterance.
    """

    def __init__(self, *, one_by_one: bool) -> None:
        self._one_by_one = one_by_one
        self._jobs: deque[Job] = deque()
        self._kept_samples = 0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def kept_samples(self) -> int:
        """Audio whose frames will be kept, in all that wait."""
        return self._kept_samples

    def add(self, job: Job) -> None:
        self._jobs.append(job)
        self._kept_samples += job.kept_samples

    @property
    def ready(self) -> Job | None:
        """The oldest that need not wait for another; `take` removes it."""
        return next((job for job in self._jobs if not job.utterance.in_flight), None)

    def take(self) -> Job:
        """Hand it out, with the memory of its utterance."""
        job = self.ready
        assert job is not None
        self._jobs.remove(job)
        self._kept_samples -= job.kept_samples
        job.utterance.in_flight = self._one_by_one
        return replace(job, state=job.utterance.state)


def enough_waits(jobs: JobQueue, config: EngineConfig, *, live: bool) -> bool:
    """Whether a stream should hear no further yet; without partials there is more to look ahead at."""
    if live:
        return len(jobs) >= config.max_pending_windows
    return jobs.kept_samples >= ms_to_samples(config.look_ahead_ms)
