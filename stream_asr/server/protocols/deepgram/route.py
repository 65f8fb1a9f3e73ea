"""Routes of Deepgram's interface, ``/v1/listen``: a websocket for live audio, HTTP for recordings."""

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
    open_upload,
    read_body,
    recognize_upload,
    send_response,
    spool_upload,
    too_big_error,
    upload_format,
)
from stream_asr.server.protocols.deepgram.client_codec import Control, Query, decode, parse_query
from stream_asr.server.protocols.deepgram.server_codec import (
    RequestInfo,
    ResultEncoder,
    encode_error,
    error_body,
    recording_response,
)
from stream_asr.server.responses import HandlerResponse, deny
from stream_asr.server.service import Service
from stream_asr.server.sessions.outbox import MarkReached, SamplesReceived
from stream_asr.server.sessions.request import SessionRequest
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import DEEPGRAM_MARK_INTERVAL_S, DEEPGRAM_MAX_PENDING_MARKS

router = APIRouter()

EXPOSED_HEADERS = ("dg-request-id", "dg-error")
"""Response headers that web pages may read."""


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """Build an HTTP error response in Deepgram's format.

    Its headers repeat the error for clients that cannot read the body of a refused handshake.
    """
    request_id = str(uuid.uuid4())
    error_headers = {"dg-request-id": request_id, "dg-error": message.encode("ascii", "replace").decode()}
    content = error_body(status, code, message, request_id)
    return JSONResponse(content, status, {**(headers or {}), **error_headers})


def _report_error(service: Service, error: SessionError) -> Response:
    service.metrics.errors.labels(error.code).inc()
    return error_response(error.http_status, error.code, error.message)


def _make_request_info(service: Service) -> RequestInfo:
    created = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    recognizer = service.recognizer
    two_pass = recognizer.second_pass is not None
    return RequestInfo(str(uuid.uuid4()), created, recognizer.model.name, stream_asr.__version__, two_pass)


# --- live audio -----------------------------------------------------------------------------------------------


@router.websocket("/v1/listen")
async def listen(websocket: WebSocket) -> None:
    """Run one connection with live audio: raw samples, or a container."""
    service = Service.from_connection(websocket)
    try:
        query = parse_query(websocket.query_params.multi_items(), live=True)
        if query.raw_format is None:
            require_decoder()
        audio_format, endpoint_ms = query.raw_format or DECODED_FORMAT, _endpoint_ms(service, query)
        session = await service.sessions.open(
            SessionRequest("deepgram", audio_format, endpoint_ms=endpoint_ms, hotwords=_hotwords(service, query))
        )
    except SessionError as error:
        await deny(websocket, _report_error(service, error))
        return
    connection = WebSocketConnection(websocket, service.settings, service.metrics)
    request_info, idle_timeout_s = _make_request_info(service), service.settings.idle_timeout_s
    async with connection.report_errors(encode_error):
        with service.sessions.manage(session):
            await accept(websocket, [(b"dg-request-id", request_info.request_id.encode())])
            if query.raw_format is not None:
                raw_client = _RawClient(connection, session, query, request_info)
                await run_session(session, raw_client.receive(idle_timeout_s), raw_client.send())
            else:
                max_bytes = service.settings.max_upload_bytes
                client = _ContainerClient(connection, session, query, request_info, max_bytes)
                await run_session(session, client.receive(idle_timeout_s), client.send(), client.decode_audio())
        await connection.close()


def _endpoint_ms(service: Service, query: Query) -> int | None:
    """Raise the requested silence to the minimum: Deepgram's default, 10 ms, must not be an error."""
    if query.endpoint_ms is None:
        return None
    shortest_ms, _ = service.recognizer.config.segmenter.endpoint_range_ms
    return max(shortest_ms, query.endpoint_ms)


def _hotwords(service: Service, query: Query) -> dict[str, float] | None:
    """Reduce the requested intensifiers to the largest weight. Deepgram documents no maximum."""
    if query.hotwords is None:
        return None
    max_weight = service.recognizer.config.beam.max_hotword_weight
    return {phrase: min(weight, max_weight) for phrase, weight in query.hotwords.items()}


class _RawClient:
    """The two halves of a connection with raw audio."""

    def __init__(
        self, connection: WebSocketConnection, session: Session, query: Query, request_info: RequestInfo
    ) -> None:
        self._connection, self._session, self._query = connection, session, query
        self._results = ResultEncoder(query, request_info)
        self._digest = hashlib.sha256()
        self._pending_marks = 0
        self._last_mark_s = 0.0

    async def receive(self, idle_timeout_s: float) -> None:
        """Handle all messages, up to the end of the audio."""
        control = Control.KEEP_ALIVE
        while control is not Control.CLOSE_STREAM:
            try:
                message = await self._connection.receive(idle_timeout_s)
            except IdleTimeoutError as error:
                await self._wait_fed()
                self._session.finish_with_error(error)
                return
            if isinstance(message, str):
                control = decode(message)
                await self._handle_control(control)
            elif message:
                self._digest.update(message)
                await self._handle_audio(message)
            else:  # older clients end the stream with an empty message
                control = Control.CLOSE_STREAM
        self._finish_audio()

    async def _handle_audio(self, data: bytes) -> None:
        await self._feed(data)

    async def _wait_fed(self) -> None:
        """Wait until all received audio has been fed to the session."""

    def _finish_audio(self) -> None:
        self._session.finish()

    async def _feed(self, audio: bytes) -> None:
        await self._session.feed(audio)
        position_s = self._session.received_s
        is_due = position_s >= self._last_mark_s + DEEPGRAM_MARK_INTERVAL_S
        if self._query.utterance_end_ms and is_due and self._pending_marks < DEEPGRAM_MAX_PENDING_MARKS:
            self._pending_marks, self._last_mark_s = self._pending_marks + 1, position_s
            await self._session.mark(int(1000 * position_s))

    async def _handle_control(self, control: Control) -> None:
        if control is Control.FINALIZE:
            await self._wait_fed()
            self._results.expect_finalize()
            await self._session.flush()
        if control in (Control.FINALIZE, Control.CONFIGURE):
            await self._session.mark(control.value)

    async def send(self) -> None:
        """Send the results, and at the end the metadata."""
        try:
            async for event in self._session.events():
                if isinstance(event, SamplesReceived):
                    continue
                if isinstance(event, MarkReached) and isinstance(event.tag, int):
                    self._pending_marks -= 1
                await self._send_all(self._results.on_event(event))
        except SessionError:
            await self._send_all(self._results.flush())
            raise
        await self._send_all(self._results.flush())
        session = self._session
        await self._connection.send(
            self._results.encode_metadata(self._digest.hexdigest(), session.received_s, session.audio_format.channels)
        )

    async def _send_all(self, messages: list[str]) -> None:
        for message in messages:
            await self._connection.send(message)


class _ContainerClient(_RawClient):
    """The halves of a connection with a container, which a thread decodes."""

    def __init__(
        self,
        connection: WebSocketConnection,
        session: Session,
        query: Query,
        request_info: RequestInfo,
        max_bytes: int,
    ) -> None:
        super().__init__(connection, session, query, request_info)
        self._pipe, self._remaining_bytes, self._max_bytes = ContainerPipe(), max_bytes, max_bytes

    async def decode_audio(self) -> None:
        """Decode what `receive` writes to the pipe, and feed the session."""
        # Not a thread of the shared pool: it would be occupied for as long as the client is connected.
        limiter = anyio.CapacityLimiter(1)
        try:
            with closing(decode_container(self._pipe)) as blocks:
                await feed_blocks(self._session, blocks, self._feed, unblock=self._pipe.write_eof, limiter=limiter)
        finally:
            self._pipe.close()

    async def _handle_audio(self, data: bytes) -> None:
        self._remaining_bytes -= len(data)
        if self._remaining_bytes < 0:
            await self._wait_fed()
            error = too_big_error("stream", f"more than {self._max_bytes} bytes", self._max_bytes)
            self._session.finish_with_error(error)
        else:
            await self._pipe.write(data)

    async def _wait_fed(self) -> None:
        await self._pipe.wait_consumed()

    def _finish_audio(self) -> None:
        self._pipe.write_eof()


# --- recordings -----------------------------------------------------------------------------------------------


@router.post("/v1/listen")
async def transcribe() -> Response:
    """Transcribe the recording in the body of the request."""
    return HandlerResponse(_transcribe)


async def _transcribe(request: Request, send: Send) -> None:
    service = Service.from_connection(request)

    async def on_error(error: SessionError) -> Response:
        return _report_error(service, error)

    await send_response(request, send, lambda: _recognize_recording(service, request), on_error)


async def _recognize_recording(service: Service, request: Request) -> Response:
    query = parse_query(request.query_params.multi_items(), live=False)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        raise SessionError("bad_query", "this server does not download from a url; send the recording as the body")
    if reason := service.sessions.unavailable_reason():
        raise SessionError("too_many_sessions", reason, CloseCode.TRY_AGAIN_LATER)
    hotwords = _hotwords(service, query)
    request_info, digest, finals = _make_request_info(service), hashlib.sha256(), list[Final]()

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in read_body(request, service.settings):
            digest.update(chunk)
            yield chunk

    async def collect_finals(session: Session) -> None:
        async for event in session.events():
            if isinstance(event, Final) and event.text:
                finals.append(event)

    if query.raw_format is not None:
        session = await service.sessions.open(
            SessionRequest("deepgram", query.raw_format, partials=False, hotwords=hotwords)
        )
        with service.sessions.manage(session):
            await run_session(session, _feed_raw(session, chunks()), collect_finals(session))
    else:
        async with AsyncExitStack() as stack:
            with service.sessions.pending_connection():
                file = await open_upload(await stack.enter_async_context(spool_upload(chunks())), service.settings)
                stack.callback(file.close)
            session = await service.sessions.open(
                SessionRequest("deepgram", upload_format(file), partials=False, hotwords=hotwords)
            )
            with service.sessions.manage(session):
                await recognize_upload(session, file, request, collect_finals)
    metadata = request_info.metadata_object(digest.hexdigest(), session.received_s, session.audio_format.channels)
    content = recording_response(query, metadata, finals)
    return JSONResponse(content, headers={"dg-request-id": request_info.request_id})


async def _feed_raw(session: Session, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        await session.feed(chunk)
    session.finish()
