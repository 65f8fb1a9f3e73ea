"""Routes of the native protocol, ``/v1/stream``."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import Response

from stream_asr.config import SAMPLE_RATE
from stream_asr.server.connection import WebSocketConnection, accept, run_session
from stream_asr.server.errors import IdleTimeoutError, SessionError
from stream_asr.server.protocols.native import codec
from stream_asr.server.responses import deny, error_response
from stream_asr.server.service import Service
from stream_asr.server.sessions.outbox import SamplesReceived
from stream_asr.server.sessions.request import AudioFormat, SessionRequest
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import NATIVE_ACK_INTERVAL_S

router = APIRouter()


@router.get("/v1/stream")
async def availability(connection: HTTPConnection) -> Response:
    """Report whether a session could start now: 204, or 503 with the reason.

    Browsers do not show a page why its websocket was refused.
    """
    if reason := Service.from_connection(connection).sessions.unavailable_reason():
        return error_response(503, "too_many_sessions", reason)
    return Response(status_code=204)


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Run one connection: a new session, or the continuation of one."""
    service = Service.from_connection(websocket)
    if reason := service.sessions.unavailable_reason(may_resume=True):
        await deny(websocket, error_response(503, "too_many_sessions", reason))
        return
    connection = WebSocketConnection(websocket, service.settings, service.metrics)
    async with connection.report_errors(lambda error: codec.encode(codec.Error(error.code, error.message))):
        with service.sessions.pending_connection():
            await accept(websocket)
            first_message = await connection.receive(service.settings.start_timeout_s)
        session = await _open_or_resume(service, first_message)
        with service.sessions.manage(session, resumable=True):
            recognizer = service.recognizer
            ready = codec.Ready(session.key, recognizer.model.name, SAMPLE_RATE, recognizer.second_pass_name)
            if session.resumes:
                ready = replace(ready, received=session.received_samples, events=session.outbox.sent)
            await connection.send(codec.encode(ready))
            receive = _receive(connection, session, service.settings.idle_timeout_s)
            await run_session(session, receive, _send(connection, session))
            done = codec.Done(session.received_samples, round(session.received_s, 3), session.trailing_bytes or None)
            await connection.send(codec.encode(done))
        await connection.close()


async def _open_or_resume(service: Service, first_message: str | bytes) -> Session:
    if isinstance(first_message, bytes):
        raise SessionError("audio_before_start", "audio before start; send start or resume first, as a text message")
    message = codec.decode(first_message)
    if isinstance(message, codec.Resume):
        return await service.sessions.resume(message.session, message.events)
    if isinstance(message, codec.Start):
        audio_format = AudioFormat(message.sample_rate, message.encoding, message.channels)
        return await service.sessions.open(
            SessionRequest(
                "native",
                audio_format,
                message.partials,
                message.words,
                endpoint_ms=message.endpoint_ms,
                hotwords=message.hotwords,
            )
        )
    raise SessionError("not_started", f"{message.type} before start; send start or resume first")


async def _receive(connection: WebSocketConnection, session: Session, idle_timeout_s: float) -> None:
    """Feed the session; runs until it is cancelled or the client is idle."""
    while True:
        try:
            message = await connection.receive(None if session.finished else idle_timeout_s)
        except IdleTimeoutError as error:
            session.finish_with_error(error)
            return
        if isinstance(message, bytes):
            await session.feed(message)
        else:
            await _handle_control(session, codec.decode(message))


async def _handle_control(session: Session, message: codec.ClientMessage) -> None:
    if isinstance(message, codec.Flush):
        await session.flush()
    elif isinstance(message, codec.Ping):
        await session.mark(message.id)
    elif isinstance(message, codec.Finish):
        session.finish()
    else:
        raise SessionError("started_already", f"{message.type} on a connection that already has a session")


async def _send(connection: WebSocketConnection, session: Session) -> None:
    """Send all events of the session."""
    async for event in session.events(NATIVE_ACK_INTERVAL_S):
        if isinstance(event, SamplesReceived):
            await connection.send(codec.encode(codec.Ack(event.samples)))
        else:
            await connection.send(codec.encode_event(event, words=session.request.words))
