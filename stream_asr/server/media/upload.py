"""Recordings that come whole, in one request: kept on disk, recognised in a session of their own."""

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
from stream_asr.server.errors import CloseCode, IdleTimeoutError, SessionError, internal
from stream_asr.server.media.feed import feed_blocks
from stream_asr.server.sessions.request import AudioFormat
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import ServerSettings

_log = logging.getLogger(__name__)

_MAX_FIELDS = 100


class ClientLeftError(SessionError):
    """The client of a request did not wait for the answer."""

    def __init__(self) -> None:
        super().__init__("client_left", "the client has left")


async def send_response(
    request: Request,
    send: Send,
    answer: Callable[[], Awaitable[Response | None]],
    fail: Callable[[SessionError], Awaitable[Response | None]],
) -> None:
    """Send what ``answer`` gives, or what ``fail`` makes of its error; nothing to a client that has left.

    Args:
        answer, fail: give None where everything has been sent already.
    """
    try:
        response = await answer()
    except ClientLeftError:
        return
    except SessionError as error:
        response = await fail(error)
    except Exception:
        _log.exception("a request failed")
        response = await fail(internal())
    if response is not None:
        await response(request.scope, request.receive, send)


@asynccontextmanager
async def multipart_form(request: Request, settings: ServerSettings) -> AsyncIterator[FormData]:
    """The form that a request brings. Its file is on disk, without a name, until the block is left.

    Raises:
        SessionError: it is no such form, is too big, does not arrive, or the client has left.
    """
    try:
        form = await MultiPartParser(
            request.headers, body(request, settings), max_files=1, max_fields=_MAX_FIELDS
        ).parse()
    except KeyError:
        raise SessionError("bad_request", "the request has no Content-Type; send multipart/form-data") from None
    except MultiPartException as error:
        raise SessionError("bad_request", f"not multipart/form-data: {error.message}") from None
    except UnicodeError:  # some of Python's codecs are nobody's charset, and fail in ways of their own
        raise SessionError("bad_request", "the form cannot be read in the charset that it names; use UTF-8") from None
    try:
        yield form
    finally:
        await form.close()


@asynccontextmanager
async def spool_upload(chunks: AsyncIterable[bytes]) -> AsyncIterator[UploadFile]:
    """A recording that is a request's whole body, kept like that of a form."""
    with TemporaryFile() as file:
        size = 0
        async for chunk in chunks:
            size += await anyio.to_thread.run_sync(file.write, chunk)
        file.seek(0)
        yield UploadFile(file, size=size)


async def body(request: Request, settings: ServerSettings) -> AsyncGenerator[bytes, None]:
    """The body of a request as it arrives.

    Raises:
        SessionError: it is too big or does not arrive, or the client has left.
    """
    limit, received = settings.max_upload_bytes, 0
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_big_error("request", f"{announced} bytes", limit)
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
            raise ClientLeftError from None
        received += len(chunk)
        if received > limit:
            raise too_big_error("request", f"more than {limit} bytes", limit)
        yield chunk


def too_big_error(what: str, size: str, limit: int) -> SessionError:
    message = f"the {what} has {size}; {limit} are accepted (--max-upload-bytes)"
    return SessionError("file_too_big", message, CloseCode.TOO_BIG)


async def open_upload(upload: UploadFile, settings: ServerSettings) -> AudioFile:
    """Find out what was uploaded.

    Raises:
        SessionError: it cannot be decoded, or is longer than sessions may be.
    """
    if not upload.size:
        raise SessionError("bad_audio", "the file is empty (0 bytes)", CloseCode.INVALID_DATA)
    # Errors repeat it, and some charsets have halves of surrogate pairs, which no answer could carry.
    name = Path(upload.filename or "").name.encode(errors="replace").decode() or "the file"
    try:
        file = await anyio.to_thread.run_sync(AudioFile, name, upload.file)
    except InputError as error:
        raise SessionError("bad_audio", str(error), CloseCode.INVALID_DATA) from None
    if file.duration_s is not None and file.duration_s > settings.max_duration_s:
        file.close()
        raise SessionError("too_long", f"{file.duration_s:.0f} s of audio; {settings.max_duration_s:g} s are accepted")
    return file


def upload_format(file: AudioFile) -> AudioFormat:
    """That of the audio that `recognise` feeds."""
    return AudioFormat(file.sample_rate, "pcm_f32le", file.channels)


async def recognize_upload(
    session: Session, file: AudioFile, request: Request, tell: Callable[[Session], Awaitable[None]]
) -> None:
    """Feed a recording to a session of its format, at the pace of sessions.

    Args:
        request: was read to its end; when the client leaves, the work stops.
        tell: consumes the session's events.

    Raises:
        SessionError: the file is damaged (once all that could be decoded was told), the client has left, or from
            ``tell``.
    """

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        session.interrupt(ClientLeftError())

    async def consume() -> None:
        await tell(session)

    watching = asyncio.create_task(watch())
    try:
        await run_session(session, feed_blocks(session, iter(file), session.feed), consume())
    finally:
        watching.cancel()
