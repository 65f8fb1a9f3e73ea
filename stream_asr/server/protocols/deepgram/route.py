"""Deepgram's ``/v1/listen``: a websocket for live audio, and plain HTTP for recordings."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from datetime import datetime, timezone

import anyio
from fastapi import APIRouter, WebSocket
from fastapi.responses import JSONResponse, Response
from starlette.requests import Request
from starlette.types import Send

import stream_asr
from stream_asr.events import Final
from stream_asr.server.connection import WebSocketConnection, accept, run_session
from stream_asr.server.errors import CloseCode, IdleTimeoutError, SessionError
from stream_asr.server.media.container_stream import DECODED_FORMAT, ContainerPipe, decode_container, require_decoder
from stream_asr.server.media.feed import feed_blocks
from stream_asr.server.media.upload import (
    body,
    open_upload,
    recognize_upload,
    send_response,
    spool_upload,
    too_big_error,
    upload_format,
)
from stream_asr.server.protocols.deepgram import client_codec as deepgram
from stream_asr.server.protocols.deepgram.client_codec import Control, Query
from stream_asr.server.protocols.deepgram.server_codec import Origin, Results, recording
from stream_asr.server.responses import HandlerResponse, deny
from stream_asr.server.service import Service
from stream_asr.server.sessions.outbox import MarkReached
from stream_asr.server.sessions.request import SamplesReceived, SessionRequest
from stream_asr.server.sessions.session import Session

router = APIRouter()

EXPOSED_HEADERS = ("dg-request-id", "dg-error")
"""Of responses, for web pages to read."""

_MARK_EVERY_S = 0.1
_MAX_MARKS = 16
"""Positions under way for ``utterance_end_ms``; more would not make it any more exact."""


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An HTTP response in the words of this interface. The headers are for clients that cannot see the body."""
    request_id = str(uuid.uuid4())
    seen = {"dg-request-id": request_id, "dg-error": message.encode("ascii", "replace").decode()}
    return JSONResponse(deepgram.error_body(status, code, message, request_id), status, {**(headers or {}), **seen})


def _refused(service: Service, error: SessionError) -> Response:
    service.metrics.errors.labels(error.code).inc()
    return error_response(error.http_status, error.code, error.message)


def _origin(service: Service) -> Origin:
    created = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Origin(str(uuid.uuid4()), created, service.recognizer.model.name, stream_asr.__version__)


# --- live -----------------------------------------------------------------------------------------------------


@router.websocket("/v1/listen")
async def listen(websocket: WebSocket) -> None:
    service = Service.from_connection(websocket)
    try:
        query = deepgram.parse(websocket.query_params.multi_items(), live=True)
        if query.raw is None:
            require_decoder()
        audio, endpoint_ms = query.raw or DECODED_FORMAT, _endpoint_ms(service, query)
        session = service.sessions.open(SessionRequest("deepgram", audio, endpoint_ms=endpoint_ms))
    except SessionError as error:
        await deny(websocket, _refused(service, error))
        return
    connection, origin = WebSocketConnection(websocket, service.settings, service.metrics), _origin(service)
    async with connection.report_errors(deepgram.encode_error):
        with service.sessions.manage(session):
            await accept(websocket, [(b"dg-request-id", origin.request_id.encode())])
            if query.raw is not None:
                listener = _Listener(connection, session, query, origin)
                await run_session(session, listener.hear(service.settings.idle_timeout_s), listener.tell())
            else:
                unpacker = _Unpacker(connection, session, query, origin, service.settings.max_upload_bytes)
                hear = unpacker.hear(service.settings.idle_timeout_s)
                await run_session(session, hear, unpacker.tell(), unpacker.unpack())
        await connection.close()


def _endpoint_ms(service: Service, query: Query) -> int | None:
    """What the client asks for, or the least there is: 10, the default over there, is no mistake."""
    if query.endpoint_ms is None:
        return None
    shortest_ms, _ = service.recognizer.config.segmenter.endpoint_range_ms
    return max(shortest_ms, query.endpoint_ms)


class _Listener:
    """A connection with raw audio, which goes into the session as it comes."""

    def __init__(self, connection: WebSocketConnection, session: Session, query: Query, origin: Origin) -> None:
        self._connection, self._session, self._query = connection, session, query
        self._results = Results(query, origin)
        self._digest = hashlib.sha256()
        self._marks = 0
        self._marked_s = 0.0

    async def hear(self, idle_timeout_s: float) -> None:
        control = Control.KEEP_ALIVE
        while control is not Control.CLOSE_STREAM:
            try:
                message = await self._connection.receive(idle_timeout_s)
            except IdleTimeoutError as idle:
                await self._settle()
                self._session.finish_with_error(idle)
                return
            if isinstance(message, str):
                control = deepgram.decode(message)
                await self._obey(control)
            elif message:
                self._digest.update(message)
                await self._receive(message)
            else:  # how a stream was ended before there was a message for it
                control = Control.CLOSE_STREAM
        self._end()

    async def _receive(self, data: bytes) -> None:
        await self._feed(data)

    async def _settle(self) -> None:
        """Wait until the session has all audio that came."""

    def _end(self) -> None:
        self._session.finish()

    async def _feed(self, audio: bytes) -> None:
        await self._session.feed(audio)
        position_s = self._session.received_s
        if self._query.utterance_end_ms and position_s >= self._marked_s + _MARK_EVERY_S and self._marks < _MAX_MARKS:
            self._marks, self._marked_s = self._marks + 1, position_s
            await self._session.mark(int(1000 * position_s))

    async def _obey(self, control: Control) -> None:
        if control is Control.FINALIZE:
            await self._settle()
            self._results.finalizing()
            await self._session.flush()
        if control in (Control.FINALIZE, Control.CONFIGURE):
            await self._session.mark(control.value)

    async def tell(self) -> None:
        try:
            async for event in self._session.events():
                if isinstance(event, SamplesReceived):
                    continue
                if isinstance(event, MarkReached) and isinstance(event.tag, int):
                    self._marks -= 1
                await self._send(self._results.hear(event))
        except SessionError:
            await self._send(self._results.end())
            raise
        await self._send(self._results.end())
        session = self._session
        await self._connection.send(
            self._results.metadata(self._digest.hexdigest(), session.received_s, session.audio_format.channels)
        )

    async def _send(self, messages: list[str]) -> None:
        for message in messages:
            await self._connection.send(message)


class _Unpacker(_Listener):
    """A connection with a container, which has to be decoded first."""

    def __init__(
        self, connection: WebSocketConnection, session: Session, query: Query, origin: Origin, max_bytes: int
    ) -> None:
        super().__init__(connection, session, query, origin)
        self._pipe, self._left_bytes, self._max_bytes = ContainerPipe(), max_bytes, max_bytes

    async def unpack(self) -> None:
        """Feed the session; beside `hear`."""
        # Its thread waits for the client most of the time; those that all share have better things to do.
        thread = anyio.CapacityLimiter(1)
        try:
            with closing(decode_container(self._pipe)) as blocks:
                await feed_blocks(self._session, blocks, self._feed, release=self._pipe.write_eof, limiter=thread)
        finally:
            self._pipe.close()

    async def _receive(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            await self._settle()
            self._session.finish_with_error(
                too_big_error("stream", f"more than {self._max_bytes} bytes", self._max_bytes)
            )
        else:
            await self._pipe.write(data)

    async def _settle(self) -> None:
        await self._pipe.wait_consumed()

    def _end(self) -> None:
        self._pipe.write_eof()


# --- recordings -----------------------------------------------------------------------------------------------


@router.post("/v1/listen")
async def transcribe() -> Response:
    return HandlerResponse(_transcribe)


async def _transcribe(request: Request, send: Send) -> None:
    service = Service.from_connection(request)

    async def fail(error: SessionError) -> Response:
        return _refused(service, error)

    await send_response(request, send, lambda: _answer(service, request), fail)


async def _answer(service: Service, request: Request) -> Response:
    query = deepgram.parse(request.query_params.multi_items(), live=False)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        raise SessionError("bad_query", "this server fetches nothing from a url; send the recording itself as the body")
    if reason := service.sessions.unavailable_reason():
        raise SessionError("too_many_sessions", reason, CloseCode.TRY_AGAIN_LATER)
    origin, digest, finals = _origin(service), hashlib.sha256(), list[Final]()

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in body(request, service.settings):
            digest.update(chunk)
            yield chunk

    async def tell(session: Session) -> None:
        async for event in session.events():
            if isinstance(event, Final) and event.text:
                finals.append(event)

    if query.raw is not None:
        session = service.sessions.open(SessionRequest("deepgram", query.raw, partials=False))
        with service.sessions.manage(session):
            await run_session(session, _feed(session, chunks()), tell(session))
    else:
        async with AsyncExitStack() as stack:
            with service.sessions.pending_connection():
                file = await open_upload(await stack.enter_async_context(spool_upload(chunks())), service.settings)
                stack.callback(file.close)
                session = service.sessions.open(SessionRequest("deepgram", upload_format(file), partials=False))
            with service.sessions.manage(session):
                await recognize_upload(session, file, request, tell)
    metadata = origin.metadata(digest.hexdigest(), session.received_s, session.audio_format.channels)
    return JSONResponse(recording(query, metadata, finals), headers={"dg-request-id": origin.request_id})


async def _feed(session: Session, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        await session.feed(chunk)
    session.finish()
