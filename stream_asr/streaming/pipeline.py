"""One stream from samples to events, without the model.

The engine takes jobs from the pipeline, runs them, and delivers their outputs. The result depends only on the
samples and on the order of these calls, so that it can be tested without threads and without a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from stream_asr.acoustic.base import ChunkOutput, DecodeOutput, State
from stream_asr.array_types import FloatArray
from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.config import RecognizerConfig, WindowConfig, ms_to_samples, samples_to_s
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.casing import Casing
from stream_asr.events import AudioDropped, Event, SpeechStarted
from stream_asr.streaming.accounting import Counts, Marks, OverloadAlarm, SampleAccounting
from stream_asr.streaming.caption import Caption
from stream_asr.streaming.jobs import Accepts, DecodeJob, Job, JobKind, JobQueue, PreviewStart, Priority, Utterance
from stream_asr.streaming.second_pass import SecondPass
from stream_asr.streaming.windows import Window, WindowGeometry, WindowPlan
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.endpointer import Boundary, Endpointer, EndReason, UtteranceEnd, UtteranceStart


class Pipeline:
    """The state of one stream, shared by the thread that writes to `buffer` and the engine's thread.

    Args:
        config: settings of the recognizer.
        decoder: turns frames into words.
        frame_samples: length of a model frame.
        detector: voice detector of this stream.
        max_window_samples: longest window that the model accepts; None for no limit.
        initial_state: `stream_asr.acoustic.base.StatefulModel.initial_state` of a stateful model, else None.
        second_pass: creates the second pass of an utterance from the absolute sample at which it starts; None for none.
        casing: how words of the first pass are capitalized next to words of the second pass.
        live: whether to make previews and partials, and to report `Overload`.

    Attributes:
        buffer: audio that has not been released yet.
        source_waits: whether the source is as fast as the recognizer, so that a lag is not an overload.
    """

    def __init__(
        self,
        config: RecognizerConfig,
        decoder: Decoder,
        frame_samples: int,
        *,
        detector: VoiceDetector,
        max_window_samples: int | None = None,
        initial_state: Callable[[int], State] | None = None,
        second_pass: Callable[[int], SecondPass] | None = None,
        casing: Casing | None = None,
        live: bool = True,
    ) -> None:
        windows = config.windows or WindowConfig()
        self.buffer = RingBuffer(ms_to_samples(config.engine.buffer_ms))
        self.source_waits = False
        self._config = config.engine
        self._decoder = decoder
        self._make_second_pass = second_pass
        self._casing = casing
        self._frame_samples = frame_samples
        self._live = live
        self._hold_back = ms_to_samples(windows.hold_back_ms)
        self._fragment_hold_back = windows.fragment_hold_back_factor * self._hold_back
        self._silence_margin = self._fragment_hold_back + ms_to_samples(windows.silence_margin_ms)
        self._geometry = WindowGeometry.from_config(windows, frame_samples, max_window_samples)
        self._initial_state: State = None
        if initial_state is not None:
            context_ms = windows.state_context_ms
            self._initial_state = initial_state(
                self._geometry.left if context_ms is None else ms_to_samples(context_ms)
            )
            self._geometry = self._geometry.without_left_context()
        # A forced cut must not fall before frames that are committed already, or before stable words.
        cut_search = self._geometry.right
        if second_pass is not None:
            cut_search = min(cut_search, ms_to_samples(config.second_pass.stable_margin_ms))
        self._endpointer = Endpointer(config.segmenter, frame_samples, cut_search, detector)
        self._position = 0  # end of the audio read from the buffer
        self._queue = JobQueue(stateful=initial_state is not None)
        self._open: deque[Utterance] = deque()  # utterances without a final; only the first is announced
        self._utterances_started = 0
        self._preview_in_flight = False
        self._preview_pass: DecodeJob | None = None  # decodes the newest preview
        self._previewed = 0  # end of the newest preview
        self._previews_skipped = 0
        # Positions, and what to do when they are reached. Appended by the writer, popped by the engine.
        self._requests: deque[tuple[int, Callable[[], None]]] = deque()
        self._audio_ended = False  # set by the writer
        self._closed = False  # the endpointer has processed all audio
        self._events: list[Event] = []
        self._accounting = SampleAccounting()
        self._marks = Marks()
        self._alarm = OverloadAlarm(config.engine.overload_lag_ms, config.engine.overload_interval_ms)
        self._reflected = 0  # newest sample that the captions reflect

    # --- called by the thread that writes to the buffer ---

    def flush(self) -> None:
        """End the utterance at the newest audio in the buffer."""
        self._requests.append((self.buffer.written, lambda: self._apply(self._endpointer.flush())))

    def mark(self, number: int) -> None:
        """Emit a `Marked` event once the audio in the buffer has been recognized."""
        position = self.buffer.written
        self._requests.append((position, lambda: self._marks.add(number, position)))

    def end_of_audio(self) -> None:
        """Announce that no more audio will be written."""
        self._audio_ended = True

    # --- called by the engine ---

    def advance(self) -> None:
        """Read audio from the buffer until it is empty or enough windows are queued."""
        while not self._queue_is_full and self._step():
            continue
        self._report()

    def take_job(self, priority: Priority, accepts: Accepts) -> Job | DecodeJob | None:
        """Remove and return the most urgent job that can start now.

        Commit windows run in order, and a preview is made only while no other job is queued. If the most urgent
        job of a kind is not accepted, no other job of this kind is returned in its place.

        Args:
            priority: the least urgent class to take.
            accepts: whether a job is accepted.

        Returns:
            The job, with the model state of its utterance; None if there is no job that can start and is accepted.
        """
        if self._queue:
            return self._queue.take(priority, accepts)
        if priority < Priority.PREVIEW:
            return None
        if (preview_pass := self._preview_pass) is not None:
            if not accepts(JobKind.DECODE, len(preview_pass.log_probs)):
                return None
            self._preview_pass = None
            return preview_pass.with_request()
        if (window := self._due_preview()) is None:
            return None
        utterance = self._open[0]
        start = utterance.preview_start
        position, state = (window.start, utterance.state) if start is None else (start.position, start.state)
        if not accepts(JobKind.WINDOW, window.stop - position):
            return None
        new_samples = window.stop - self._previewed
        self._previews_skipped += max(0, new_samples // self._geometry.preview_interval - 1)
        self._previewed = window.stop
        self._preview_in_flight = True
        return Job(
            window,
            self._samples(window, position),
            utterance,
            is_preview=True,
            state=state,
            preview_kept_samples=self._preview_kept_samples(position, window.stop, window.new_start),
            preview_start=start,
        )

    def deliver(self, job: Job, output: ChunkOutput) -> None:
        """Process the output of the acoustic model for a job from `take_job`."""
        utterance = job.utterance
        if job.is_preview:
            if job.preview_start is not None:
                output = job.preview_start.prepend(output)
            if job.preview_start is utterance.preview_start:  # no commit window has overtaken the preview
                following = PreviewStart.after(job, output, self._frame_samples)
                utterance.preview_start = following or utterance.preview_start
            utterance.caption.preview(job.window, output.log_probs)
            self._preview_in_flight = self._decodes_preview(utterance)
            if self._preview_in_flight:
                self._preview_pass = DecodeJob(
                    job.window, output.log_probs, output.encoded, 0, None, utterance, is_preview=True
                )
        else:
            self._drop_preview_pass()
            utterance.state, utterance.in_flight = output.state, False
            utterance.preview_start = PreviewStart.after(job, output, self._frame_samples)
            utterance.caption.commit(job.window, output.log_probs)
            # The right context of a commit window serves as a preview.
            self._previewed = max(self._previewed, job.window.stop)
            if utterance.second_pass is not None:
                self._queue.put(self._decode_job(job, output, utterance.second_pass))
            self._job_done(job)
        self._update(utterance)

    def deliver_pass(self, job: DecodeJob, output: DecodeOutput) -> None:
        """Process the output of the second-pass model for a job from `take_job`."""
        utterance = job.utterance
        assert utterance.second_pass is not None
        if job.is_preview:
            self._preview_in_flight = False
            utterance.second_pass.preview(job.window, job.log_probs, output)
        else:
            utterance.is_decoding = False
            utterance.second_pass.update(job.window, job.log_probs, output, is_last=job.is_last)
            self._job_done(job)
        self._update(utterance)

    def _decodes_preview(self, utterance: Utterance) -> bool:
        """Whether to decode the preview that was just delivered, which no commit window has overtaken."""
        second_pass = utterance.second_pass
        return second_pass is not None and second_pass.decodes_previews and not self._queue and utterance.end is None

    def _drop_preview_pass(self) -> None:
        """Drop the pass that would decode the newest preview: commit windows come first, and they include its audio."""
        if self._preview_pass is not None:
            self._preview_pass, self._preview_in_flight = None, False

    def _job_done(self, job: Job | DecodeJob) -> None:
        job.utterance.pending -= 1
        self._marks.job_done(job.marks_before)

    def _update(self, utterance: Utterance) -> None:
        if utterance is self._open[0]:
            self._emit_partial()
        self._emit_finals()
        self._report()

    def take_events(self) -> list[Event]:
        """Remove and return the events since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    # --- called by any thread ---

    @property
    def finished(self) -> bool:
        """Whether the audio has ended and the last final was emitted."""
        return self._closed and not self._open

    @property
    def waiting(self) -> int:
        """Number of queued commit windows."""
        return len(self._queue)

    @property
    def lag_samples(self) -> int:
        """Newest captured sample minus newest sample that the captions reflect."""
        return max(0, self.buffer.captured - self._reflected)

    @property
    def counts(self) -> Counts:
        """Sample counts, exact once the stream is `finished`."""
        return self._accounting.counts(self.buffer.captured, self.buffer.dropped, self._previews_skipped)

    # --- reading audio ---

    @property
    def _queue_is_full(self) -> bool:
        """Whether enough windows are queued. Without partials, more are: the model can run them in larger batches."""
        if self._live:
            return len(self._queue) >= self._config.max_pending_windows
        return self._queue.committed_samples >= ms_to_samples(self._config.look_ahead_ms)

    def _step(self) -> bool:
        """Read one step of audio or serve one request; return False if there is nothing to do."""
        # Read before the buffer: audio that was written before the end was announced must not be missed.
        ended, request = self._audio_ended, self._requests[0] if self._requests else None
        # The writer is done once the audio has ended, so this thread may call its methods of the buffer.
        complete = ended and self.buffer.fill_gap()
        stop = min(self.buffer.written, self._position + ms_to_samples(self._config.step_ms))
        if request is not None:
            stop = min(stop, request[0])
        if stop > self._position:
            self._read(stop)
        elif request is not None:
            self._requests.popleft()[1]()
        elif complete and not self._closed:
            self._closed = True
            self._apply(self._endpointer.finish())
        else:
            return False
        return True

    def _read(self, stop: int) -> None:
        self._apply(self._endpointer.push(self.buffer.read(self._position, stop)))
        self._position = stop
        self._plan_commits(self._endpointer.position)
        if self._shows_silence:  # previews that pause on purpose are not skipped ones
            self._previewed = max(self._previewed, self._endpointer.position - self._geometry.preview_interval)
        self.buffer.release(self._first_needed())

    def _apply(self, boundaries: list[Boundary]) -> None:
        for boundary in boundaries:
            if isinstance(boundary, UtteranceStart):
                self._start_utterance(boundary)
            else:
                self._end_utterance(boundary)

    def _start_utterance(self, boundary: UtteranceStart) -> None:
        start = boundary.position
        second_pass = None if self._make_second_pass is None else self._make_second_pass(start)
        caption = Caption(
            self._utterances_started,
            start,
            self._decoder,
            self._frame_samples,
            self._hold_back,
            self._fragment_hold_back,
            second_pass,
            self._casing,
        )
        plan = WindowPlan(self._geometry, start)
        self._open.append(
            Utterance(start, plan, caption, self._live, state=self._initial_state, second_pass=second_pass)
        )
        self._utterances_started += 1
        self._previewed = max(start, boundary.decided_at - self._geometry.preview_interval)
        if len(self._open) == 1:
            self._announce()

    def _end_utterance(self, boundary: UtteranceEnd) -> None:
        # First the windows that were full before the end was decided: the windows must not depend on block sizes.
        self._plan_commits(boundary.decided_at)
        utterance = self._open[-1]
        utterance.end = boundary.position
        available = boundary.decided_at if boundary.reason is EndReason.MAX_LENGTH else None
        if window := utterance.plan.last_window(boundary.position, available):
            self._enqueue(utterance, window, is_last=True)
        self._accounting.add_utterance(utterance.start, boundary.position)
        self._emit_finals()

    # --- windows ---

    def _plan_commits(self, position: int) -> None:
        if self._open and self._open[-1].end is None:
            for window in self._open[-1].plan.commit_windows(position):
                self._enqueue(self._open[-1], window)

    def _enqueue(self, utterance: Utterance, window: Window, *, is_last: bool = False) -> None:
        jobs = 1 if utterance.second_pass is None else 2  # a decoding pass will follow
        self._drop_preview_pass()
        utterance.pending += jobs
        marks_before = self._marks.jobs_planned(jobs)
        preview_kept = 0 if is_last else self._preview_kept_samples(window.start, window.stop, window.new_stop)
        self._queue.put(
            Job(
                window,
                self._samples(window, window.start),
                utterance,
                is_preview=False,
                is_last=is_last,
                marks_before=marks_before,
                preview_kept_samples=preview_kept,
            )
        )

    def _decode_job(self, job: Job, output: ChunkOutput, second_pass: SecondPass) -> DecodeJob:
        """Return the decoding pass that follows a commit window."""
        window, utterance, samples = job.window, job.utterance, None
        if second_pass.uses_audio:
            new = job.samples[window.new_start - window.start :]
            samples = np.concatenate([*utterance.audio, new])
            # A copy: a view would keep the left context in memory as well.
            utterance.audio.append(new[: window.new_samples].copy())
        return DecodeJob(
            window,
            output.log_probs,
            output.encoded,
            output.kept_encoded,
            samples,
            utterance,
            is_last=job.is_last,
            marks_before=job.marks_before,
        )

    def _due_preview(self) -> Window | None:
        """Return the preview window up to the newest audio; None if no preview is due."""
        if not self._live or self._preview_in_flight or self._queue or len(self._open) != 1 or self._shows_silence:
            return None
        utterance, position = self._open[0], self._endpointer.position
        if utterance.end is not None or position - self._previewed < self._geometry.preview_interval:
            return None
        window = utterance.plan.preview_window(position)
        return None if window is None or window.stop <= utterance.caption.reflected else window

    @property
    def _shows_silence(self) -> bool:
        """Whether the caption shows all speech so far. Another preview would only delay the final."""
        if not self._open:
            return False
        return self._open[0].caption.reflected >= self._endpointer.last_voiced + self._silence_margin

    def _preview_kept_samples(self, start: int, stop: int, committed: int) -> int:
        """Return how many of the samples [start, stop) previews need not encode again, committed ones included."""
        right = self._geometry.preview_right
        return 0 if right is None or not self._live else max(committed, stop - right, start) - start

    def _samples(self, window: Window, start: int) -> FloatArray:
        """Return the window's audio from ``start`` on, with the silence behind it.

        Silence completes the last frame as well.
        """
        samples = self.buffer.read(start, window.audio_end)
        missing = window.stop - start - len(samples)
        missing += -(len(samples) + missing) % self._frame_samples
        return np.pad(samples, (0, missing)) if missing else samples

    def _first_needed(self) -> int:
        """Return the first sample that must stay in the buffer."""
        if self._open and self._open[-1].end is None:
            return self._open[-1].plan.first_needed
        return self._endpointer.earliest_start

    # --- events ---

    def _announce(self) -> None:
        utterance = self._open[0]
        self._events.append(SpeechStarted(utterance.caption.utterance, samples_to_s(utterance.start)))
        self._emit_partial()

    def _emit_partial(self) -> None:
        if self._live and self._open[0].end is None and (partial := self._open[0].caption.partial()):
            self._events.append(partial)

    def _emit_finals(self) -> None:
        while self._open and self._open[0].end is not None and not self._open[0].pending:
            utterance = self._open.popleft()
            assert utterance.end is not None
            self._events.append(utterance.caption.final(utterance.end))
            if self._open:
                self._announce()

    def _report(self) -> None:
        """Emit the events about the stream itself: dropped audio, overload and marks."""
        for gap in self.buffer.take_gaps():
            self._accounting.add_gap(gap)
            self._events.append(AudioDropped(samples_to_s(gap.start), samples_to_s(gap.stop)))
        next_start = self._open[-1].start if self._open else self._endpointer.earliest_start
        self._accounting.settle(self.buffer.captured if self._closed else next_start)
        self._reflected = self._open[0].caption.reflected if self._open else self._endpointer.position
        if self._live and not (self._audio_ended or self.source_waits):
            self._events += self._alarm.check(self.buffer.captured, self.lag_samples)
        idle = not self._preview_in_flight and self._due_preview() is None
        self._events += self._marks.take_passed(self._reflected, idle)
