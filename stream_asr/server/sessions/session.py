"""One client's audio and captions: a stream of the recognizer with the limits of a server around it.

A session belongs to one event loop. It outlives a connection that is lost; see `SessionRegistry`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import NoReturn

from stream_asr.errors import InputError, StreamASRError
from stream_asr.events import Final, Marked, Overload, Partial
from stream_asr.server.errors import CloseCode, SessionError, TakenOverError, internal
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.outbox import MarkReached, Outbox, SessionEvent
from stream_asr.server.sessions.pacing import Pace, Timeline
from stream_asr.server.sessions.request import SamplesReceived, SessionRequest
from stream_asr.server.settings import ServerSettings
from stream_asr.stream import Stream

_log = logging.getLogger(__name__)

_PIECE_S = 0.25
"""Audio given to the recognizer at a time, so that a long message waits for room like many short ones."""

_BURST_S = 2.0

_AHEAD_S = 1.0
"""A source that is so far ahead of real time is no microphone, and its lag says nothing about this machine."""

_MAX_TAGS = 64


class Session:
    """One task feeds it, another one sends what `events` yields. Made by `SessionRegistry.open`.

    Attributes:
        key: what a client needs to resume it, so it is a secret; logs have its first characters.
        received: samples of every channel taken in so far, at the client's rate.
    """

    def __init__(
        self, key: str, request: SessionRequest, stream: Stream, settings: ServerSettings, metrics: Metrics
    ) -> None:
        self.key, self.request, self.audio_format = key, request, request.audio
        self.received_samples = self.trailing_bytes = 0
        self.finals = self.words = self.resumes = 0
        self.started_s = time.monotonic()
        self.outbox = Outbox(settings.max_unsent_events // 2)
        self.stream = stream
        self.ended_by: str | None = None
        self._settings, self._metrics = settings, metrics
        self._pace = Pace(settings.max_speed, _BURST_S, self.started_s)
        self._timeline = Timeline()
        self._tail = b""  # of a sample that is not complete yet
        self._finished = False
        self._tags: dict[int, str | int] = {}
        self._changed = asyncio.Event()
        self._complete = False  # every event is in the outbox
        self._last_word: SessionError | None = None  # raised after the last event
        self._interruption: SessionError | None = None  # raised at once
        self._interrupted = asyncio.Event()
        self._vacant = asyncio.Event()  # set while no connection holds the session
        self._pump_task = asyncio.create_task(self._pump())

    # --- audio in -----------------------------------------------------------------------------------------

    async def feed(self, audio: bytes) -> None:
        """Take audio in; returns when more may be sent, which is how a fast client is made to wait.

        Raises:
            SessionError: the samples are no audio, or the client has called `finish` before.
        """
        await self._require_open()
        frame_bytes, rate = self.audio_format.frame_bytes, self.audio_format.sample_rate
        audio, self._tail = self._tail + audio, b""
        whole = len(audio) - len(audio) % frame_bytes
        size = max(1, int(_PIECE_S * rate)) * frame_bytes
        for at in range(0, whole, size):
            piece = audio[at : min(at + size, whole)]
            await self.stream.wait_for_room()
            await self._require_open()  # it may have been concluded while we waited
            self._push(piece)
            self.received_samples += len(piece) // frame_bytes
            self._changed.set()
            await self._slow_down(len(piece) / frame_bytes / rate)
            if self.received_s >= self._settings.max_duration_s:
                self.finish_with_error(
                    SessionError("too_long", f"a session takes {self._settings.max_duration_s:g} s of audio at most")
                )
                await self._require_open()
        self._tail = audio[whole:]

    def _push(self, piece: bytes) -> None:
        now_s = time.monotonic()
        self.stream.source_waits = self.stream.received_s > now_s - self.started_s + _AHEAD_S
        try:
            self.stream.feed(piece)
        except InputError as error:  # NaN, or far too loud
            raise SessionError("bad_audio", str(error), CloseCode.INVALID_DATA) from None
        except StreamASRError as error:
            raise SessionError("internal", str(error), CloseCode.INTERNAL_ERROR) from None
        self._timeline.note(self.stream.received_s, now_s)
        self._metrics.audio_s.inc(len(piece) / self.audio_format.frame_bytes / self.audio_format.sample_rate)

    async def flush(self) -> None:
        """Ask for a final of all audio so far.

        Raises:
            SessionError: the client has called `finish` before.
        """
        await self._require_open()
        self.stream.flush()

    async def mark(self, tag: str | int) -> None:
        """Ask for a `MarkReached` with ``tag`` once all audio so far has been recognised.

        Raises:
            SessionError: too many of them are under way, or the client has called `finish` before.
        """
        await self._require_open()
        if len(self._tags) >= _MAX_TAGS:
            raise SessionError("too_many_waiting", f"{_MAX_TAGS} messages wait already until all audio is recognised")
        self._tags[self.stream.mark()] = tag

    def finish(self) -> None:
        """There is no more audio; `events` ends after the last final. Calling it again does nothing."""
        if not self._finished:
            self._finished = True
            self.trailing_bytes = len(self._tail)
            self.stream.finish()

    @property
    def finished(self) -> bool:
        return self._finished

    def finish_with_error(self, reason: SessionError) -> None:
        """Take no more audio, and let `events` end with ``reason`` after the last final."""
        self._last_word = self._last_word or reason
        self.finish()

    @property
    def received_s(self) -> float:
        """Of audio taken in."""
        return self.received_samples / self.audio_format.sample_rate

    async def _slow_down(self, audio_s: float) -> None:
        # Even if there is no need to wait, the others get their turn between two pieces of a long message.
        await asyncio.sleep(self._pace.wait_s(audio_s, time.monotonic()))

    async def _require_open(self) -> None:
        if self._last_word is not None:
            # Read no further; the task that sends will say why, after the last final, and then cancel this one.
            await asyncio.get_running_loop().create_future()
        if self._finished:
            raise SessionError("after_finish", "nothing is accepted after finish")

    # --- captions out -------------------------------------------------------------------------------------

    async def events(self, ack_every_s: float | None = None) -> AsyncIterator[SessionEvent | SamplesReceived]:
        """The events to send, each once; ends after the last one.

        Args:
            ack_every_s: also yield a `SamplesReceived` after so much audio.

        Raises:
            SessionError: the session was concluded for a reason, or the recognizer failed.
        """
        acked = self.received_samples
        while True:
            self._changed.clear()
            if ack_every_s is not None and self.received_samples - acked >= ack_every_s * self.audio_format.sample_rate:
                acked = self.received_samples
                yield SamplesReceived(acked)
            elif (event := self.outbox.take()) is not None:
                yield event
                self.outbox.confirm()  # not reached when sending it failed
            elif not self._complete:
                await self._changed.wait()
            elif self._last_word is not None:
                raise self._last_word
            else:
                return

    async def _pump(self) -> None:
        """Move the stream's events into the outbox as they come, whether a client is there or not."""
        try:
            async for made in self.stream:
                event = MarkReached(self._tags.pop(made.mark)) if isinstance(made, Marked) else made
                self._observe(event)
                self.outbox.put(event)
                self._changed.set()
                if self.outbox.unsent > self._settings.max_unsent_events:
                    limit = self._settings.max_unsent_events
                    self.interrupt(SessionError("slow_reader", f"more than {limit} events wait to be read"))
                    return
        except StreamASRError as error:
            self._last_word = SessionError("internal", str(error), CloseCode.INTERNAL_ERROR)
        except Exception:
            _log.exception("a session failed")
            self._last_word = internal()
        finally:
            self._complete = True
            self._changed.set()

    def _observe(self, event: SessionEvent) -> None:
        if isinstance(event, Final):
            self.finals += 1
            self.words += len(event.words)
            if (arrived_s := self._timeline.when(event.end)) is not None:
                self._metrics.final_latency_s.observe(time.monotonic() - arrived_s)
        elif isinstance(event, Overload):
            self._metrics.overloads.inc()
        if isinstance(event, Partial | Final):
            self._metrics.lag_s.observe(self.stream.lag_ms / 1000)

    # --- connections --------------------------------------------------------------------------------------

    async def attach(self) -> None:
        """Give the session to this connection; one that still holds it is sent away first."""
        while not self._vacant.is_set():
            self.interrupt(TakenOverError())
            await self._vacant.wait()
        self._vacant.clear()
        self._tail = b""  # the client sends from the last whole sample

    def detach(self) -> None:
        """The connection is gone."""
        self._vacant.set()
        if isinstance(self._interruption, TakenOverError):
            self._interruption = None
            self._interrupted.clear()

    @property
    def attached(self) -> bool:
        return not self._vacant.is_set()

    def interrupt(self, reason: SessionError) -> None:
        """End the connection now, even while it waits for a client that does not read."""
        self._interruption = self._interruption or reason
        self._interrupted.set()

    async def interruption(self) -> NoReturn:
        """Wait for `interrupt`.

        Raises:
            SessionError: its reason.
        """
        await self._interrupted.wait()
        assert self._interruption is not None
        raise self._interruption

    def close(self, ended_by: str) -> None:
        """Free what the recognizer holds for it; events in the outbox stay. Calling it again does nothing."""
        if self.ended_by is None:
            self.ended_by = ended_by
            self._pump_task.cancel()
            self.stream.close()
