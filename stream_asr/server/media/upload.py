"""Uploads: complete recordings in one HTTP request, stored on disk and recognized in a session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryFile

import anyio
import anyio.to_thread
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Send

from stream_asr.audio.files import AudioFile
from stream_asr.errors import InputError
from stream_asr.server.connection import run_session
from stream_asr.server.errors import CloseCode, IdleTimeoutError, SessionError, internal_error
from stream_asr.server.media.feed import feed_blocks
from stream_asr.server.sessions.request import AudioFormat
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import MAX_FORM_FIELDS, ServerSettings

_log = logging.getLogger(__name__)


class ClientDisconnectedError(SessionError):
    """The client of an HTTP request disconnected before the response."""

    def __init__(self) -> None:
        super().__init__("client_left", "the client has disconnected")


async def send_response(
    request: Request,
    send: Send,
    handle: Callable[[], Awaitable[Response | None]],
    handle_error: Callable[[SessionError], Awaitable[Response | None]],
) -> None:
    """Send the response of ``handle``, or the response of ``handle_error`` if ``handle`` raises an error.

    Sends nothing if the client has disconnected.

    Args:
        request: request to respond to.
        send: ASGI callable of the request.
        handle: returns the response; None if it has sent the response itself.
        handle_error: returns the response for an error; None if it has sent the response itself.
    """
    try:
        response = await handle()
    except ClientDisconnectedError:
        return
    except SessionError as error:
        response = await handle_error(error)
    except Exception:
        _log.exception("a request failed")
        response = await handle_error(internal_error())
    if response is not None:
        await response(request.scope, request.receive, send)


@asynccontextmanager
async def multipart_form(request: Request, settings: ServerSettings) -> AsyncIterator[FormData]:
    """Parse the form in the body of a request. Its file is an anonymous temporary file, deleted after the block.

    Raises:
        SessionError: the body is not a form or is too big, its data stopped arriving, or the client disconnected.
    """
    try:
        form = await MultiPartParser(
            request.headers, read_body(request, settings), max_files=1, max_fields=MAX_FORM_FIELDS
        ).parse()
    except KeyError:
        raise SessionError("bad_request", "the request has no Content-Type; send multipart/form-data") from None
    except MultiPartException as error:
        raise SessionError("bad_request", f"not multipart/form-data: {error.message}") from None
    except UnicodeError:  # includes errors of Python codecs that are not character sets
        raise SessionError("bad_request", "the form cannot be decoded in its charset; use UTF-8") from None
    try:
        yield form
    finally:
        await form.close()


@asynccontextmanager
async def spool_upload(chunks: AsyncIterable[bytes]) -> AsyncIterator[UploadFile]:
    """Write the body of a request to an anonymous temporary file, deleted after the block."""
    with TemporaryFile() as file:
        size = 0
        async for chunk in chunks:
            size += await anyio.to_thread.run_sync(file.write, chunk)
        file.seek(0)
        yield UploadFile(file, size=size)


async def read_body(request: Request, settings: ServerSettings) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request as it arrives.

    Raises:
        SessionError: the body is too big, its data stopped arriving, or the client disconnected.
    """
    limit, received = settings.max_upload_bytes, 0
    content_length = request.headers.get("content-length", "")
    if content_length.isdecimal() and int(content_length) > limit:
        raise too_big_error("request", f"{content_length} bytes", limit)
    chunks = request.stream()
    while True:
        try:
            with anyio.fail_after(settings.idle_timeout_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise IdleTimeoutError(settings.idle_timeout_s) from None
        except ClientDisconnect:
            raise ClientDisconnectedError from None
        received += len(chunk)
        if received > limit:
            raise too_big_error("request", f"more than {limit} bytes", limit)
        yield chunk


def too_big_error(subject: str, size: str, limit: int) -> SessionError:
    """Return the error for data that exceeds ``max_upload_bytes``."""
    message = f"the {subject} has {size}; at most {limit} are accepted (--max-upload-bytes)"
    return SessionError("file_too_big", message, CloseCode.TOO_BIG)


async def open_upload(upload: UploadFile, settings: ServerSettings) -> AudioFile:
    """Open an uploaded file for decoding. The caller closes it.

    Raises:
        SessionError: the file cannot be decoded, or is longer than ``max_duration_s``.
    """
    if not upload.size:
        raise SessionError("bad_audio", "the file is empty (0 bytes)", CloseCode.INVALID_DATA)
    # Error messages contain the name. Some charsets decode to lone surrogates, which a response cannot encode.
    name = Path(upload.filename or "").name.encode(errors="replace").decode() or "the file"
    try:
        file = await anyio.to_thread.run_sync(AudioFile, name, upload.file)
    except InputError as error:
        raise SessionError("bad_audio", str(error), CloseCode.INVALID_DATA) from None
    if file.duration_s is not None and file.duration_s > settings.max_duration_s:
        file.close()
        limit_s = settings.max_duration_s
        raise SessionError(
            "too_long", f"the file has {file.duration_s:.0f} s of audio; at most {limit_s:g} s are accepted"
        )
    return file


def upload_format(file: AudioFile) -> AudioFormat:
    """Return the format in which `recognize_upload` feeds a file."""
    return AudioFormat(file.sample_rate, "pcm_f32le", file.channels)


async def recognize_upload(
    session: Session, file: AudioFile, request: Request, consume: Callable[[Session], Awaitable[None]]
) -> None:
    """Feed a file to a session, with the same rate limit as live audio.

    Args:
        session: session in the format `upload_format`.
        file: file from `open_upload`.
        request: request whose body has been read. Recognition stops when its client disconnects.
        consume: handles the events of the session.

    Raises:
        SessionError: the file is damaged (raised after the events of all audio before the damage), the client has
            disconnected, or from ``consume``.
    """

    async def watch_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        session.interrupt(ClientDisconnectedError())

    async def consume_events() -> None:
        await consume(session)

    watcher = asyncio.create_task(watch_disconnect())
    try:
        await run_session(session, feed_blocks(session, iter(file), session.feed), consume_events())
    finally:
        watcher.cancel()
