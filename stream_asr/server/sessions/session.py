"""One client's audio and events: a stream of the recognizer with the server's limits.

A session belongs to one event loop. It can outlive a lost connection; see `SessionRegistry`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import NoReturn

from stream_asr.errors import InputError, StreamASRError
from stream_asr.events import Final, Marked, Overload, Partial
from stream_asr.server.errors import CloseCode, SessionError, TakenOverError, internal_error
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.outbox import MarkReached, Outbox, SamplesReceived, SessionEvent
from stream_asr.server.sessions.pacing import ArrivalTimes, RateLimiter
from stream_asr.server.sessions.request import SessionRequest
from stream_asr.server.settings import (
    ARRIVAL_SPAN_S,
    ARRIVAL_STEP_S,
    BURST_S,
    FEED_CHUNK_S,
    LIVE_LEAD_S,
    MAX_PENDING_MARKS,
    ServerSettings,
)
from stream_asr.stream import Stream

_log = logging.getLogger(__name__)


class Session:
    """State of a session. Made by `SessionRegistry.open`.

    One task calls `feed`, another task sends what `events` yields.

    Attributes:
        key: secret with which the client resumes the session. Logs contain its first characters only.
        request: what the client asked for.
        audio_format: format of the client's audio.
        received_samples: samples per channel received, at the client's rate.
        trailing_bytes: bytes of an incomplete sample at the end of the audio; known once `finish` was called.
        finals: number of finals.
        words: number of words in all finals.
        resumes: number of connections that resumed the session.
        started_s: monotonic time at which the session was opened.
        outbox: events for the client.
        stream: stream of the recognizer.
        ended_by: reason why the session was closed; None while it is open.
    """

    def __init__(
        self, key: str, request: SessionRequest, stream: Stream, settings: ServerSettings, metrics: Metrics
    ) -> None:
        self.key, self.request, self.audio_format = key, request, request.audio_format
        self.received_samples = self.trailing_bytes = 0
        self.finals = self.words = self.resumes = 0
        self.started_s = time.monotonic()
        self.outbox = Outbox(settings.max_unsent_events // 2)
        self.stream = stream
        self.ended_by: str | None = None
        self._settings, self._metrics = settings, metrics
        self._limiter = RateLimiter(settings.max_speed, BURST_S, self.started_s)
        self._arrivals = ArrivalTimes(ARRIVAL_SPAN_S, ARRIVAL_STEP_S)
        self._partial_sample = b""
        self._finished = False
        self._tags: dict[int, str | int] = {}  # by mark of the stream
        self._changed = asyncio.Event()
        self._all_queued = False  # the outbox has received the last event
        self._closing_error: SessionError | None = None  # raised after the last event
        self._interruption: SessionError | None = None  # raised at once
        self._interrupted = asyncio.Event()
        self._detached = asyncio.Event()
        self._collector = asyncio.create_task(self._collect_events())

    # --- audio in -----------------------------------------------------------------------------------------

    async def feed(self, audio: bytes) -> None:
        """Feed audio of any length. Returns when more may be sent, which slows down fast clients.

        Raises:
            SessionError: the samples are invalid, or `finish` was called before.
        """
        await self._require_open()
        frame_bytes, rate = self.audio_format.frame_bytes, self.audio_format.sample_rate
        audio, self._partial_sample = self._partial_sample + audio, b""
        complete_bytes = len(audio) - len(audio) % frame_bytes
        chunk_bytes = max(1, int(FEED_CHUNK_S * rate)) * frame_bytes
        for start in range(0, complete_bytes, chunk_bytes):
            chunk = audio[start : min(start + chunk_bytes, complete_bytes)]
            await self.stream.wait_for_room(live_source=True)  # `_feed_chunk` sets `source_waits`
            await self._require_open()  # the session may have been finished in the meantime
            self._feed_chunk(chunk)
            self.received_samples += len(chunk) // frame_bytes
            self._changed.set()
            await self._limit_rate(len(chunk) / frame_bytes / rate)
            if self.received_s >= self._settings.max_duration_s:
                limit_s = self._settings.max_duration_s
                self.finish_with_error(SessionError("too_long", f"a session accepts at most {limit_s:g} s of audio"))
                await self._require_open()
        self._partial_sample = audio[complete_bytes:]

    def _feed_chunk(self, chunk: bytes) -> None:
        now_s = time.monotonic()
        self.stream.source_waits = self.stream.received_s > now_s - self.started_s + LIVE_LEAD_S
        try:
            self.stream.feed(chunk)
        except InputError as error:  # NaN, or far out of range
            raise SessionError("bad_audio", str(error), CloseCode.INVALID_DATA) from None
        except StreamASRError as error:
            raise SessionError("internal", str(error), CloseCode.INTERNAL_ERROR) from None
        self._arrivals.record(self.stream.received_s, now_s)
        self._metrics.audio_s.inc(len(chunk) / self.audio_format.frame_bytes / self.audio_format.sample_rate)

    async def flush(self) -> None:
        """Request a final for all audio so far.

        Raises:
            SessionError: `finish` was called before.
        """
        await self._require_open()
        self.stream.flush()

    async def mark(self, tag: str | int) -> None:
        """Request a `MarkReached` with ``tag`` once all audio so far has been recognized.

        Raises:
            SessionError: too many marks are pending, or `finish` was called before.
        """
        await self._require_open()
        if len(self._tags) >= MAX_PENDING_MARKS:
            raise SessionError(
                "too_many_waiting", f"{MAX_PENDING_MARKS} messages are waiting for earlier audio to be recognized"
            )
        self._tags[self.stream.mark()] = tag

    def finish(self) -> None:
        """End the audio; `events` ends after the last final. Further calls do nothing."""
        if not self._finished:
            self._finished = True
            self.trailing_bytes = len(self._partial_sample)
            self.stream.finish()

    @property
    def finished(self) -> bool:
        """Whether the audio has ended."""
        return self._finished

    def finish_with_error(self, error: SessionError) -> None:
        """End the audio, and make `events` raise ``error`` after the last final. The first error wins."""
        self._closing_error = self._closing_error or error
        self.finish()

    @property
    def received_s(self) -> float:
        """Seconds of audio received."""
        return self.received_samples / self.audio_format.sample_rate

    async def _limit_rate(self, audio_s: float) -> None:
        # Yields to other tasks even if the delay is 0, so that a long message does not starve other sessions.
        await asyncio.sleep(self._limiter.delay_s(audio_s, time.monotonic()))

    async def _require_open(self) -> None:
        if self._closing_error is not None:
            # Stop reading: wait until the send loop has reported the error, which cancels this task.
            await asyncio.get_running_loop().create_future()
        if self._finished:
            raise SessionError("after_finish", "nothing is accepted after finish")

    # --- events out ---------------------------------------------------------------------------------------

    async def events(self, ack_interval_s: float | None = None) -> AsyncIterator[SessionEvent | SamplesReceived]:
        """Yield each event once; end after the last event.

        Args:
            ack_interval_s: also yield a `SamplesReceived` whenever this much audio has been received.

        Raises:
            SessionError: the session was finished with an error, or the recognizer failed.
        """
        acknowledged = self.received_samples
        while True:
            self._changed.clear()
            if (
                ack_interval_s is not None
                and self.received_samples - acknowledged >= ack_interval_s * self.audio_format.sample_rate
            ):
                acknowledged = self.received_samples
                yield SamplesReceived(acknowledged)
            elif (event := self.outbox.take()) is not None:
                yield event
                self.outbox.confirm()  # not reached if sending fails
            elif not self._all_queued:
                await self._changed.wait()
            elif self._closing_error is not None:
                raise self._closing_error
            else:
                return

    async def _collect_events(self) -> None:
        """Move events from the stream to the outbox, whether a connection is attached or not."""
        try:
            async for stream_event in self.stream:
                event: SessionEvent = stream_event
                if isinstance(stream_event, Marked):
                    event = MarkReached(self._tags.pop(stream_event.mark))
                self._record_metrics(event)
                self.outbox.put(event)
                self._changed.set()
                if self.outbox.unsent > self._settings.max_unsent_events:
                    limit = self._settings.max_unsent_events
                    self.interrupt(SessionError("slow_reader", f"more than {limit} unread events are queued"))
                    return
        except StreamASRError as error:
            self._closing_error = SessionError("internal", str(error), CloseCode.INTERNAL_ERROR)
        except Exception:
            _log.exception("a session failed")
            self._closing_error = internal_error()
        finally:
            self._all_queued = True
            self._changed.set()

    def _record_metrics(self, event: SessionEvent) -> None:
        if isinstance(event, Final):
            self.finals += 1
            self.words += len(event.words)
            if (arrived_s := self._arrivals.time_of(event.end)) is not None:
                self._metrics.final_latency_s.observe(time.monotonic() - arrived_s)
        elif isinstance(event, Overload):
            self._metrics.overloads.inc()
        if isinstance(event, Partial | Final):
            self._metrics.lag_s.observe(self.stream.lag_ms / 1000)

    # --- connections --------------------------------------------------------------------------------------

    async def attach(self) -> None:
        """Attach the session to a new connection. A connection that is still attached is closed first."""
        while not self._detached.is_set():
            self.interrupt(TakenOverError())
            await self._detached.wait()
        self._detached.clear()
        self._partial_sample = b""  # the client resumes after the last complete sample

    def detach(self) -> None:
        """Detach the session from its connection."""
        self._detached.set()
        if isinstance(self._interruption, TakenOverError):
            self._interruption = None
            self._interrupted.clear()

    @property
    def attached(self) -> bool:
        """Whether a connection holds the session."""
        return not self._detached.is_set()

    def interrupt(self, error: SessionError) -> None:
        """End the connection with ``error`` at once, even while a send waits for the client to read."""
        self._interruption = self._interruption or error
        self._interrupted.set()

    async def wait_interrupted(self) -> NoReturn:
        """Wait for `interrupt`.

        Raises:
            SessionError: the error given to `interrupt`.
        """
        await self._interrupted.wait()
        assert self._interruption is not None
        raise self._interruption

    def close(self, ended_by: str) -> None:
        """Release the stream; queued events stay in the outbox. Further calls do nothing."""
        if self.ended_by is None:
            self.ended_by = ended_by
            self._collector.cancel()
            self.stream.close()
