"""Jobs: windows that wait for the model, and their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

from stream_asr.acoustic.base import Chunk, State
from stream_asr.array_types import FloatArray
from stream_asr.streaming.caption import Caption
from stream_asr.streaming.windows import Window, WindowPlan


class Priority(IntEnum):
    """Priority classes; the engine runs lower values first."""

    FINAL = 0
    """A commit window of a live utterance that has ended: its final is due."""

    COMMIT = 1
    """Any other commit window."""

    PREVIEW = 2


@dataclass(slots=True)
class Utterance:
    """An utterance without a final.

    Attributes:
        start: absolute sample at which it starts.
        plan: its windows.
        caption: its text.
        live: whether a listener waits for its final. False for a recording, whose finals are all due together.
        pending: commit windows that are queued or in flight.
        end: absolute sample at which it ends; None while it continues.
        state: state of a stateful model after the committed windows.
        in_flight: whether a window that changes ``state`` is with the model, so that the next one has to wait.
    """

    start: int
    plan: WindowPlan
    caption: Caption
    live: bool
    pending: int = 0
    end: int | None = None
    state: State = None
    in_flight: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A window for the model.

    Attributes:
        window: the window.
        samples: float32, shape (window.stop - window.start,), rounded up to whole frames.
        utterance: the utterance that the window belongs to.
        is_preview: whether it is a preview window.
        state: state of a stateful model before the window; set when the job is taken.
    """

    window: Window
    samples: FloatArray
    utterance: Utterance
    is_preview: bool
    state: State = None

    @property
    def chunk(self) -> Chunk:
        """The job for a stateful model. A preview does not change the state."""
        return Chunk(self.samples, self.committed_samples, self.state)

    @property
    def committed_samples(self) -> int:
        """Samples whose frames will be committed; 0 for a preview."""
        return 0 if self.is_preview else self.window.new_stop - self.window.new_start

    @property
    def priority(self) -> Priority:
        if self.is_preview:
            return Priority.PREVIEW
        is_due = self.utterance.live and self.utterance.end is not None
        return Priority.FINAL if is_due else Priority.COMMIT


class JobQueue:
    """The queued commit windows of one stream, oldest first.

    Args:
        stateful: whether the model keeps a state, so that the windows of an utterance run one after another.
    """

    def __init__(self, *, stateful: bool) -> None:
        self._stateful = stateful
        self._jobs: deque[Job] = deque()
        self._committed_samples = 0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def committed_samples(self) -> int:
        """Samples whose frames the queued windows will commit."""
        return self._committed_samples

    def put(self, job: Job) -> None:
        self._jobs.append(job)
        self._committed_samples += job.committed_samples

    def take(self, priority: Priority, fits: Callable[[int], bool]) -> Job | None:
        """Remove and return the oldest job that need not wait for another job.

        Younger jobs are never taken in its place: the windows of an utterance are committed in order.

        Args:
            priority: the least urgent class to take.
            fits: whether a window of so many samples may be taken.

        Returns:
            The job with the model state of its utterance; None if there is no such job, if it is less urgent than
            ``priority``, or if its length does not fit.
        """
        job = next((job for job in self._jobs if not job.utterance.in_flight), None)
        if job is None or job.priority > priority or not fits(len(job.samples)):
            return None
        self._jobs.remove(job)
        self._committed_samples -= job.committed_samples
        job.utterance.in_flight = self._stateful
        return replace(job, state=job.utterance.state)
