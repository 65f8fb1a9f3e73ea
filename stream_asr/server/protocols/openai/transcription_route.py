"""Routes of OpenAI's HTTP interface: transcriptions of recordings, and the list of models."""

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
from stream_asr.server.protocols.openai import transcription_codec as codec
from stream_asr.server.protocols.openai.common_codec import (
    RequestError,
    Transcript,
    error_body,
    error_object,
    model_object,
)
from stream_asr.server.responses import EventStream, HandlerResponse
from stream_asr.server.service import Service
from stream_asr.server.sessions.request import SessionRequest
from stream_asr.server.sessions.session import Session

router = APIRouter()


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """Build an HTTP error response in OpenAI's format."""
    return JSONResponse(error_body(status, code, message), status, headers)


@router.post("/v1/audio/transcriptions")
async def transcriptions() -> Response:
    """Transcribe the recording in a form."""
    return HandlerResponse(_transcribe)


@router.post("/v1/audio/translations")
async def translations() -> Response:
    """Reject translations, which this server does not offer."""
    message = "this server transcribes and does not translate; use /v1/audio/transcriptions"
    return error_response(400, "unsupported_endpoint", message)


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the model."""
    name = Service.from_connection(request).recognizer.model.name
    return JSONResponse({"object": "list", "data": [model_object(name)]})


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> Response:
    """Describe the model."""
    served_name = Service.from_connection(request).recognizer.model.name
    if name != served_name:
        message = f"there is no model {name[:100]!r} on this server, only {served_name!r}"
        return error_response(404, "model_not_found", message)
    return JSONResponse(model_object(served_name))


async def _transcribe(request: Request, send: Send) -> None:
    service, event_stream = Service.from_connection(request), EventStream(send)
    await send_response(
        request,
        send,
        lambda: _recognize_recording(service, request, event_stream),
        lambda error: _report_error(service, error, event_stream),
    )


async def _recognize_recording(service: Service, request: Request, event_stream: EventStream) -> Response | None:
    """Return the response; None if it was sent as server-sent events."""
    if reason := service.sessions.unavailable_reason():
        raise SessionError("too_many_sessions", reason, CloseCode.TRY_AGAIN_LATER)
    finals: list[Final] = []
    transcript = Transcript()

    async def collect_finals(session: Session) -> None:
        async for event in session.events():
            if isinstance(event, Final) and event.text:
                finals.append(event)
                if parameters.stream:
                    await event_stream.send(codec.encode_delta(transcript.end_utterance(event.text)))

    async with AsyncExitStack() as stack:
        with service.sessions.pending_connection():
            form = await stack.enter_async_context(multipart_form(request, service.settings))
            parameters = codec.decode((name, value) for name, value in form.multi_items() if isinstance(value, str))
            file = await open_upload(_get_upload(form), service.settings)
            stack.callback(file.close)
            session = await service.sessions.open(SessionRequest("openai_audio", upload_format(file), partials=False))
        with service.sessions.manage(session):
            await recognize_upload(session, file, request, collect_finals)
    if parameters.stream:
        await event_stream.send(codec.encode_done(transcript.text), last=True)
        return None
    body = codec.encode_response(parameters, finals, session.received_s)
    return Response(body.text, media_type=body.media_type)


def _get_upload(form: FormData) -> UploadFile:
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise RequestError("missing_file", "the form requires file, a recording with a file name", param="file")
    return upload


async def _report_error(service: Service, error: SessionError, event_stream: EventStream) -> Response | None:
    """Return the response for an error; None if it was sent as a server-sent event."""
    service.metrics.errors.labels(error.code).inc()
    content = error_object(error)
    if not event_stream.started:
        return JSONResponse({"error": content}, error.http_status)
    with anyio.move_on_after(service.settings.close_timeout_s):  # the client may have stopped reading
        await event_stream.send(codec.encode_error(content), last=True)
    return None
