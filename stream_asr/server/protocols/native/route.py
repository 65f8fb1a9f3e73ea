"""The native protocol's socket, ``/v1/stream``."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import Response

from stream_asr.config import SAMPLE_RATE
from stream_asr.server.connection import Socket, accept, converse
from stream_asr.server.errors import IdleError, SessionError
from stream_asr.server.protocols.native import codec as native
from stream_asr.server.responses import deny, refusal
from stream_asr.server.service import Service
from stream_asr.server.sessions.request import AudioFormat, Received, Request
from stream_asr.server.sessions.session import Session

router = APIRouter()

_ACK_EVERY_S = 0.5


@router.get("/v1/stream")
async def knock(connection: HTTPConnection) -> Response:
    """Whether a session could begin: 204, or why not. Browsers do not tell a page why its websocket was refused."""
    if reason := Service.of(connection).sessions.refusal():
        return refusal(503, "too_many_sessions", reason)
    return Response(status_code=204)


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    service = Service.of(websocket)
    if reason := service.sessions.refusal(may_resume=True):
        await deny(websocket, refusal(503, "too_many_sessions", reason))
        return
    socket = Socket(websocket, service.settings, service.metrics)
    async with socket.errors_told(lambda error: native.encode(native.Error(error.code, error.message))):
        with service.sessions.newcomer():
            await accept(websocket)
            first = await socket.receive(service.settings.start_timeout_s)
        session = await _session(service, first)
        with service.sessions.connection(session, resumable=True):
            ready = native.Ready(session.key, service.recognizer.model.name, SAMPLE_RATE)
            if session.resumes:
                ready = replace(ready, received=session.received, events=session.outbox.sent)
            await socket.send(native.encode(ready))
            await converse(session, _hear(socket, session, service.settings.idle_timeout_s), _tell(socket, session))
            done = native.Done(session.received, round(session.seconds, 3), session.trailing_bytes or None)
            await socket.send(native.encode(done))
        await socket.close()


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
            Request("native", audio, message.partials, message.words, endpoint_ms=message.endpoint_ms)
        )
    raise SessionError("not_started", f"{message.type} before start; the first message is start or resume")


async def _hear(socket: Socket, session: Session, idle_timeout_s: float) -> None:
    while True:
        try:
            message = await socket.receive(None if session.finished else idle_timeout_s)
        except IdleError as idle:
            session.conclude(idle)
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


async def _tell(socket: Socket, session: Session) -> None:
    async for event in session.events(_ACK_EVERY_S):
        if isinstance(event, Received):
            await socket.send(native.encode(native.Ack(event.samples)))
        else:
            await socket.send(native.encode_event(event, words=session.request.words))
