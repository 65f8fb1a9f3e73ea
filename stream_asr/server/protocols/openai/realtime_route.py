"""Route of OpenAI's Realtime API, ``/v1/realtime``: transcription sessions."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, WebSocket

from stream_asr.server.connection import WebSocketConnection, accept, run_session, setup_timeout
from stream_asr.server.errors import IdleTimeoutError, SessionError
from stream_asr.server.protocols.openai.realtime_client_codec import (
    Append,
    Clear,
    ClientEvent,
    Commit,
    EventError,
    decode,
)
from stream_asr.server.protocols.openai.realtime_server_codec import Conversation
from stream_asr.server.protocols.openai.transcription_route import error_response
from stream_asr.server.responses import deny
from stream_asr.server.service import Service
from stream_asr.server.sessions.outbox import SamplesReceived
from stream_asr.server.sessions.request import AudioFormat, SessionRequest
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import REALTIME_MAX_CLIENT_ERRORS

router = APIRouter()


@router.websocket("/v1/realtime")
async def realtime(websocket: WebSocket) -> None:
    """Run one transcription session."""
    service = Service.from_connection(websocket)
    intent = websocket.query_params.get("intent", "transcription")
    if intent != "transcription":
        message = f"intent is {intent[:40]!r}; this server has transcription sessions only: ?intent=transcription"
        await deny(websocket, error_response(400, "invalid_value", message))
        return
    if reason := service.sessions.unavailable_reason():
        await deny(websocket, error_response(503, "too_many_sessions", reason))
        return
    recognizer, idle_timeout_s = service.recognizer, service.settings.idle_timeout_s
    connection = WebSocketConnection(websocket, service.settings, service.metrics)
    beta = "realtime=v1" in websocket.headers.get("openai-beta", "")
    name = secrets.token_hex(8)
    conversation = Conversation(name, recognizer.model.name, recognizer.config.segmenter, beta=beta)
    client = _RealtimeClient(connection, conversation)
    async with connection.report_errors(conversation.encode_error):
        with service.sessions.pending_connection():
            await accept(websocket)
            await connection.send(conversation.encode_created())
            # Settings may change until the first audio, so there is no session before it.
            with setup_timeout(idle_timeout_s):
                first_event = await client.next_stream_event(None)
        settings = conversation.settings
        audio_format = AudioFormat(settings.format.sample_rate, settings.format.encoding)
        request = SessionRequest("openai_realtime", audio_format, endpoint_ms=settings.endpoint_ms)
        session = await service.sessions.open(request)
        with service.sessions.manage(session):
            await run_session(session, client.receive(session, first_event, idle_timeout_s), client.send(session))


class _RealtimeClient:
    """The two halves of a connection."""

    def __init__(self, connection: WebSocketConnection, conversation: Conversation) -> None:
        self._connection, self._conversation = connection, conversation
        self._error_count = 0

    async def receive(self, session: Session, event: ClientEvent, idle_timeout_s: float) -> None:
        """Handle ``event`` and all later ones; runs until it is cancelled or the client is idle."""
        while True:
            if isinstance(event, Append):
                await session.feed(event.audio)
            elif isinstance(event, Commit | Clear):
                await session.flush()
                await session.mark(self._conversation.add_boundary(event, session.stream.received_s))
            try:
                event = await self.next_stream_event(None if session.finished else idle_timeout_s)
            except IdleTimeoutError as error:
                session.finish_with_error(error)
                return

    async def next_stream_event(self, timeout_s: float | None) -> ClientEvent:
        """Return the next event that concerns the stream; answer invalid events and all others."""
        while True:
            message = await self._connection.receive(timeout_s)
            try:
                event = decode(message)
                answer = self._conversation.on_client_event(event)
            except EventError as error:
                self._error_count += 1
                if self._error_count > REALTIME_MAX_CLIENT_ERRORS:
                    reason = f"more than {REALTIME_MAX_CLIENT_ERRORS} invalid events"
                    raise SessionError("too_many_mistakes", reason) from None
                answer = self._conversation.encode_error(error)
            if answer is None:
                return event
            await self._connection.send(answer)

    async def send(self, session: Session) -> None:
        """Send the messages for all events of the session."""
        async for event in session.events():
            if not isinstance(event, SamplesReceived):
                for message in self._conversation.on_event(event):
                    await self._connection.send(message)
