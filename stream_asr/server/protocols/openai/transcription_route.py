"""OpenAI's speech-to-text over plain HTTP: transcriptions of recordings, and the list of models."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import FormData, UploadFile
from starlette.types import Send

from stream_asr.events import Final
from stream_asr.server.errors import CloseCode, SessionError
from stream_asr.server.media.upload import multipart_form, open_upload, recognize_upload, send_response, upload_format
from stream_asr.server.protocols.openai import transcription_codec as openai_audio
from stream_asr.server.protocols.openai import common_codec as openai
from stream_asr.server.responses import EventStream, HandlerResponse
from stream_asr.server.service import Service
from stream_asr.server.sessions.request import SessionRequest
from stream_asr.server.sessions.session import Session

router = APIRouter()


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An HTTP response in the words of these interfaces."""
    return JSONResponse(openai.error_body(status, code, message), status, headers)


@router.post("/v1/audio/transcriptions")
async def transcriptions() -> Response:
    return HandlerResponse(_transcribe)


@router.post("/v1/audio/translations")
async def translations() -> Response:
    message = "this server transcribes and does not translate; use /v1/audio/transcriptions"
    return error_response(400, "unsupported_endpoint", message)


@router.get("/v1/models")
async def models(request: Request) -> Response:
    return JSONResponse(
        {"object": "list", "data": [openai.model_object(Service.from_connection(request).recognizer.model.name)]}
    )


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> Response:
    served = Service.from_connection(request).recognizer.model.name
    if name != served:
        return error_response(404, "model_not_found", f"there is no model {name[:100]!r} here, only {served!r}")
    return JSONResponse(openai.model_object(served))


async def _transcribe(request: Request, send: Send) -> None:
    service, events = Service.from_connection(request), EventStream(send)
    await send_response(
        request, send, lambda: _answer(service, request, events), lambda error: _fail(service, error, events)
    )


async def _answer(service: Service, request: Request, events: EventStream) -> Response | None:
    """The response, if it was not sent as ``events`` already."""
    if reason := service.sessions.unavailable_reason():
        raise SessionError("too_many_sessions", reason, CloseCode.TRY_AGAIN_LATER)
    finals: list[Final] = []
    transcript = openai.Transcript()

    async def tell(session: Session) -> None:
        async for event in session.events():
            if isinstance(event, Final) and event.text:
                finals.append(event)
                if wanted.stream:
                    await events.send(openai_audio.encode_delta(transcript.end(event.text)))

    async with AsyncExitStack() as stack:
        with service.sessions.pending_connection():
            form = await stack.enter_async_context(multipart_form(request, service.settings))
            wanted = openai_audio.decode((name, value) for name, value in form.multi_items() if isinstance(value, str))
            file = await open_upload(_upload(form), service.settings)
            stack.callback(file.close)
            session = service.sessions.open(SessionRequest("openai_audio", upload_format(file), partials=False))
        with service.sessions.manage(session):
            await recognize_upload(session, file, request, tell)
    if wanted.stream:
        await events.send(openai_audio.encode_done(transcript.text), last=True)
        return None
    body = openai_audio.encode(wanted, finals, session.received_s)
    return Response(body.text, media_type=body.media_type)


def _upload(form: FormData) -> UploadFile:
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise openai.RequestError("missing_file", "the form lacks file, a recording with a file name", param="file")
    return upload


async def _fail(service: Service, error: SessionError, events: EventStream) -> Response | None:
    service.metrics.errors.labels(error.code).inc()
    told = openai.error_object(error)
    if not events.started:
        return JSONResponse({"error": told}, error.http_status)
    with anyio.move_on_after(service.settings.close_timeout_s):  # a client that does not read does not hear it, either
        await events.send(openai_audio.encode_failure(told), last=True)
    return None
