"""OpenAI's Realtime API at ``/v1/realtime``: transcription sessions."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, WebSocket

from stream_asr.server.connection import Socket, accept, converse, introduction
from stream_asr.server.errors import IdleError, SessionError
from stream_asr.server.protocols.openai.audio_route import refusal
from stream_asr.server.protocols.openai.conversation import Conversation
from stream_asr.server.protocols.openai.realtime import Append, Clear, ClientEvent, Commit, EventError, decode
from stream_asr.server.responses import deny
from stream_asr.server.service import Service
from stream_asr.server.sessions.request import AudioFormat, Received, Request
from stream_asr.server.sessions.session import Session

router = APIRouter()

_MAX_MISTAKES = 100
"""Clients may go on after a mistake, but not for ever."""


@router.websocket("/v1/realtime")
async def realtime(websocket: WebSocket) -> None:
    service = Service.of(websocket)
    intent = websocket.query_params.get("intent", "transcription")
    if intent != "transcription":
        message = f"intent is {intent[:40]!r}; this server has transcription sessions only: ?intent=transcription"
        await deny(websocket, refusal(400, "invalid_value", message))
        return
    if reason := service.sessions.refusal():
        await deny(websocket, refusal(503, "too_many_sessions", reason))
        return
    recognizer, socket = service.recognizer, Socket(websocket, service.settings, service.metrics)
    beta = "realtime=v1" in websocket.headers.get("openai-beta", "")
    name = secrets.token_hex(8)
    conversation = Conversation(name, recognizer.model.name, recognizer.config.segmenter, beta=beta)
    hearing = _Hearing(socket, conversation)
    async with socket.errors_told(conversation.failed):
        with service.sessions.newcomer():
            await accept(websocket)
            await socket.send(conversation.created())
            # The format and the endpoint may change until the first audio is there.
            with introduction(service.settings.idle_timeout_s):
                first = await hearing.event_for_stream(None)
        setup = conversation.setup
        audio = AudioFormat(setup.format.sample_rate, setup.format.encoding)
        session = service.sessions.open(Request("openai_realtime", audio, endpoint_ms=setup.endpoint_ms))
        with service.sessions.connection(session):
            hear = hearing.obey(session, first, service.settings.idle_timeout_s)
            await converse(session, hear, _tell(socket, session, conversation))


class _Hearing:
    """The client's half of a conversation."""

    def __init__(self, socket: Socket, conversation: Conversation) -> None:
        self._socket, self._conversation = socket, conversation
        self._mistakes = 0

    async def obey(self, session: Session, first: ClientEvent, idle_timeout_s: float) -> None:
        """Feed ``session`` with all that comes."""
        event = first
        while True:
            if isinstance(event, Append):
                await session.feed(event.audio)
            elif isinstance(event, Commit | Clear):
                await session.flush()
                await session.mark(self._conversation.cut(event, session.stream.received_s))
            try:
                event = await self.event_for_stream(None if session.finished else idle_timeout_s)
            except IdleError as idle:
                session.conclude(idle)
                return

    async def event_for_stream(self, timeout_s: float | None) -> ClientEvent:
        """The next event that the conversation cannot answer by itself. Mistakes are answered, too."""
        while True:
            message = await self._socket.receive(timeout_s)
            try:
                event = decode(message)
                answer = self._conversation.heard(event)
            except EventError as mistake:
                self._mistakes += 1
                if self._mistakes > _MAX_MISTAKES:
                    raise SessionError("too_many_mistakes", f"more than {_MAX_MISTAKES} events made no sense") from None
                answer = self._conversation.failed(mistake)
            if answer is None:
                return event
            await self._socket.send(answer)


async def _tell(socket: Socket, session: Session, conversation: Conversation) -> None:
    async for event in session.events():
        if not isinstance(event, Received):
            for message in conversation.react(event):
                await socket.send(message)
