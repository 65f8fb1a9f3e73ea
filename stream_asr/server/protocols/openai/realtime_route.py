"""OpenAI's Realtime API at ``/v1/realtime``: transcription sessions."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, WebSocket

from stream_asr.server.connection import WebSocketConnection, accept, run_session, setup_timeout
from stream_asr.server.errors import IdleTimeoutError, SessionError
from stream_asr.server.protocols.openai.transcription_route import error_response
from stream_asr.server.protocols.openai.realtime_server_codec import Conversation
from stream_asr.server.protocols.openai.realtime_client_codec import Append, Clear, ClientEvent, Commit, EventError, decode
from stream_asr.server.responses import deny
from stream_asr.server.service import Service
from stream_asr.server.sessions.request import AudioFormat, SamplesReceived, SessionRequest
from stream_asr.server.sessions.session import Session

router = APIRouter()

_MAX_MISTAKES = 100
"""Clients may go on after a mistake, but not for ever."""


@router.websocket("/v1/realtime")
async def realtime(websocket: WebSocket) -> None:
    service = Service.from_connection(websocket)
    intent = websocket.query_params.get("intent", "transcription")
    if intent != "transcription":
        message = f"intent is {intent[:40]!r}; this server has transcription sessions only: ?intent=transcription"
        await deny(websocket, error_response(400, "invalid_value", message))
        return
    if reason := service.sessions.unavailable_reason():
        await deny(websocket, error_response(503, "too_many_sessions", reason))
        return
    recognizer, connection = service.recognizer, WebSocketConnection(websocket, service.settings, service.metrics)
    beta = "realtime=v1" in websocket.headers.get("openai-beta", "")
    name = secrets.token_hex(8)
    conversation = Conversation(name, recognizer.model.name, recognizer.config.segmenter, beta=beta)
    hearing = _Hearing(connection, conversation)
    async with connection.report_errors(conversation.failed):
        with service.sessions.pending_connection():
            await accept(websocket)
            await connection.send(conversation.created())
            # The format and the endpoint may change until the first audio is there.
            with setup_timeout(service.settings.idle_timeout_s):
                first = await hearing.event_for_stream(None)
        setup = conversation.setup
        audio = AudioFormat(setup.format.sample_rate, setup.format.encoding)
        session = service.sessions.open(SessionRequest("openai_realtime", audio, endpoint_ms=setup.endpoint_ms))
        with service.sessions.manage(session):
            hear = hearing.obey(session, first, service.settings.idle_timeout_s)
            await run_session(session, hear, _tell(connection, session, conversation))


class _Hearing:
    """The client's half of a conversation."""

    def __init__(self, connection: WebSocketConnection, conversation: Conversation) -> None:
        self._connection, self._conversation = connection, conversation
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
            except IdleTimeoutError as idle:
                session.finish_with_error(idle)
                return

    async def event_for_stream(self, timeout_s: float | None) -> ClientEvent:
        """The next event that the conversation cannot answer by itself. Mistakes are answered, too."""
        while True:
            message = await self._connection.receive(timeout_s)
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
            await self._connection.send(answer)


async def _tell(connection: WebSocketConnection, session: Session, conversation: Conversation) -> None:
    async for event in session.events():
        if not isinstance(event, SamplesReceived):
            for message in conversation.react(event):
                await connection.send(message)
