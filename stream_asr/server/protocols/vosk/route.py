"""Route of the Vosk protocol: ``/vosk``, and ``/`` because a Vosk server has no paths."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, WebSocket

from stream_asr.server.connection import WebSocketConnection, accept, run_session, setup_timeout
from stream_asr.server.errors import IdleTimeoutError, SessionError
from stream_asr.server.protocols.json_messages import reject_message
from stream_asr.server.protocols.vosk.codec import Command, Options, ReplyEncoder, decode
from stream_asr.server.responses import deny, error_response
from stream_asr.server.service import Service
from stream_asr.server.sessions.outbox import MarkReached, SamplesReceived
from stream_asr.server.sessions.request import AudioFormat, SessionRequest
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import VOSK_MAX_PENDING_REPLIES

router = APIRouter()
_log = logging.getLogger(__name__)

_AUDIO_TAG = "audio"
"""Tag of the mark after an audio message."""


@router.websocket("/")
@router.websocket("/vosk")
async def stream(websocket: WebSocket) -> None:
    """Run one connection."""
    service = Service.from_connection(websocket)
    if reason := service.sessions.unavailable_reason():
        await deny(websocket, error_response(503, "too_many_sessions", reason))
        return
    connection = WebSocketConnection(websocket, service.settings, service.metrics)
    idle_timeout_s = service.settings.idle_timeout_s
    async with connection.report_errors(lambda error: None):  # the protocol reports errors in the close frame only
        with service.sessions.pending_connection():
            await accept(websocket)
            # Longer than start_timeout_s: browser clients connect before they ask for the microphone.
            with setup_timeout(idle_timeout_s):
                options, first_message = await _receive_setup(connection)
        if options.ignored_keys:
            keys = ", ".join(options.ignored_keys)
            _log.warning("vosk: ignored keys in config: %s (%d in total)", keys, options.ignored_count)
        audio_format = AudioFormat(options.sample_rate)
        hotwords = dict.fromkeys(options.phrases, 1.0) or None
        session = await service.sessions.open(
            SessionRequest("vosk", audio_format, words=options.words, hotwords=hotwords)
        )
        with service.sessions.manage(session):
            client = _VoskClient(connection, session, options)
            await run_session(session, client.receive(first_message, idle_timeout_s), client.send())
        await connection.close()


async def _receive_setup(connection: WebSocketConnection) -> tuple[Options, bytes | Command]:
    """Receive the client's options, and the first message after them."""
    options = Options()
    while True:
        message = await connection.receive(None)
        decoded = message if isinstance(message, bytes) else decode(message, options)
        if not isinstance(decoded, Options):
            return options, decoded
        options = decoded


class _VoskClient:
    """The two halves of a connection. Every message except ``config`` gets one reply, in order.

    A reply is sent once all audio up to its message has been recognized: a mark in the stream shows when.
    """

    def __init__(self, connection: WebSocketConnection, session: Session, options: Options) -> None:
        self._connection, self._session = connection, session
        self._replies = ReplyEncoder(options)
        self._reply_slots = asyncio.Semaphore(VOSK_MAX_PENDING_REPLIES)

    async def receive(self, message: bytes | Command, idle_timeout_s: float) -> None:
        """Handle ``message`` and all later ones, up to the end of the audio."""
        while message is not Command.EOF:
            if isinstance(message, bytes):
                await self._session.feed(message)
                await self._request_reply(_AUDIO_TAG)
            else:
                await self._session.flush()
                await self._request_reply(Command.RESET.value)
            try:
                message = await self._receive_message(idle_timeout_s)
            except IdleTimeoutError as error:
                self._session.finish_with_error(error)
                return
        self._session.finish()

    async def _receive_message(self, idle_timeout_s: float) -> bytes | Command:
        """Receive the next audio message or command; apply options that come before."""
        while True:
            message = await self._connection.receive(idle_timeout_s)
            options = self._replies.options
            decoded = message if isinstance(message, bytes) else decode(message, options)
            if not isinstance(decoded, Options):
                return decoded
            for key, is_changed in (
                ("sample_rate", decoded.sample_rate != options.sample_rate),
                ("phrase_list", decoded.phrases != options.phrases),
            ):
                if is_changed:
                    reject_message(f"{key} cannot be changed after the first audio")
            self._replies.options = decoded

    async def _request_reply(self, tag: str) -> None:
        await self._reply_slots.acquire()
        await self._session.mark(tag)

    async def send(self) -> None:
        """Send the replies, and at the end the last result."""
        try:
            async for event in self._session.events():
                if isinstance(event, MarkReached):
                    is_audio = event.tag == _AUDIO_TAG
                    reply = self._replies.encode_audio_reply() if is_audio else self._replies.encode_result()
                    await self._connection.send(reply)
                    self._reply_slots.release()
                elif not isinstance(event, SamplesReceived):
                    self._replies.on_event(event)
        except SessionError:
            if self._replies.has_unsent_words:
                await self._connection.send(self._replies.encode_result())
            raise
        await self._connection.send(self._replies.encode_result())
