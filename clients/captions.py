"""A session with a caption server that survives lost connections. Copy this file; it needs only `websockets`.

    async with asyncio.TaskGroup() as tasks:
        captions = Captions("ws://127.0.0.1:8765", sample_rate=16_000)
        tasks.create_task(feed(captions))      # await captions.send(pcm) ...; captions.finish()
        async for event in captions:           # {"type": "final", "text": ...}; see docs/protocols.md
            print(event)

How a session is resumed: the server acknowledges audio ("ack"), and the client keeps the audio that is not acknowledged
yet and counts the events that it receives. After a lost connection, the client sends the key of the session and the
number of events. The server answers with the number of samples that it has received. The client sends its audio from
there, and the server sends the missing events. No audio is lost, and no event is sent twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

CONTROL_TYPES = {"ready", "ack", "done", "error"}
SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
BLOCK_BYTES = 1 << 15
MIN_RECONNECT_DELAY_S = 0.1
MAX_RECONNECT_DELAY_S = 3.0
TOKEN_HELP = "access token; other users can read command lines, so prefer the variable STREAM_ASR_TOKEN"


class ServerError(Exception):
    """The server ended the session or did not start it; the message gives the reason."""


class Captions:
    """Session with a server. Send audio with `send` or `push`, call `finish`, and iterate over the events meanwhile.

    Args:
        url: ws://HOST:PORT or wss://HOST:PORT of the server. The URL of its page is accepted, too.
        sample_rate: sample rate of the audio in Hz.
        token: access token, if the server requires one.
        give_up_s: how long to try to reconnect. By default, the server keeps a session for 30 s.
        window_s: maximum amount of audio in flight, sent but not acknowledged.
        options: options of the "start" message: encoding, channels, partials, words,
            endpoint_ms, hotwords.

    Attributes:
        reconnections: number of lost connections.
    """

    def __init__(
        self,
        url: str,
        sample_rate: int,
        *,
        token: str | None = None,
        give_up_s: float = 30.0,
        window_s: float = 10.0,
        **options: Any,
    ) -> None:
        self._endpoint = _endpoint(url)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._start = {"type": "start", "sample_rate": sample_rate, **options}
        self._frame_bytes: int = SAMPLE_BYTES[options.get("encoding", "pcm_s16le")] * options.get("channels", 1)
        self._window_bytes = int(window_s * sample_rate) * self._frame_bytes
        self._give_up_s = give_up_s
        self._session: str | None = None
        self._audio = bytearray()  # not acknowledged yet
        self._acknowledged_bytes = 0  # all before self._audio
        self._finished = False
        self._ended = False
        self._received_events = 0
        self._changed = asyncio.Event()
        self.reconnections = 0

    async def send(self, audio: bytes) -> None:
        """Send audio from a source that can wait. Returns when more audio may be sent.

        Raises:
            ServerError: the session has ended.
        """
        while len(self._audio) >= self._window_bytes and not self._ended:
            await self._wait_for_change()
        if self._ended:
            raise ServerError("the session ended before its audio did")
        self.push(audio)

    def push(self, audio: bytes) -> None:
        """Send audio from a source that cannot wait. The audio is queued. Call this method in the event loop."""
        self._audio += audio
        self._changed.set()

    def finish(self) -> None:
        """End the audio; the iteration ends after the last final."""
        self._finished = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async with aclosing(self._receive_events()) as events:
                async for event in events:
                    yield event
        finally:
            # Wake a task that waits in send.
            self._ended = True
            self._changed.set()

    async def _receive_events(self) -> AsyncGenerator[dict[str, Any], None]:
        give_up_at_s = time.monotonic() + self._give_up_s
        delay_s = MIN_RECONNECT_DELAY_S
        while True:
            cause: Exception | None = None
            try:
                async with connect(self._endpoint, additional_headers=self._headers, compression=None) as connection:
                    position_bytes = await self._start_or_resume(connection)
                    delay_s = MIN_RECONNECT_DELAY_S
                    sender = asyncio.create_task(self._send_audio(connection, position_bytes))
                    try:
                        async for text in connection:
                            message = json.loads(text)
                            give_up_at_s = time.monotonic() + self._give_up_s
                            if message["type"] == "done":
                                return
                            if message["type"] == "error":
                                raise ServerError(message["message"])
                            if message["type"] == "ack":
                                self._discard_acknowledged(message["received"])
                            elif message["type"] not in CONTROL_TYPES:
                                self._received_events += 1
                                yield message
                    finally:
                        sender.cancel()
            except (OSError, ConnectionClosed, InvalidHandshake, InvalidURI) as error:
                refused = isinstance(error, InvalidStatus) and error.response.status_code < 500
                if self._session is None or refused:
                    raise ServerError(_describe(error)) from error
                cause = error
            # The connection is lost, but the session is not.
            if time.monotonic() > give_up_at_s:
                raise ServerError(_describe(cause)) from cause
            self.reconnections += 1
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, MAX_RECONNECT_DELAY_S)

    async def _start_or_resume(self, connection: ClientConnection) -> int:
        """Start or resume the session; return the number of bytes that the server has received."""
        if self._session is None:
            await connection.send(json.dumps(self._start))
        else:
            resume = {"type": "resume", "session": self._session, "events": self._received_events}
            await connection.send(json.dumps(resume))
        ready = json.loads(await connection.recv())
        if ready["type"] == "error":
            raise ServerError(ready["message"])
        self._session = ready["session"]
        received_samples: int = ready.get("received", 0)
        self._discard_acknowledged(received_samples)
        return received_samples * self._frame_bytes

    async def _send_audio(self, connection: ClientConnection, position_bytes: int) -> None:
        try:
            while True:
                start = position_bytes - self._acknowledged_bytes
                block = bytes(self._audio[start : min(start + BLOCK_BYTES, self._window_bytes)])
                if block:
                    await connection.send(block)
                    position_bytes += len(block)
                elif self._finished and start == len(self._audio):
                    await connection.send(json.dumps({"type": "finish"}))
                    return
                else:
                    await self._wait_for_change()
        except ConnectionClosed:
            pass  # the receiving task handles it

    def _discard_acknowledged(self, received_samples: int) -> None:
        new_bytes = received_samples * self._frame_bytes - self._acknowledged_bytes
        del self._audio[:new_bytes]
        self._acknowledged_bytes += new_bytes
        self._changed.set()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _endpoint(url: str) -> str:
    """Return the URL of the websocket for the URL of a server or of its page."""
    scheme, _, rest = url.rpartition("://")
    scheme = {"": "ws", "http": "ws", "https": "wss"}.get(scheme, scheme)
    return f"{scheme}://{rest.rstrip('/').removesuffix('/v1/stream')}/v1/stream"


def _describe(error: Exception | None) -> str:
    if error is None:
        return "the server closes every connection before the session is done"
    if isinstance(error, InvalidStatus):
        body = (error.response.body or b"").decode(errors="replace")
        return f"the server answered {error.response.status_code}{': ' if body else ''}{body}"
    return f"no connection to the server: {error}"
