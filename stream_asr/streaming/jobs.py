"""Jobs: windows and passes of the second pass that wait for a model, and their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import TypeAlias

import numpy as np

from stream_asr.acoustic.base import Chunk, ChunkOutput, DecodeRequest, State
from stream_asr.array_types import FloatArray
from stream_asr.streaming.caption import Caption
from stream_asr.streaming.second_pass import SecondPass
from stream_asr.streaming.windows import Window, WindowPlan


class JobKind(Enum):
    """Which model runs a job. The jobs of a batch are of one kind."""

    WINDOW = "window"
    """The acoustic model."""

    DECODE = "decode"
    """The second-pass model."""


Accepts: TypeAlias = Callable[[JobKind, int], bool]
"""Whether a job of this kind and of so many samples may be taken."""


class Priority(IntEnum):
    """Priority classes; the engine runs lower values first."""

    FINAL = 0
    """A commit window of a live utterance that has ended, or its decoding: its final is due."""

    COMMIT = 1
    """Any other commit window."""

    PREVIEW = 2


@dataclass(frozen=True, slots=True, eq=False)
class PreviewStart:
    """Where the next preview of an utterance starts to encode, and the output of earlier passes before this point.

    Attributes:
        position: absolute sample, a whole number of frames after the committed samples.
        state: state of the model there.
        log_probs: output for the samples between, float32, shape (frames, tokens).
        encoded: encoder states for these samples; None if the model outputs none.
    """

    position: int
    state: State
    log_probs: FloatArray
    encoded: FloatArray | None

    @classmethod
    def after(cls, job: Job, output: ChunkOutput, frame_samples: int) -> PreviewStart | None:
        """Return where previews continue after a job; None if the model returned no preview state.

        Args:
            job: the job.
            output: its output; that of a preview from the end of the committed samples on, see `prepend`.
            frame_samples: length of a frame.
        """
        if output.preview_state is None:
            return None
        position = job.start + job.preview_kept_samples
        frames = slice(job.committed_samples // frame_samples, (position - job.window.start) // frame_samples)
        encoded = output.encoded
        if encoded is not None:
            encoded = encoded[output.kept_encoded : output.preview_kept_encoded]
        return cls(position, output.preview_state, output.log_probs[frames], encoded)

    def prepend(self, output: ChunkOutput) -> ChunkOutput:
        """Return the output of the next preview as if it had started at the end of the committed samples."""
        encoded, before = output.encoded, self.encoded
        if encoded is not None and before is not None:
            encoded = np.concatenate([before, encoded])
        return replace(
            output,
            log_probs=np.concatenate([self.log_probs, output.log_probs]),
            encoded=encoded,
            preview_kept_encoded=output.preview_kept_encoded + (0 if before is None else len(before)),
        )


@dataclass(slots=True)
class Utterance:
    """An utterance without a final.

    Attributes:
        start: absolute sample at which it starts.
        plan: its windows.
        caption: its text.
        live: whether a listener waits for its final. False for a recording, whose finals are all due together.
        pending: commit windows and their decoding passes that are queued or in flight.
        end: absolute sample at which it ends; None while it continues.
        state: state of a stateful model after the committed windows.
        preview_start: where the next preview starts to encode; None for the end of the committed samples.
        in_flight: whether a window that changes ``state`` is with the model, so that the next one has to wait.
        second_pass: the words of the second pass; None if there is none.
        is_decoding: whether a decoding pass is with the second-pass model.
        audio: the audio of commit windows, without context. Kept only for second-pass models that need it.
    """

    start: int
    plan: WindowPlan
    caption: Caption
    live: bool
    pending: int = 0
    end: int | None = None
    state: State = None
    preview_start: PreviewStart | None = None
    in_flight: bool = False
    second_pass: SecondPass | None = None
    is_decoding: bool = False
    audio: list[FloatArray] = field(default_factory=list)

    @property
    def priority(self) -> Priority:
        """Priority of jobs that are not previews."""
        return Priority.FINAL if self.live and self.end is not None else Priority.COMMIT


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A window for the model.

    Attributes:
        window: the window.
        samples: float32, shape (samples,): the audio of the window, rounded up to whole frames. That of a preview
            starts at ``preview_start``.
        utterance: the utterance that the window belongs to.
        is_preview: whether it is a preview window.
        is_last: whether it is the last commit window of an utterance whose end is known.
        marks_before: number of marks of the stream that were added before the job.
        state: state of a stateful model before the samples; set when the job is taken.
        preview_kept_samples: see `Chunk`.
        preview_start: the utterance's, in a preview.
    """

    window: Window
    samples: FloatArray
    utterance: Utterance
    is_preview: bool
    is_last: bool = False
    marks_before: int = 0
    state: State = None
    preview_kept_samples: int = 0
    preview_start: PreviewStart | None = None

    @property
    def chunk(self) -> Chunk:
        """The job for a stateful model. A preview does not change the state that commit windows continue."""
        return Chunk(self.samples, self.committed_samples, self.state, self.preview_kept_samples)

    @property
    def start(self) -> int:
        """Absolute sample at which ``samples`` start."""
        return self.window.start if self.preview_start is None else self.preview_start.position

    @property
    def committed_samples(self) -> int:
        """Samples whose frames will be committed; 0 for a preview."""
        return 0 if self.is_preview else self.window.new_samples

    @property
    def priority(self) -> Priority:
        return Priority.PREVIEW if self.is_preview else self.utterance.priority


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """A pass of the second-pass model, which decodes an utterance up to the end of a window.

    Attributes:
        window: the window.
        log_probs: the acoustic model's output for the window, float32, shape (frames, tokens).
        encoded: encoder states for the samples of the window; None for a model that uses audio.
        kept_frames: how many of them belong to the committed samples.
        samples: the audio of the utterance up to the end of the window, for a model that uses audio; else None.
        utterance: the utterance.
        is_last: `Job.is_last`.
        is_preview: whether the window is a preview window.
        marks_before: `Job.marks_before`.
        request: what the model is asked for; set when the job is taken.
    """

    window: Window
    log_probs: FloatArray
    encoded: FloatArray | None
    kept_frames: int
    samples: FloatArray | None
    utterance: Utterance
    is_last: bool = False
    is_preview: bool = False
    marks_before: int = 0
    request: DecodeRequest | None = None

    @property
    def committed_samples(self) -> int:
        """Samples whose frames were committed."""
        return self.window.new_samples

    def with_request(self) -> DecodeJob:
        """Return the job with the request that continues the pass before."""
        second_pass = self.utterance.second_pass
        assert second_pass is not None
        request = second_pass.request(
            self.window, self.log_probs, self.encoded, self.kept_frames, self.samples, is_preview=self.is_preview
        )
        return replace(self, request=request)


class JobQueue:
    """The queued commit windows and decoding passes of one stream, oldest first.

    Args:
        stateful: whether the model keeps a state, so that the windows of an utterance run one after another.
    """

    def __init__(self, *, stateful: bool) -> None:
        self._stateful = stateful
        self._windows: deque[Job] = deque()
        self._passes: deque[DecodeJob] = deque()
        self._committed_samples = 0

    def __len__(self) -> int:
        return len(self._windows) + len(self._passes)

    @property
    def committed_samples(self) -> int:
        """Samples whose frames the queued windows will commit, and the passes after them will decode."""
        return self._committed_samples

    def put(self, job: Job | DecodeJob) -> None:
        if isinstance(job, DecodeJob):
            self._passes.append(job)
        else:
            self._windows.append(job)
        self._committed_samples += job.committed_samples

    def take(self, priority: Priority, accepts: Accepts) -> Job | DecodeJob | None:
        """Remove and return the oldest job that need not wait for another job, decoding passes first.

        Younger jobs of the same kind and class are never taken in its place: the windows of an utterance are committed
        in order, and each decoding pass continues the one before.

        Args:
            priority: the least urgent class to take.
            accepts: whether a job may be taken.

        Returns:
            The job with the model state of its utterance; None if there is no such job, if it is less urgent than
            ``priority``, or if it is not accepted.
        """
        return self._take_pass(priority, accepts) or self._take_window(priority, accepts)

    def _take_pass(self, priority: Priority, accepts: Accepts) -> DecodeJob | None:
        ready = (job for job in self._passes if not job.utterance.is_decoding)
        job = min(ready, key=lambda job: job.utterance.priority, default=None)  # the oldest one of the most urgent
        if job is None or job.utterance.priority > priority or not accepts(JobKind.DECODE, len(job.log_probs)):
            return None
        self._passes.remove(job)
        self._committed_samples -= job.committed_samples
        job.utterance.is_decoding = True
        return job.with_request()

    def _take_window(self, priority: Priority, accepts: Accepts) -> Job | None:
        job = next((job for job in self._windows if not job.utterance.in_flight), None)
        if job is None or job.priority > priority or not accepts(JobKind.WINDOW, len(job.samples)):
            return None
        self._windows.remove(job)
        self._committed_samples -= job.committed_samples
        job.utterance.in_flight = self._stateful
        return replace(job, state=job.utterance.state)
