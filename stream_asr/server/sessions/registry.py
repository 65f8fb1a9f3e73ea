"""All sessions of a server: how many there may be, and what becomes of them when a connection ends."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from starlette.websockets import WebSocketDisconnect

from stream_asr.errors import InputError, StreamASRError
from stream_asr.recognizer import Recognizer
from stream_asr.server.errors import CloseCode, SessionError, TakenOverError
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.request import SessionRequest
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import ServerSettings

_log = logging.getLogger(__name__)

SHUTTING_DOWN = "the server is shutting down"
_SHOWN_OF_KEY = 8


class SessionRegistry:
    """The sessions that are open, and those that have ended but may still lack the client's thanks.

    Made and used inside one event loop.
    """

    def __init__(self, recognizer: Recognizer, settings: ServerSettings, metrics: Metrics) -> None:
        self._recognizer, self._settings, self._metrics = recognizer, settings, metrics
        self._sessions: dict[str, Session] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._pending_connections = 0
        self._all_closed = asyncio.Event()
        self.draining = False

    @property
    def open_count(self) -> int:
        """Sessions that hold a stream of the recognizer."""
        return sum(session.ended_by is None for session in self._sessions.values())

    @property
    def detached_count(self) -> int:
        """Open sessions that wait for their client to come back."""
        return sum(session.ended_by is None and not session.attached for session in self._sessions.values())

    # --- coming in ----------------------------------------------------------------------------------------

    def unavailable_reason(self, *, may_resume: bool = False) -> str | None:
        """Why a new connection cannot be served now; None when it can. For an answer before the upgrade.

        Args:
            may_resume: the connection may turn out to belong to one of the sessions that wait for theirs.
        """
        if self.draining:
            return SHUTTING_DOWN
        free = self._settings.max_sessions - self.open_count - self._pending_connections
        if may_resume:
            free += self.detached_count
        if free > 0:
            return None
        self._metrics.refused.inc()
        return f"all {self._settings.max_sessions} sessions are taken; try again later"

    @contextmanager
    def pending_connection(self) -> Iterator[None]:
        """Around the time in which a connection was let in but has not said yet what it wants."""
        self._pending_connections += 1
        try:
            yield
        finally:
            self._pending_connections -= 1

    def open(self, request: SessionRequest) -> Session:
        """Begin a session. Use it inside `connection`.

        Raises:
            SessionError: there is no room, or the format or the endpoint is not accepted.
        """
        if self.draining:
            raise SessionError("shutting_down", SHUTTING_DOWN, CloseCode.GOING_AWAY)
        if self.open_count >= self._settings.max_sessions:
            self._metrics.refused.inc()
            raise SessionError(
                "too_many_sessions",
                f"all {self._settings.max_sessions} sessions are taken; try again later",
                CloseCode.TRY_AGAIN_LATER,
            )
        audio = request.audio
        try:
            if request.endpoint_ms is not None:
                self._recognizer.config.segmenter.with_endpoint(request.endpoint_ms)
        except InputError as error:
            raise SessionError("bad_endpoint", str(error)) from None
        try:
            stream = self._recognizer.stream(
                audio.sample_rate,
                channels=audio.channels,
                encoding=audio.encoding,
                live=request.partials,
                endpoint_ms=request.endpoint_ms,
            )
        except InputError as error:
            raise SessionError("bad_audio_format", str(error)) from None
        except StreamASRError as error:
            raise SessionError("internal", str(error), CloseCode.INTERNAL_ERROR) from None
        session = Session(secrets.token_urlsafe(16), request, stream, self._settings, self._metrics)
        self._sessions[session.key] = session
        self._metrics.opened.labels(request.protocol).inc()
        return session

    async def resume(self, key: str, events: int | None) -> Session:
        """Find the session of a client that lost its connection, and make it ready for the new one.

        Args:
            events: how many of its events have arrived; None for all that were sent.

        Raises:
            SessionError: it is not there any more, or what the client lacks is not.
        """
        session = self._sessions.get(key)
        if session is None:
            raise self._unknown()
        await session.attach()
        if self._sessions.get(key) is not session:  # it ended while its old connection gave it up
            session.detach()
            raise self._unknown()
        if expiry := self._expiries.pop(key, None):
            expiry.cancel()
        session.resumes += 1
        try:
            session.outbox.rewind(events)
        except LookupError as error:
            self._end(session, "bad_resume")
            raise SessionError("bad_resume", str(error)) from None
        self._metrics.resumed.inc()
        return session

    def _unknown(self) -> SessionError:
        window_s = self._settings.resume_window_s
        return SessionError(
            "unknown_session", f"no such session; sessions are kept for {window_s:g} s after their connection was lost"
        )

    # --- going out ----------------------------------------------------------------------------------------

    @contextmanager
    def manage(self, session: Session, *, resumable: bool = False) -> Iterator[None]:
        """Around all that a connection does with a session; decides what becomes of it afterwards.

        Args:
            resumable: a client that vanishes may come back within the resume window.
        """
        try:
            yield
        except TakenOverError:
            session.detach()
            raise
        except WebSocketDisconnect as gone:
            if resumable and gone.code != CloseCode.NORMAL and not self.draining:
                session.detach()
                self._expire_later(session, "lost")
            else:
                self._end(session, "client_left")
            raise
        except SessionError as error:
            self._end(session, error.code)
            raise
        except BaseException:
            self._end(session, "internal")
            raise
        else:
            self._close(session, "done")
            session.detach()
            if resumable:  # the last events may be lost on the way
                self._expire_later(session, "done")
            else:
                self._end(session, "done")

    def _expire_later(self, session: Session, ended_by: str) -> None:
        loop = asyncio.get_running_loop()
        self._expiries[session.key] = loop.call_later(self._settings.resume_window_s, self._end, session, ended_by)

    def _end(self, session: Session, ended_by: str) -> None:
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
                "session": session.key[:_SHOWN_OF_KEY],
                "protocol": session.request.protocol,
                "ended_by": ended_by,
                "wall_s": round(time.monotonic() - session.started_s, 3),
                "audio_s": round(session.received_s, 3),
                "sample_rate": session.audio_format.sample_rate,
                "encoding": session.audio_format.encoding,
                "channels": session.audio_format.channels,
                "finals": session.finals,
                "words": session.words,
                "events_sent": session.outbox.sent,
                "partials_coalesced": coalesced,
                "previews_skipped": counts.previews_skipped,
                "dropped_samples": counts.dropped,
                "resumes": session.resumes,
            },
        )
        if not self.open_count:
            self._all_closed.set()

    async def drain(self) -> None:
        """Let nobody in, give everybody the last finals, within the grace period; then send away who is left."""
        self.draining = True
        reason = SessionError("shutting_down", SHUTTING_DOWN, CloseCode.GOING_AWAY)
        for session in list(self._sessions.values()):
            if session.attached and session.ended_by is None:
                session.finish_with_error(reason)
            elif not session.attached:
                self._end(session, reason.code)
        for time_s in (self._settings.grace_s, self._settings.close_timeout_s):
            self._all_closed.clear()
            if not self.open_count:
                return
            with anyio.move_on_after(time_s):
                await self._all_closed.wait()
                return
            for session in self._sessions.values():
                session.interrupt(reason)
