"""The connection of Vosk's protocol, ``/vosk``; and ``/``, because a Vosk server has no paths."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, WebSocket

from stream_asr.server.connection import WebSocketConnection, accept, run_session, setup_timeout
from stream_asr.server.errors import IdleTimeoutError, SessionError
from stream_asr.server.protocols.json_messages import refuse
from stream_asr.server.protocols.vosk import codec as vosk
from stream_asr.server.responses import deny, error_response
from stream_asr.server.service import Service
from stream_asr.server.sessions.outbox import MarkReached
from stream_asr.server.sessions.request import AudioFormat, SamplesReceived, SessionRequest
from stream_asr.server.sessions.session import Session

router = APIRouter()
_log = logging.getLogger(__name__)

_MAX_OWED = 32
"""Replies under way to a client that does not wait for them; then it has to."""

_AUDIO = "audio"


@router.websocket("/")
@router.websocket("/vosk")
async def stream(websocket: WebSocket) -> None:
    service = Service.from_connection(websocket)
    if reason := service.sessions.unavailable_reason():
        await deny(websocket, error_response(503, "too_many_sessions", reason))
        return
    connection, idle_timeout_s = (
        WebSocketConnection(websocket, service.settings, service.metrics),
        service.settings.idle_timeout_s,
    )
    async with connection.report_errors(lambda error: None):  # the protocol has no message for them: the close tells
        with service.sessions.pending_connection():
            await accept(websocket)
            # It has longer than other clients for a first message: browsers connect before they ask for the microphone.
            with setup_timeout(idle_timeout_s):
                options, first = await _introduction(connection)
        if options.ignored:
            _log.warning("vosk: ignored in config: %s (%d)", ", ".join(options.ignored), options.ignored_count)
        session = service.sessions.open(SessionRequest("vosk", AudioFormat(options.sample_rate), words=options.words))
        with service.sessions.manage(session):
            dialogue = _Dialogue(connection, session, options)
            await run_session(session, dialogue.hear(first, idle_timeout_s), dialogue.tell())
        await connection.close()


async def _introduction(connection: WebSocketConnection) -> tuple[vosk.Options, bytes | vosk.Command]:
    """What the client configures, and the first message after that."""
    options = vosk.Options()
    while True:
        message = await connection.receive(None)
        decoded = message if isinstance(message, bytes) else vosk.decode(message, options)
        if not isinstance(decoded, vosk.Options):
            return options, decoded
        options = decoded


class _Dialogue:
    """Every message but a config is owed one reply, in order: when all that it said has been recognised."""

    def __init__(self, connection: WebSocketConnection, session: Session, options: vosk.Options) -> None:
        self._connection, self._session = connection, session
        self._replies = vosk.Replies(options)
        self._free = asyncio.Semaphore(_MAX_OWED)

    async def hear(self, message: bytes | vosk.Command, idle_timeout_s: float) -> None:
        """Take in ``message`` and all that follow, up to the end of the audio."""
        while message is not vosk.Command.EOF:
            if isinstance(message, bytes):
                await self._session.feed(message)
                await self._owe(_AUDIO)
            else:
                await self._session.flush()
                await self._owe(vosk.Command.RESET.value)
            try:
                message = await self._next(idle_timeout_s)
            except IdleTimeoutError as idle:
                self._session.finish_with_error(idle)
                return
        self._session.finish()

    async def _next(self, idle_timeout_s: float) -> bytes | vosk.Command:
        while True:
            message = await self._connection.receive(idle_timeout_s)
            options = self._replies.options
            decoded = message if isinstance(message, bytes) else vosk.decode(message, options)
            if not isinstance(decoded, vosk.Options):
                return decoded
            if decoded.sample_rate != options.sample_rate:
                refuse("the sample_rate cannot change once there was audio")
            self._replies.options = decoded

    async def _owe(self, tag: str) -> None:
        await self._free.acquire()
        await self._session.mark(tag)

    async def tell(self) -> None:
        try:
            async for event in self._session.events():
                if isinstance(event, MarkReached):
                    wanted = self._replies.to_audio if event.tag == _AUDIO else self._replies.result
                    await self._connection.send(wanted())
                    self._free.release()
                elif not isinstance(event, SamplesReceived):
                    self._replies.hear(event)
        except SessionError:
            if self._replies.pending:
                await self._connection.send(self._replies.result())
            raise
        await self._connection.send(self._replies.result())
