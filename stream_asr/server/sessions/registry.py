"""Registry of all sessions of a server: admission, resumption, expiry, and shutdown."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread
from starlette.websockets import WebSocketDisconnect

from stream_asr.audio.pcm import AudioConverter
from stream_asr.errors import InputError, StreamASRError
from stream_asr.recognizer import Recognizer
from stream_asr.server.errors import CloseCode, SessionError, TakenOverError
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.hotwords import check_hotwords
from stream_asr.server.sessions.request import SessionRequest
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import ServerSettings
from stream_asr.stream import Stream

_log = logging.getLogger(__name__)

SHUTTING_DOWN = "the server is shutting down"

_LOGGED_KEY_CHARACTERS = 8
"""Enough to distinguish sessions in the log; too few to resume one."""


class SessionRegistry:
    """Open sessions, and finished sessions whose last events the client may still have to receive.

    Belongs to one event loop.

    Args:
        recognizer: recognizer whose streams the sessions use.
        settings: limits and timeouts of sessions.
        metrics: metrics of the server; counts sessions that are opened, refused, resumed and closed.

    Attributes:
        draining: whether `drain` was called; no more sessions are opened.
    """

    def __init__(self, recognizer: Recognizer, settings: ServerSettings, metrics: Metrics) -> None:
        self._recognizer, self._settings, self._metrics = recognizer, settings, metrics
        self._sessions: dict[str, Session] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._pending_connections = 0
        self._opening_sessions = 0  # sessions whose hotwords are being compiled or wait for it
        self._compiling = asyncio.Lock()
        self._all_closed = asyncio.Event()
        self.draining = False

    @property
    def open_count(self) -> int:
        """Number of sessions that hold a stream of the recognizer."""
        return sum(session.ended_by is None for session in self._sessions.values())

    @property
    def _taken_count(self) -> int:
        return self.open_count + self._opening_sessions

    @property
    def detached_count(self) -> int:
        """Number of open sessions that wait to be resumed."""
        return sum(session.ended_by is None and not session.attached for session in self._sessions.values())

    # --- opening and resuming -----------------------------------------------------------------------------

    def unavailable_reason(self, *, may_resume: bool = False) -> str | None:
        """Return why a new connection cannot get a session now; None if it can. To be called before the handshake.

        Args:
            may_resume: the connection may resume one of the detached sessions.
        """
        if self.draining:
            return SHUTTING_DOWN
        free = self._settings.max_sessions - self._taken_count - self._pending_connections
        if may_resume:
            free += self.detached_count
        if free > 0:
            return None
        self._metrics.refused.inc()
        return self._all_taken_message

    @property
    def _all_taken_message(self) -> str:
        return f"all {self._settings.max_sessions} sessions are taken; try again later"

    @contextmanager
    def pending_connection(self) -> Iterator[None]:
        """Reserve room for a connection that was accepted but has not opened its session yet."""
        self._pending_connections += 1
        try:
            yield
        finally:
            self._pending_connections -= 1

    async def open(self, request: SessionRequest) -> Session:
        """Open a session. Use it inside `manage`. Waits only if the request has hotwords, for a thread to compile them.

        Raises:
            SessionError: all sessions are taken, or the audio format, the endpoint or a hotword is not accepted.
        """
        if self.draining:
            raise SessionError("shutting_down", SHUTTING_DOWN, CloseCode.GOING_AWAY)
        if self._taken_count >= self._settings.max_sessions:
            self._metrics.refused.inc()
            raise SessionError("too_many_sessions", self._all_taken_message, CloseCode.TRY_AGAIN_LATER)
        try:
            if request.endpoint_ms is not None:
                self._recognizer.config.segmenter.with_endpoint(request.endpoint_ms)
        except InputError as error:
            raise SessionError("bad_endpoint", str(error)) from None
        audio_format = request.audio_format
        try:
            AudioConverter(audio_format.sample_rate, audio_format.channels, audio_format.encoding)
        except InputError as error:
            raise SessionError("bad_audio_format", str(error)) from None
        stream = (
            self._open_stream(request) if request.hotwords is None else await self._open_stream_with_hotwords(request)
        )
        session = Session(secrets.token_urlsafe(16), request, stream, self._settings, self._metrics)
        self._sessions[session.key] = session
        self._metrics.opened.labels(request.protocol).inc()
        return session

    def _open_stream(self, request: SessionRequest) -> Stream:
        audio_format = request.audio_format
        try:
            return self._recognizer.stream(
                audio_format.sample_rate,
                channels=audio_format.channels,
                encoding=audio_format.encoding,
                live=request.partials,
                endpoint_ms=request.endpoint_ms,
                hotwords=request.hotwords,
            )
        except InputError as error:
            code = "bad_audio_format" if request.hotwords is None else "bad_hotwords"
            raise SessionError(code, str(error)) from None
        except StreamASRError as error:
            raise SessionError("internal", str(error), CloseCode.INTERNAL_ERROR) from None

    async def _open_stream_with_hotwords(self, request: SessionRequest) -> Stream:
        """Open a stream with hotwords of its own, in a thread.

        One thread at a time, so that many clients with many hotwords do not take the CPU from running streams.
        """
        check_hotwords(request.hotwords or {})
        self._opening_sessions += 1
        try:
            async with self._compiling:
                stream = await anyio.to_thread.run_sync(self._open_stream, request)
        finally:
            self._opening_sessions -= 1
            self._notify_all_closed()
        if self.draining:
            stream.close()
            raise SessionError("shutting_down", SHUTTING_DOWN, CloseCode.GOING_AWAY)
        return stream

    async def resume(self, key: str, events: int | None) -> Session:
        """Attach the session of a lost connection to a new one, and queue the missing events. Use it inside `manage`.

        Args:
            key: key of the session.
            events: number of events that the client has received; None for all events sent.

        Raises:
            SessionError: the session does not exist any more, or missing events are no longer kept.
        """
        session = self._sessions.get(key)
        if session is None:
            raise self._unknown_session()
        await session.attach()
        if self._sessions.get(key) is not session:  # the session ended while its old connection was closed
            session.detach()
            raise self._unknown_session()
        if expiry := self._expiries.pop(key, None):
            expiry.cancel()
        session.resumes += 1
        try:
            session.outbox.rewind(events)
        except LookupError as error:
            self._remove(session, "bad_resume")
            raise SessionError("bad_resume", str(error)) from None
        self._metrics.resumed.inc()
        return session

    def _unknown_session(self) -> SessionError:
        window_s = self._settings.resume_window_s
        return SessionError(
            "unknown_session", f"unknown session; a session is kept for {window_s:g} s after its connection was lost"
        )

    # --- closing ------------------------------------------------------------------------------------------

    @contextmanager
    def manage(self, session: Session, *, resumable: bool = False) -> Iterator[None]:
        """Manage a session while a connection uses it: close or detach the session at the end of the block.

        Args:
            session: from `open` or `resume`.
            resumable: keep the session for the resume window unless the client closes its connection with code 1000.
        """
        try:
            yield
        except TakenOverError:
            session.detach()
            raise
        except WebSocketDisconnect as disconnect:
            if resumable and disconnect.code != CloseCode.NORMAL and not self.draining:
                session.detach()
                self._schedule_removal(session, "lost")
            else:
                self._remove(session, "client_left")
            raise
        except SessionError as error:
            self._remove(session, error.code)
            raise
        except BaseException:
            self._remove(session, "internal")
            raise
        else:
            self._close(session, "done")
            session.detach()
            if resumable:  # the last events may be lost on their way to the client
                self._schedule_removal(session, "done")
            else:
                self._remove(session, "done")

    def _schedule_removal(self, session: Session, ended_by: str) -> None:
        loop = asyncio.get_running_loop()
        self._expiries[session.key] = loop.call_later(self._settings.resume_window_s, self._remove, session, ended_by)

    def _remove(self, session: Session, ended_by: str) -> None:
        self._close(session, ended_by)
        session.detach()
        self._sessions.pop(session.key, None)
        if expiry := self._expiries.pop(session.key, None):
            expiry.cancel()

    def _close(self, session: Session, ended_by: str) -> None:
        if session.ended_by is not None:
            return
        session.close(ended_by)
        counts = session.stream.counts
        self._metrics.closed.labels(session.request.protocol, ended_by).inc()
        self._metrics.previews_skipped.inc(counts.previews_skipped)
        coalesced = session.outbox.coalesced + session.stream.partials_coalesced
        self._metrics.partials_coalesced.inc(coalesced)
        _log.info(
            "session",
            extra={
                "session": session.key[:_LOGGED_KEY_CHARACTERS],
                "protocol": session.request.protocol,
                "ended_by": ended_by,
                "wall_s": round(time.monotonic() - session.started_s, 3),
                "audio_s": round(session.received_s, 3),
                "sample_rate": session.audio_format.sample_rate,
                "encoding": session.audio_format.encoding,
                "channels": session.audio_format.channels,
                "hotwords": len(session.request.hotwords or ()),
                "finals": session.finals,
                "words": session.words,
                "events_sent": session.outbox.sent,
                "partials_coalesced": coalesced,
                "previews_skipped": counts.previews_skipped,
                "dropped_samples": counts.dropped,
                "resumes": session.resumes,
            },
        )
        self._notify_all_closed()

    def _notify_all_closed(self) -> None:
        if not self._taken_count:
            self._all_closed.set()

    async def drain(self) -> None:
        """Shut down: refuse new sessions, send the last finals within the grace period, then interrupt the rest."""
        self.draining = True
        error = SessionError("shutting_down", SHUTTING_DOWN, CloseCode.GOING_AWAY)
        for session in list(self._sessions.values()):
            if session.attached and session.ended_by is None:
                session.finish_with_error(error)
            elif not session.attached:
                self._remove(session, error.code)
        for timeout_s in (self._settings.grace_s, self._settings.close_timeout_s):
            self._all_closed.clear()
            if not self._taken_count:
                return
            with anyio.move_on_after(timeout_s):
                await self._all_closed.wait()
                return
            for session in self._sessions.values():
                session.interrupt(error)
