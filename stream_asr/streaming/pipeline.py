"""One stream from samples to events: buffer, segmenter, windows and captions, without the model.

The engine asks for windows, runs them, and hands the log-probabilities back. Everything here is a function
of the samples and of that order, so it is tested without threads and without a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from stream_asr.acoustic.base import State
from stream_asr.array_types import FloatArray
from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.config import RecognizerConfig, WindowConfig, ms_to_samples, samples_to_ms, samples_to_s
from stream_asr.decoding.base import Decoder
from stream_asr.events import AudioDropped, Event, SpeechStarted
from stream_asr.streaming.accounting import Counts, Marks, OverloadAlarm, SampleAccounting
from stream_asr.streaming.caption import FRAGMENT_PATIENCE, Caption
from stream_asr.streaming.jobs import Job, JobQueue, Utterance, enough_waits
from stream_asr.streaming.windows import Window, WindowGeometry, WindowPlan
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.endpointer import Boundary, Endpointer, UtteranceEnd, UtteranceStart

_STEP_MS = 100
"""Audio taken from the buffer at a time: small, so that a full queue of windows is noticed soon."""

_HUSH_MS = 100
"""A preview that shows this much silence, besides what a caption waits for, shows the last word whole."""


class Pipeline:
    """The state of one stream, shared by two threads: the one that writes to `buffer`, and the engine's.

    Args:
        config: of the recognizer.
        decoder: makes words of the model's frames.
        frame_samples: of the model.
        detector: for the segmenter.
        longest_samples: the longest window that the model takes, or None.
        fresh: for a model that remembers: `stream_asr.acoustic.base.StatefulModel.initial_state`.
        live: make previews and partials, and report `Overload`; the transcription of a file needs none of them.
    """

    def __init__(
        self,
        config: RecognizerConfig,
        decoder: Decoder,
        frame_samples: int,
        *,
        detector: VoiceDetector,
        longest_samples: int | None = None,
        initial_state: Callable[[int], State] | None = None,
        live: bool = True,
    ) -> None:
        self.buffer = RingBuffer(ms_to_samples(config.engine.buffer_ms))
        self._config = config.engine
        self._decoder = decoder
        self._frame_samples = frame_samples
        windows = config.windows or WindowConfig()
        self._hold_back = ms_to_samples(windows.hold_back_ms)
        self._hush = FRAGMENT_PATIENCE * self._hold_back + ms_to_samples(_HUSH_MS)
        self._geometry = WindowGeometry.of(windows, frame_samples, longest_samples)
        self._nothing_heard: State = None
        if initial_state is not None:
            self._nothing_heard = initial_state(self._geometry.left)
            self._geometry = self._geometry.without_left()
        # A forced cut may not fall before frames that are kept already.
        cut_search_ms = samples_to_ms(self._geometry.right)
        self._segmenter = Endpointer(config.segmenter, frame_samples, cut_search_ms, detector)
        self._live = live
        self._read = 0
        self._events: list[Event] = []
        self._jobs = JobQueue(one_by_one=initial_state is not None)
        self._open: deque[Utterance] = deque()  # started, final not made yet; only the first one is announced
        self._started = 0
        self._previewed = 0
        self._preview_out = False
        self._previews_skipped = 0
        self._alarm = OverloadAlarm(config.engine.overload_lag_ms)
        # Positions, and what to do when they are reached; appended by the writer, popped by the engine.
        self._requests: deque[tuple[int, Callable[[], None]]] = deque()
        self._marks = Marks()
        self._reflected = 0
        self._ended = self._closed = False
        self.source_waits = False
        """The source is as fast as we are, so that lag says nothing about this machine: no `Overload`."""
        self._ledger = SampleAccounting()

    # --- for the thread that writes to the buffer -----------------------------------------------------------

    def flush(self) -> None:
        """End the utterance with the newest audio written so far."""
        self._requests.append((self.buffer.written, lambda: self._apply(self._segmenter.flush())))

    def mark(self, number: int) -> None:
        """Make a `Marked` event once all audio written so far has been recognised."""
        position = self.buffer.written
        self._requests.append((position, lambda: self._marks.reach(number, position)))

    def end_of_audio(self) -> None:
        """Nothing will be written any more."""
        self._ended = True

    # --- for the engine -----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Take in audio from the buffer until there is no more, or enough windows wait."""
        while not enough_waits(self._jobs, self._config, live=self._live) and self._hear_next():
            continue
        self._report()

    @property
    def next_kept(self) -> Job | None:
        """The oldest window whose frames will be kept and that need not wait for another; `take` removes it."""
        return self._jobs.ready

    def take(self) -> Job:
        return self._jobs.take()

    @property
    def next_preview(self) -> Window | None:
        """A preview up to the newest audio, when one is due and nothing more important waits."""
        if not self._live or self._preview_out or self._jobs or len(self._open) != 1:
            return None
        utterance, position = self._open[0], self._segmenter.position
        if utterance.end is not None or position - self._previewed < self._geometry.preview_interval:
            return None
        if self._hushed:
            return None
        window = utterance.plan.preview(position)
        return None if window is None or window.stop <= utterance.caption.reflected else window

    def take_preview(self, window: Window) -> Job:
        """The job for `next_preview`; until it is delivered there will be no other."""
        new = window.stop - self._previewed
        self._previews_skipped += max(0, new // self._geometry.preview_interval - 1)
        self._previewed = window.stop
        self._preview_out = True
        return Job(window, self._samples(window), self._open[0], is_preview=True, state=self._open[0].state)

    def deliver(self, job: Job, log_probs: FloatArray, state: State = None) -> None:
        """Take the model's output for ``job``: log-probabilities, float32, shape (frames, outputs)."""
        utterance = job.utterance
        if job.is_preview:
            self._preview_out = False
            utterance.caption.preview(job.window, log_probs)
        else:
            utterance.pending -= 1
            utterance.state, utterance.in_flight = state, False
            self._marks.delivered()
            utterance.caption.commit(job.window, log_probs)
            # The right context of a commit window is as good as a preview up to there.
            self._previewed = max(self._previewed, job.window.stop)
        if utterance is self._open[0]:
            self._show_partial()
        self._make_finals()
        self._report()

    def take_events(self) -> list[Event]:
        """The events since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    # --- for everybody ------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """The audio has ended and the last final was made."""
        return self._closed and not self._open

    @property
    def waiting(self) -> int:
        """Windows to be kept that wait for the model."""
        return len(self._jobs)

    @property
    def lag_samples(self) -> int:
        """Newest captured sample minus newest sample reflected in the captions."""
        return max(0, self.buffer.captured - self._reflected)

    @property
    def counts(self) -> Counts:
        """Where the samples went; exact once `finished`."""
        return self._ledger.counts(self.buffer.captured, self.buffer.dropped, self._previews_skipped)

    @property
    def _hushed(self) -> bool:
        """All that was said is shown, and a preview would only stand in the way of the final that comes next."""
        return bool(self._open) and self._open[0].caption.reflected >= self._segmenter.last_voiced + self._hush

    # --- inside -------------------------------------------------------------------------------------------

    def _hear_next(self) -> bool:
        """One step further into the buffer; False when there is nothing to do."""
        # Asked before the buffer is: what was written before the end was announced must be heard first.
        ended, request = self._ended, self._requests[0] if self._requests else None
        # The writer has left then, so its side of the buffer may be called from here.
        settled = ended and self.buffer.settle()
        stop = min(self.buffer.written, self._read + ms_to_samples(_STEP_MS))
        if request is not None:
            stop = min(stop, request[0])
        if stop > self._read:
            self._apply(self._segmenter.push(self.buffer.read(self._read, stop)))
            self._read = stop
            self._plan(self._segmenter.position)
            if self._hushed:  # previews that are left out on purpose are not overdue
                self._previewed = max(self._previewed, self._segmenter.position - self._geometry.preview_interval)
            self.buffer.release(self._needed_from())
        elif request is not None:
            self._requests.popleft()[1]()
        elif settled and not self._closed:
            self._closed = True
            self._apply(self._segmenter.finish())
        else:
            return False
        return True

    def _apply(self, boundaries: list[Boundary]) -> None:
        for boundary in boundaries:
            if isinstance(boundary, UtteranceStart):
                self._begin(boundary)
            else:
                self._end(boundary)

    def _begin(self, boundary: UtteranceStart) -> None:
        start = boundary.position
        caption = Caption(self._started, start, self._decoder, self._frame_samples, self._hold_back)
        plan = WindowPlan(self._geometry, start)
        self._open.append(Utterance(start, plan, caption, state=self._nothing_heard, live=self._live))
        self._started += 1
        self._previewed = max(start, boundary.decided_at - self._geometry.preview_interval)
        if len(self._open) == 1:
            self._announce()

    def _end(self, boundary: UtteranceEnd) -> None:
        # First the windows that were full before the end was known: which they are must not depend on how
        # much audio arrived in one piece.
        self._plan(boundary.decided_at)
        utterance = self._open[-1]
        utterance.end = boundary.position
        if window := utterance.plan.last(boundary.position, boundary.decided_at):
            self._enqueue(utterance, window)
        self._ledger.utterance(utterance.start, boundary.position)
        self._make_finals()

    def _plan(self, position: int) -> None:
        if self._open and self._open[-1].end is None:
            for window in self._open[-1].plan.commits(position):
                self._enqueue(self._open[-1], window)

    def _enqueue(self, utterance: Utterance, window: Window) -> None:
        utterance.pending += 1
        self._marks.planned()
        self._jobs.add(Job(window, self._samples(window), utterance, is_preview=False))

    def _samples(self, window: Window) -> FloatArray:
        """The window's audio, its last frame filled up with silence where the stream ends inside it."""
        samples = self.buffer.read(window.start, window.stop)
        missing = -len(samples) % self._frame_samples
        return np.pad(samples, (0, missing)) if missing else samples

    def _needed_from(self) -> int:
        if self._open and self._open[-1].end is None:
            return self._open[-1].plan.needed_from
        return self._segmenter.earliest_start

    def _announce(self) -> None:
        utterance = self._open[0]
        self._events.append(SpeechStarted(utterance.caption.utterance, samples_to_s(utterance.start)))
        self._show_partial()

    def _show_partial(self) -> None:
        if self._live and self._open[0].end is None and (partial := self._open[0].caption.partial()):
            self._events.append(partial)

    def _make_finals(self) -> None:
        while self._open and self._open[0].end is not None and not self._open[0].pending:
            utterance = self._open.popleft()
            assert utterance.end is not None
            self._events.append(utterance.caption.final(utterance.end))
            if self._open:
                self._announce()

    def _report(self) -> None:
        for gap in self.buffer.take_gaps():
            self._ledger.gap(gap)
            self._events.append(AudioDropped(samples_to_s(gap.start), samples_to_s(gap.stop)))
        begun = self._open[-1].start if self._open else self._segmenter.earliest_start
        self._ledger.settle(self.buffer.captured if self._closed else begun)
        self._reflected = self._open[0].caption.reflected if self._open else self._segmenter.position
        if self._live and not (self._ended or self.source_waits):
            self._events += self._alarm.check(self.buffer.captured, self.lag_samples)
        idle = not self._preview_out and self.next_preview is None
        self._events += self._marks.passed(self._reflected, idle)
