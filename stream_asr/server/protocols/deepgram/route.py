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
from stream_asr.server.connection import Socket, accept, converse
from stream_asr.server.errors import CloseCode, IdleError, SessionError
from stream_asr.server.media.container_stream import UNPACKED, Pipe, require_decoder, unpacked
from stream_asr.server.media.feed import feed_decoded
from stream_asr.server.media.upload import answering, body, format_of, on_disk, open_audio, recognise, too_big
from stream_asr.server.protocols.deepgram import codec as deepgram
from stream_asr.server.protocols.deepgram.codec import Control, Query
from stream_asr.server.protocols.deepgram.results import Origin, Results, recording
from stream_asr.server.responses import Conversing, deny
from stream_asr.server.service import Service
from stream_asr.server.sessions.outbox import Reached
from stream_asr.server.sessions.request import Received
from stream_asr.server.sessions.request import Request as SessionRequest
from stream_asr.server.sessions.session import Session

router = APIRouter()

EXPOSED_HEADERS = ("dg-request-id", "dg-error")
"""Of responses, for web pages to read."""

_MARK_EVERY_S = 0.1
_MAX_MARKS = 16
"""Positions under way for ``utterance_end_ms``; more would not make it any more exact."""


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An HTTP response in the words of this interface. The headers are for clients that cannot see the body."""
    request_id = str(uuid.uuid4())
    seen = {"dg-request-id": request_id, "dg-error": message.encode("ascii", "replace").decode()}
    return JSONResponse(deepgram.error_body(status, code, message, request_id), status, {**(headers or {}), **seen})


def _refused(service: Service, error: SessionError) -> Response:
    service.metrics.errors.labels(error.code).inc()
    return refusal(error.http_status, error.code, error.message)


def _origin(service: Service) -> Origin:
    created = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Origin(str(uuid.uuid4()), created, service.recognizer.model.name, stream_asr.__version__)


# --- live -----------------------------------------------------------------------------------------------------


@router.websocket("/v1/listen")
async def listen(websocket: WebSocket) -> None:
    service = Service.of(websocket)
    try:
        query = deepgram.parse(websocket.query_params.multi_items(), live=True)
        if query.raw is None:
            require_decoder()
        audio, endpoint_ms = query.raw or UNPACKED, _endpoint_ms(service, query)
        session = service.sessions.open(SessionRequest("deepgram", audio, endpoint_ms=endpoint_ms))
    except SessionError as error:
        await deny(websocket, _refused(service, error))
        return
    socket, origin = Socket(websocket, service.settings, service.metrics), _origin(service)
    async with socket.errors_told(deepgram.encode_error):
        with service.sessions.connection(session):
            await accept(websocket, [(b"dg-request-id", origin.request_id.encode())])
            if query.raw is not None:
                listener = _Listener(socket, session, query, origin)
                await converse(session, listener.hear(service.settings.idle_timeout_s), listener.tell())
            else:
                unpacker = _Unpacker(socket, session, query, origin, service.settings.max_upload_bytes)
                hear = unpacker.hear(service.settings.idle_timeout_s)
                await converse(session, hear, unpacker.tell(), unpacker.unpack())
        await socket.close()


def _endpoint_ms(service: Service, query: Query) -> int | None:
    """What the client asks for, or the least there is: 10, the default over there, is no mistake."""
    if query.endpoint_ms is None:
        return None
    shortest_ms, _ = service.recognizer.config.segmenter.endpoint_range_ms
    return max(shortest_ms, query.endpoint_ms)


class _Listener:
    """A connection with raw audio, which goes into the session as it comes."""

    def __init__(self, socket: Socket, session: Session, query: Query, origin: Origin) -> None:
        self._socket, self._session, self._query = socket, session, query
        self._results = Results(query, origin)
        self._digest = hashlib.sha256()
        self._marks = 0
        self._marked_s = 0.0

    async def hear(self, idle_timeout_s: float) -> None:
        control = Control.KEEP_ALIVE
        while control is not Control.CLOSE_STREAM:
            try:
                message = await self._socket.receive(idle_timeout_s)
            except IdleError as idle:
                await self._settle()
                self._session.conclude(idle)
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
        position_s = self._session.seconds
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
                if isinstance(event, Received):
                    continue
                if isinstance(event, Reached) and isinstance(event.tag, int):
                    self._marks -= 1
                await self._send(self._results.hear(event))
        except SessionError:
            await self._send(self._results.end())
            raise
        await self._send(self._results.end())
        session = self._session
        await self._socket.send(
            self._results.metadata(self._digest.hexdigest(), session.seconds, session.audio.channels)
        )

    async def _send(self, messages: list[str]) -> None:
        for message in messages:
            await self._socket.send(message)


class _Unpacker(_Listener):
    """A connection with a container, which has to be decoded first."""

    def __init__(self, socket: Socket, session: Session, query: Query, origin: Origin, max_bytes: int) -> None:
        super().__init__(socket, session, query, origin)
        self._pipe, self._left_bytes, self._max_bytes = Pipe(), max_bytes, max_bytes

    async def unpack(self) -> None:
        """Feed the session; beside `hear`."""
        # Its thread waits for the client most of the time; those that all share have better things to do.
        thread = anyio.CapacityLimiter(1)
        try:
            with closing(unpacked(self._pipe)) as blocks:
                await feed_decoded(self._session, blocks, self._feed, release=self._pipe.end, limiter=thread)
        finally:
            self._pipe.close()

    async def _receive(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            await self._settle()
            self._session.conclude(too_big("stream", f"more than {self._max_bytes} bytes", self._max_bytes))
        else:
            await self._pipe.write(data)

    async def _settle(self) -> None:
        await self._pipe.settle()

    def _end(self) -> None:
        self._pipe.end()


# --- recordings -----------------------------------------------------------------------------------------------


@router.post("/v1/listen")
async def transcribe() -> Response:
    return Conversing(_transcribe)


async def _transcribe(request: Request, send: Send) -> None:
    service = Service.of(request)

    async def fail(error: SessionError) -> Response:
        return _refused(service, error)

    await answering(request, send, lambda: _answer(service, request), fail)


async def _answer(service: Service, request: Request) -> Response:
    query = deepgram.parse(request.query_params.multi_items(), live=False)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        raise SessionError("bad_query", "this server fetches nothing from a url; send the recording itself as the body")
    if reason := service.sessions.refusal():
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
        with service.sessions.connection(session):
            await converse(session, _feed(session, chunks()), tell(session))
    else:
        async with AsyncExitStack() as stack:
            with service.sessions.newcomer():
                file = await open_audio(await stack.enter_async_context(on_disk(chunks())), service.settings)
                stack.callback(file.close)
                session = service.sessions.open(SessionRequest("deepgram", format_of(file), partials=False))
            with service.sessions.connection(session):
                await recognise(session, file, request, tell)
    metadata = origin.metadata(digest.hexdigest(), session.seconds, session.audio.channels)
    return JSONResponse(recording(query, metadata, finals), headers={"dg-request-id": origin.request_id})


async def _feed(session: Session, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        await session.feed(chunk)
    session.finish()
