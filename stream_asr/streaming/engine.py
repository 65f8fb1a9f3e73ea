"""The inference loop: one thread that runs the windows of all streams through one model."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from stream_asr.acoustic.base import AcousticModel, ChunkOutput, StatefulModel
from stream_asr.errors import StreamASRError
from stream_asr.streaming.jobs import Job
from stream_asr.streaming.mailbox import Mailbox

_log = logging.getLogger(__name__)

_PADDING_RATIO = 0.75
"""A window shorter than this share of another goes into another batch: padding costs like audio."""


@dataclass(frozen=True, slots=True)
class _Task:
    session: Mailbox
    job: Job


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine does; a snapshot.

    Attributes:
        running: False once it was closed or has failed.
        streams: that are open.
        waiting_windows: of all streams; previews do not queue and are not counted.
        batches: model passes so far; ``batches[n]`` of them had n windows.
    """

    running: bool
    streams: int
    waiting_windows: int
    batches: tuple[int, ...]


class Engine:
    """Takes windows from its sessions, finals first, then commits, then previews, and runs them in batches.

    `step` does one round and can be called without the thread; `start` runs it in a loop.

    Args:
        model: shared by all sessions.
        max_batch_size: windows of one model pass.
    """

    def __init__(self, model: AcousticModel, max_batch_size: int) -> None:
        self._model = model
        self._remembering = model if isinstance(model, StatefulModel) else None
        self._max_batch = min(max_batch_size, model.most_windows or max_batch_size)
        # Replaced as a whole, never changed in place, so that the loop can walk it without a lock.
        self._sessions: tuple[Mailbox, ...] = ()
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._closing = False
        self._batches = [0] * (self._max_batch + 1)
        self._thread: threading.Thread | None = None

    def add(self, session: Mailbox) -> None:
        """Serve a session from now on.

        Raises:
            StreamASRError: the engine was closed.
        """
        with self._lock:
            if self._closing:
                raise StreamASRError("this recognizer was closed")
            self._sessions += (session,)

    def remove(self, session: Mailbox) -> None:
        """Forget a session; a window of it that is being run is thrown away."""
        with self._lock:
            self._sessions = tuple(other for other in self._sessions if other is not session)

    def wake(self) -> None:
        """There is new audio, or new room for events."""
        self._work.set()

    @property
    def stats(self) -> EngineStats:
        sessions = self._sessions
        waiting = sum(session.pipeline.waiting for session in sessions)
        return EngineStats(not self._closing, len(sessions), waiting, tuple(self._batches))

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="stream_asr-engine", daemon=True)
        self._thread.start()
        # An interpreter that ends under a thread which has run a model may abort.
        atexit.register(self.close)

    def close(self) -> None:
        """Stop after the batch that is being run. Streams that had not ended fail with a clear error."""
        atexit.unregister(self.close)
        with self._lock:
            self._closing = True
        self._work.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._abandon("the recognizer was closed while this stream was still open")

    def _abandon(self, reason: str) -> None:
        with self._lock:
            left, self._sessions = self._sessions, ()
        for session in left:
            session.fail(StreamASRError(reason))

    def _run(self) -> None:
        try:
            while not self._closing:
                # Cleared before looking, so that a wake-up during the round is not missed.
                self._work.clear()
                if not self.step():
                    self._work.wait()
        except BaseException:
            # A bug of ours: streams that wait for ever would hide it.
            self._closing = True
            self._abandon("the recognizer's engine failed; its log has the details")
            raise

    def step(self) -> bool:
        """Take in new audio of all sessions and run one batch; False when nothing waits."""
        sessions = self._sessions
        for session in sessions:
            if session.has_room and not session.ended:
                self._guarded(session, session.pipeline.advance)
        batch = self._kept_batch(sessions) or self._preview_batch(sessions)
        if batch:
            self._batches[len(batch)] += 1
            self._execute(batch)
            # Whoever had the previews first comes last next time.
            first = batch[0].session
            with self._lock:
                if first in self._sessions and len(self._sessions) > 1:
                    self._sessions = (*(other for other in self._sessions if other is not first), first)
        for session in sessions:
            if session.ended:
                self.remove(session)
        return bool(batch)

    def _kept_batch(self, sessions: tuple[Mailbox, ...]) -> list[_Task]:
        """The most urgent windows that may share a batch; each session's own in their order."""
        limit = self._max_batch if self._model.batches_kept_windows else 1
        batch: list[_Task] = []
        blocked: set[int] = set()
        while len(batch) < limit:
            waiting = [
                _Task(session, job)
                for session in sessions
                if id(session) not in blocked and (job := session.pipeline.next_kept) is not None
            ]
            if not waiting:
                break
            # Nobody has two of equal urgency while others have none; else min() keeps the order of the sessions.
            shares = Counter(id(task.session) for task in batch)
            task = min(waiting, key=lambda one: (one.job.priority, shares[id(one.session)]))
            if batch and not self._fits(len(batch[0].job.samples), len(task.job.samples)):
                blocked.add(id(task.session))
                continue
            batch.append(_Task(task.session, task.session.pipeline.take()))
        return batch

    def _preview_batch(self, sessions: tuple[Mailbox, ...]) -> list[_Task]:
        """The first session's preview, and those of others that may share its batch.

        Never more than one batch, however many are due: a final that comes up must not wait for them all.
        """
        batch: list[_Task] = []
        for session in sessions:
            if len(batch) == self._max_batch:
                break
            window = session.pipeline.next_preview
            if window is None or session.ended or not session.has_room:
                continue
            if not batch or self._fits(len(batch[0].job.samples), window.stop - window.start):
                batch.append(_Task(session, session.pipeline.take_preview(window)))
        return batch

    def _fits(self, first: int, other: int) -> bool:
        """May windows of these lengths share a batch?"""
        if self._model.most_windows is not None:
            return True  # nothing is padded
        return min(first, other) >= _PADDING_RATIO * max(first, other) if self._model.pads else first == other

    def _execute(self, batch: list[_Task]) -> None:
        try:
            outputs = self._outputs([task.job for task in batch])
            if len(outputs) != len(batch):
                raise ValueError(f"{len(outputs)} outputs for {len(batch)} windows")
        except Exception as error:
            _log.exception("the model failed on a batch of %d", len(batch))
            if len(batch) > 1:
                # One bad window must not cost the other streams anything.
                for task in batch:
                    self._execute([task])
                return
            batch[0].session.fail(StreamASRError(f"the model failed: {error}"))
            return
        for task, heard in zip(batch, outputs, strict=True):
            self._deliver(task, heard)

    def _outputs(self, jobs: list[Job]) -> list[ChunkOutput]:
        if self._remembering is not None:
            return self._remembering.forward_chunks([job.piece for job in jobs])
        return [ChunkOutput(log_probs, None) for log_probs in self._model.log_probs([job.samples for job in jobs])]

    def _deliver(self, task: _Task, heard: ChunkOutput) -> None:
        if not task.session.ended:
            self._guarded(task.session, lambda: task.session.pipeline.deliver(task.job, heard.log_probs, heard.state))

    def _guarded(self, session: Mailbox, action: Callable[[], None]) -> None:
        """Let a session act and publish what came of it; its failure ends that session and no other."""
        try:
            action()
            session.publish()
        except Exception as error:
            _log.exception("a stream failed")
            session.fail(StreamASRError(f"the stream failed: {error!r}"))
