"""The engine: one thread that runs the windows of all streams through one model."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush

from stream_asr.acoustic.base import AcousticModel, ChunkOutput, SecondPassModel, StatefulModel
from stream_asr.config import EngineConfig
from stream_asr.errors import StreamASRError
from stream_asr.streaming.jobs import DecodeJob, Job, JobKind, Priority
from stream_asr.streaming.mailbox import Mailbox

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    """A job and the stream that its output goes to."""

    mailbox: Mailbox
    job: Job | DecodeJob


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot of the engine's state.

    Attributes:
        running: False once the engine was closed or has failed.
        streams: number of open streams.
        waiting_windows: queued commit windows and decoding passes of all streams. Previews do not queue.
        batches: passes of the acoustic model so far by size: ``batches[n]`` passes had n windows.
    """

    running: bool
    streams: int
    waiting_windows: int
    batches: tuple[int, ...]


class Engine:
    """Runs the windows of all streams in batches.

    `start` runs the engine in a thread. `step` runs one round and needs no thread.

    Args:
        model: the model that all streams share.
        config: limits on batches.
        second_pass: the second-pass model that all streams share; None for none.
    """

    def __init__(self, model: AcousticModel, config: EngineConfig, second_pass: SecondPassModel | None = None) -> None:
        self._model = model
        self._second_pass = second_pass
        self._stateful_model = model if isinstance(model, StatefulModel) else None
        self._max_batch = min(config.max_batch_size, model.parallel_windows or config.max_batch_size)
        self._min_length_ratio = config.min_batch_length_ratio
        # Always replaced, never modified in place, so that the engine's thread can iterate over it without a lock.
        self._mailboxes: tuple[Mailbox, ...] = ()
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._closing = False
        self._batches = [0] * (self._max_batch + 1)
        self._thread: threading.Thread | None = None

    def add(self, mailbox: Mailbox) -> None:
        """Add a stream.

        Raises:
            StreamASRError: the engine was closed.
        """
        with self._lock:
            if self._closing:
                raise StreamASRError("this recognizer was closed")
            self._mailboxes += (mailbox,)

    def remove(self, mailbox: Mailbox) -> None:
        """Remove a stream. The output of windows in flight is discarded."""
        with self._lock:
            self._mailboxes = tuple(other for other in self._mailboxes if other is not mailbox)

    def wake(self) -> None:
        """Notify the engine of new audio or of new room in a mailbox."""
        self._work.set()

    @property
    def stats(self) -> EngineStats:
        mailboxes = self._mailboxes
        waiting = sum(mailbox.pipeline.waiting for mailbox in mailboxes)
        return EngineStats(not self._closing, len(mailboxes), waiting, tuple(self._batches))

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread = threading.Thread(target=self._run, name="stream_asr-engine", daemon=True)
        self._thread.start()
        # The interpreter may abort if it exits while a thread is inside a model.
        atexit.register(self.close)

    def close(self) -> None:
        """Stop after the batch in flight. Open streams fail with an error that says so."""
        atexit.unregister(self.close)
        with self._lock:
            self._closing = True
        self._work.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._fail_all("the recognizer was closed while this stream was still open")

    def _fail_all(self, reason: str) -> None:
        with self._lock:
            mailboxes, self._mailboxes = self._mailboxes, ()
        for mailbox in mailboxes:
            mailbox.fail(StreamASRError(reason))

    def _run(self) -> None:
        try:
            while not self._closing:
                # Cleared before the round, so that a wake-up during the round is not lost.
                self._work.clear()
                if not self.step():
                    self._work.wait()
        except BaseException:
            # A bug in the engine. Without this, streams would wait forever.
            self._closing = True
            self._fail_all("the recognizer's engine failed; its log has the details")
            raise

    def step(self) -> bool:
        """Read the new audio of all streams and run one batch.

        Returns:
            Whether there was a batch to run.
        """
        mailboxes = self._mailboxes
        for mailbox in mailboxes:
            if mailbox.has_room and not mailbox.ended:
                self._guard(mailbox, mailbox.pipeline.advance)
        batch = self._next_batch(mailboxes)
        if batch:
            self._execute(batch)
            self._move_to_end(batch[0].mailbox)
        for mailbox in mailboxes:
            if mailbox.ended:
                self.remove(mailbox)
        return bool(batch)

    def _next_batch(self, mailboxes: tuple[Mailbox, ...]) -> list[_Task]:
        """THE BATCH POLICY: take the jobs of the next model pass.

        1. Finals first, then commits, then previews. Finals and commits share a batch, if the model batches commit
           windows at all. Previews run only while no stream has another job that can start.
        2. One kind of job in a batch: windows for the acoustic model, or decoding passes for the second-pass model.
           A stream's decoding passes come before its windows, and the first job of the batch decides.
        3. One batch at a time: a job that becomes urgent waits for at most one model pass.
        4. Fair shares: within a class, the next job comes from the stream with the fewest jobs in the batch. Ties go
           by the order of the streams, and the first stream of a batch moves to the end of that order.
        5. Only lengths that fit one batch (`_fits`). The first window of the batch decides. A stream whose next window
           does not fit waits for a later batch, because its windows run in order.
        """
        batch: list[_Task] = []
        self._fill(batch, mailboxes, Priority.FINAL)
        self._fill(batch, mailboxes, Priority.COMMIT)
        if not batch:
            readable = [mailbox for mailbox in mailboxes if mailbox.has_room and not mailbox.ended]
            self._fill(batch, readable, Priority.PREVIEW)
        return batch

    def _fill(self, batch: list[_Task], mailboxes: Sequence[Mailbox], priority: Priority) -> None:
        """Add jobs of at most this priority class to a batch until it is full or no other job fits."""

        def accepts(kind: JobKind, samples: int) -> bool:
            if not batch:
                return True
            first = batch[0].job
            if isinstance(first, DecodeJob):
                return kind is JobKind.DECODE
            return kind is JobKind.WINDOW and self._fits(len(first.samples), samples)

        shares = Counter(id(task.mailbox) for task in batch)
        turns = [(shares[id(mailbox)], place) for place, mailbox in enumerate(mailboxes)]
        heapify(turns)
        while turns and not self._is_full(batch):
            share, place = heappop(turns)
            mailbox = mailboxes[place]
            if (job := mailbox.pipeline.take_job(priority, accepts)) is not None:
                batch.append(_Task(mailbox, job))
                heappush(turns, (share + 1, place))

    def _is_full(self, batch: list[_Task]) -> bool:
        if not batch:
            return False
        job = batch[0].job
        if isinstance(job, DecodeJob):
            assert self._second_pass is not None
            return len(batch) >= self._second_pass.parallel_requests
        return len(batch) >= (self._max_batch if job.is_preview or self._model.batches_commit_windows else 1)

    def _fits(self, first: int, other: int) -> bool:
        """Return whether windows of these lengths in samples can share a batch."""
        if self._model.parallel_windows is not None:
            return True  # each runs by itself, nothing is padded
        return min(first, other) >= self._min_length_ratio * max(first, other) if self._model.pads else first == other

    def _move_to_end(self, mailbox: Mailbox) -> None:
        """Put the stream that was first in a batch behind the others."""
        with self._lock:
            if mailbox in self._mailboxes and len(self._mailboxes) > 1:
                self._mailboxes = (*(other for other in self._mailboxes if other is not mailbox), mailbox)

    def _execute(self, batch: list[_Task]) -> None:
        try:
            deliveries = self._run_models(batch)
        except Exception as error:
            _log.exception("the model failed on a batch of %d jobs", len(batch))
            if len(batch) > 1:
                # Run the jobs one by one, so that only the stream with the bad window fails.
                for task in batch:
                    self._execute([task])
                return
            batch[0].mailbox.fail(StreamASRError(f"the model failed: {error}"))
            return
        for task, deliver in zip(batch, deliveries, strict=True):
            if not task.mailbox.ended:
                self._guard(task.mailbox, deliver)

    def _run_models(self, batch: list[_Task]) -> list[Callable[[], None]]:
        """Run a batch.

        Returns:
            For each task the function that delivers its output to its stream.
        """
        pipelines = [task.mailbox.pipeline for task in batch]
        passes = [task.job for task in batch if isinstance(task.job, DecodeJob)]
        if passes:
            assert self._second_pass is not None
            decoded = self._second_pass.decode([job.request for job in passes if job.request is not None])
            _check_outputs(decoded, batch)
            return [
                partial(pipeline.deliver_pass, job, output)
                for pipeline, job, output in zip(pipelines, passes, decoded, strict=True)
            ]
        windows = [task.job for task in batch if isinstance(task.job, Job)]
        self._batches[len(batch)] += 1
        outputs = self._run_acoustic_model(windows)
        _check_outputs(outputs, batch)
        return [
            partial(pipeline.deliver, job, output)
            for pipeline, job, output in zip(pipelines, windows, outputs, strict=True)
        ]

    def _run_acoustic_model(self, jobs: list[Job]) -> list[ChunkOutput]:
        if self._stateful_model is not None:
            return self._stateful_model.forward_chunks([job.chunk for job in jobs])
        return [ChunkOutput(log_probs, None) for log_probs in self._model.log_probs([job.samples for job in jobs])]

    def _guard(self, mailbox: Mailbox, action: Callable[[], None]) -> None:
        """Run an action of a stream and publish its events. An error ends this stream and no other."""
        try:
            action()
            mailbox.publish()
        except Exception as error:
            _log.exception("a stream failed")
            mailbox.fail(StreamASRError(f"the stream failed: {error!r}"))


def _check_outputs(outputs: Sequence[object], batch: Sequence[_Task]) -> None:
    if len(outputs) != len(batch):
        raise ValueError(f"{len(outputs)} outputs for {len(batch)} jobs")
