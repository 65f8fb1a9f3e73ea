"""One session with a caption server, which survives lost connections. Copy this file; it needs only `websockets`.

    async with asyncio.TaskGroup() as tasks:
        captions = Captions("ws://127.0.0.1:8765", sample_rate=16_000)
        tasks.create_task(feed(captions))      # await captions.send(pcm) ...; captions.finish()
        async for event in captions:           # {"type": "final", "text": ...} and so on, see the README
            print(event)

How resuming works. The server acknowledges audio ("ack"), and we keep what it has not acknowledged. We count the
events that have arrived. After a lost connection we say which session it was and how many events we have; the server
says how many samples it has, we send from there, and it sends the events that we lack. Nothing is lost or comes twice.
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

NOT_EVENTS = {"ready", "ack", "done", "error"}
SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
BLOCK_BYTES = 1 << 15
TOKEN_HELP = "if the server wants one; the variable STREAM_ASR_TOKEN keeps it from those who list processes"


class ServerError(Exception):
    """The server ended the session, or did not begin it; the message says why."""


class Captions:
    """Give audio to `send` or `push`, call `finish`, and iterate over the events meanwhile.

    Args:
        url: ws://HOST:PORT or wss://HOST:PORT of the server; the address of its page does as well.
        token: if the server wants one.
        give_up_s: how long to try to reach the server again; it keeps sessions for 30 s unless told otherwise.
        window_s: audio on its way that the server has not acknowledged, at most.
        options: of the "start" message: encoding, channels, partials, words.
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
        self._url = _websocket(url)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._start = {"type": "start", "sample_rate": sample_rate, **options}
        self._frame_bytes = SAMPLE_BYTES[options.get("encoding", "pcm_s16le")] * options.get("channels", 1)
        self._window = int(window_s * sample_rate) * self._frame_bytes
        self._give_up_s = give_up_s
        self._session: str | None = None
        self._audio = bytearray()  # not acknowledged yet
        self._acknowledged = 0  # bytes, all of them before self._audio
        self._finished = False
        self._over = False
        self._events = 0
        self._changed = asyncio.Event()
        self.reconnections = 0

    async def send(self, audio: bytes) -> None:
        """For sources that can wait: returns when there is room for more.

        Raises:
            ServerError: the iteration has ended, so nobody will take it.
        """
        while len(self._audio) >= self._window and not self._over:
            await self._change()
        if self._over:
            raise ServerError("the session ended before its audio did")
        self.push(audio)

    def push(self, audio: bytes) -> None:
        """For sources that cannot: keeps the audio until it is acknowledged. Call it in the event loop."""
        self._audio += audio
        self._changed.set()

    def finish(self) -> None:
        """There is no more audio; the iteration ends after the last final."""
        self._finished = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async with aclosing(self._heard()) as events:
                async for event in events:
                    yield event
        finally:
            # Who waits for room should not wait for ever.
            self._over = True
            self._changed.set()

    async def _heard(self) -> AsyncGenerator[dict[str, Any], None]:
        give_up_at = time.monotonic() + self._give_up_s
        delay_s = 0.1
        while True:
            lost: Exception | None = None
            try:
                async with connect(self._url, additional_headers=self._headers, compression=None) as socket:
                    received = await self._introduce(socket)
                    delay_s = 0.1
                    sending = asyncio.create_task(self._send_from(socket, received))
                    try:
                        async for text in socket:
                            message = json.loads(text)
                            give_up_at = time.monotonic() + self._give_up_s
                            if message["type"] == "done":
                                return
                            if message["type"] == "error":
                                raise ServerError(message["message"])
                            if message["type"] == "ack":
                                self._forget(message["received"])
                            elif message["type"] not in NOT_EVENTS:
                                self._events += 1
                                yield message
                    finally:
                        sending.cancel()
            except (OSError, ConnectionClosed, InvalidHandshake, InvalidURI) as error:
                refused = isinstance(error, InvalidStatus) and error.response.status_code < 500
                if self._session is None or refused:
                    raise ServerError(_reason(error)) from error
                lost = error
            # Here the connection is lost, though the session is not.
            if time.monotonic() > give_up_at:
                raise ServerError(_reason(lost)) from lost
            self.reconnections += 1
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, 3.0)

    async def _introduce(self, socket: ClientConnection) -> int:
        """Start or resume; returns the bytes that the server has."""
        if self._session is None:
            await socket.send(json.dumps(self._start))
        else:
            await socket.send(json.dumps({"type": "resume", "session": self._session, "events": self._events}))
        ready = json.loads(await socket.recv())
        if ready["type"] == "error":
            raise ServerError(ready["message"])
        self._session = ready["session"]
        received: int = ready.get("received", 0)
        self._forget(received)
        return received * self._frame_bytes

    async def _send_from(self, socket: ClientConnection, position: int) -> None:
        try:
            while True:
                sent = position - self._acknowledged
                block = bytes(self._audio[sent : min(sent + BLOCK_BYTES, self._window)])
                if block:
                    await socket.send(block)
                    position += len(block)
                elif self._finished and sent == len(self._audio):
                    await socket.send(json.dumps({"type": "finish"}))
                    return
                else:
                    await self._change()
        except ConnectionClosed:
            pass  # whoever receives notices it, too

    def _forget(self, received: int) -> None:
        newly = received * self._frame_bytes - self._acknowledged
        del self._audio[:newly]
        self._acknowledged += newly
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _websocket(url: str) -> str:
    scheme, _, rest = url.rpartition("://")
    scheme = {"": "ws", "http": "ws", "https": "wss"}.get(scheme, scheme)
    return f"{scheme}://{rest.rstrip('/').removesuffix('/v1/stream')}/v1/stream"


def _reason(error: Exception | None) -> str:
    if error is None:
        return "the server closes every connection before it is done"
    if isinstance(error, InvalidStatus):
        body = (error.response.body or b"").decode(errors="replace")
        return f"the server answered {error.response.status_code}{': ' if body else ''}{body}"
    return f"no connection to the server: {error}"
