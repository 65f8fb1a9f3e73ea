"""The native protocol's connection, ``/v1/stream``."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import Response

from stream_asr.config import SAMPLE_RATE
from stream_asr.server.connection import WebSocketConnection, accept, run_session
from stream_asr.server.errors import IdleTimeoutError, SessionError
from stream_asr.server.protocols.native import codec as native
from stream_asr.server.responses import deny, error_response
from stream_asr.server.service import Service
from stream_asr.server.sessions.request import AudioFormat, SamplesReceived, SessionRequest
from stream_asr.server.sessions.session import Session

router = APIRouter()

_ACK_EVERY_S = 0.5


@router.get("/v1/stream")
async def availability(connection: HTTPConnection) -> Response:
    """Whether a session could begin: 204, or why not. Browsers do not tell a page why its websocket was refused."""
    if reason := Service.from_connection(connection).sessions.unavailable_reason():
        return error_response(503, "too_many_sessions", reason)
    return Response(status_code=204)


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    service = Service.from_connection(websocket)
    if reason := service.sessions.unavailable_reason(may_resume=True):
        await deny(websocket, error_response(503, "too_many_sessions", reason))
        return
    connection = WebSocketConnection(websocket, service.settings, service.metrics)
    async with connection.report_errors(lambda error: native.encode(native.Error(error.code, error.message))):
        with service.sessions.pending_connection():
            await accept(websocket)
            first = await connection.receive(service.settings.start_timeout_s)
        session = await _session(service, first)
        with service.sessions.manage(session, resumable=True):
            ready = native.Ready(session.key, service.recognizer.model.name, SAMPLE_RATE)
            if session.resumes:
                ready = replace(ready, received=session.received_samples, events=session.outbox.sent)
            await connection.send(native.encode(ready))
            await run_session(
                session, _hear(connection, session, service.settings.idle_timeout_s), _tell(connection, session)
            )
            done = native.Done(session.received_samples, round(session.received_s, 3), session.trailing_bytes or None)
            await connection.send(native.encode(done))
        await connection.close()


async def _session(service: Service, first: str | bytes) -> Session:
    """The session that a client begins or goes on with."""
    if isinstance(first, bytes):
        raise SessionError("audio_before_start", "audio before start; the first message is start or resume, as text")
    message = native.decode(first)
    if isinstance(message, native.Resume):
        return await service.sessions.resume(message.session, message.events)
    if isinstance(message, native.Start):
        audio = AudioFormat(message.sample_rate, message.encoding, message.channels)
        return service.sessions.open(
            SessionRequest("native", audio, message.partials, message.words, endpoint_ms=message.endpoint_ms)
        )
    raise SessionError("not_started", f"{message.type} before start; the first message is start or resume")


async def _hear(connection: WebSocketConnection, session: Session, idle_timeout_s: float) -> None:
    while True:
        try:
            message = await connection.receive(None if session.finished else idle_timeout_s)
        except IdleTimeoutError as idle:
            session.finish_with_error(idle)
            return
        if isinstance(message, bytes):
            await session.feed(message)
        else:
            await _obey(session, native.decode(message))


async def _obey(session: Session, message: native.ClientMessage) -> None:
    if isinstance(message, native.Flush):
        await session.flush()
    elif isinstance(message, native.Ping):
        await session.mark(message.id)
    elif isinstance(message, native.Finish):
        session.finish()
    else:
        raise SessionError("started_already", f"{message.type} on a connection that has a session already")


async def _tell(connection: WebSocketConnection, session: Session) -> None:
    async for event in session.events(_ACK_EVERY_S):
        if isinstance(event, SamplesReceived):
            await connection.send(native.encode(native.Ack(event.samples)))
        else:
            await connection.send(native.encode_event(event, words=session.request.words))
