"""The socket of Vosk's protocol, ``/vosk``; and ``/``, because a Vosk server has no paths."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, WebSocket

from stream_asr.server.connection import Socket, accept, converse, introduction
from stream_asr.server.errors import IdleError, SessionError
from stream_asr.server.protocols.json_messages import refuse
from stream_asr.server.protocols.vosk import codec as vosk
from stream_asr.server.responses import deny, refusal
from stream_asr.server.service import Service
from stream_asr.server.sessions.outbox import Reached
from stream_asr.server.sessions.request import AudioFormat, Received, Request
from stream_asr.server.sessions.session import Session

router = APIRouter()
_log = logging.getLogger(__name__)

_MAX_OWED = 32
"""Replies under way to a client that does not wait for them; then it has to."""

_AUDIO = "audio"


@router.websocket("/")
@router.websocket("/vosk")
async def stream(websocket: WebSocket) -> None:
    service = Service.of(websocket)
    if reason := service.sessions.refusal():
        await deny(websocket, refusal(503, "too_many_sessions", reason))
        return
    socket, idle_timeout_s = Socket(websocket, service.settings, service.metrics), service.settings.idle_timeout_s
    async with socket.errors_told(lambda error: None):  # the protocol has no message for them: the close tells
        with service.sessions.newcomer():
            await accept(websocket)
            # It has longer than other clients for a first message: browsers connect before they ask for the microphone.
            with introduction(idle_timeout_s):
                options, first = await _introduction(socket)
        if options.ignored:
            _log.warning("vosk: ignored in config: %s (%d)", ", ".join(options.ignored), options.ignored_count)
        session = service.sessions.open(Request("vosk", AudioFormat(options.sample_rate), words=options.words))
        with service.sessions.connection(session):
            dialogue = _Dialogue(socket, session, options)
            await converse(session, dialogue.hear(first, idle_timeout_s), dialogue.tell())
        await socket.close()


async def _introduction(socket: Socket) -> tuple[vosk.Options, bytes | vosk.Command]:
    """What the client configures, and the first message after that."""
    options = vosk.Options()
    while True:
        message = await socket.receive(None)
        decoded = message if isinstance(message, bytes) else vosk.decode(message, options)
        if not isinstance(decoded, vosk.Options):
            return options, decoded
        options = decoded


class _Dialogue:
    """Every message but a config is owed one reply, in order: when all that it said has been recognised."""

    def __init__(self, socket: Socket, session: Session, options: vosk.Options) -> None:
        self._socket, self._session = socket, session
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
            except IdleError as idle:
                self._session.conclude(idle)
                return
        self._session.finish()

    async def _next(self, idle_timeout_s: float) -> bytes | vosk.Command:
        while True:
            message = await self._socket.receive(idle_timeout_s)
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
                if isinstance(event, Reached):
                    wanted = self._replies.to_audio if event.tag == _AUDIO else self._replies.result
                    await self._socket.send(wanted())
                    self._free.release()
                elif not isinstance(event, Received):
                    self._replies.hear(event)
        except SessionError:
            if self._replies.pending:
                await self._socket.send(self._replies.result())
            raise
        await self._socket.send(self._replies.result())
