"""Websocket connections: limits, error reporting, and the receive and send loops of a session."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from stream_asr.server.errors import CloseCode, IdleTimeoutError, SessionError, internal_error
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.pacing import RateLimiter
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import BURST_S, MESSAGE_COST_S, ServerSettings

_log = logging.getLogger(__name__)

_MAX_REASON_BYTES = 123
"""RFC 6455, section 5.5.1: the payload of a control frame has at most 125 bytes; the close code takes two."""


async def accept(websocket: WebSocket, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Complete the handshake.

    If the client offers subprotocols, select the first one. Browsers that send their token in a subprotocol fail the
    connection unless the server selects one of those that they offered; the name does not matter to this server.
    """
    offered = websocket.scope["subprotocols"]
    await websocket.accept(offered[0] if offered else None, headers)


@contextmanager
def setup_timeout(timeout_s: float) -> Iterator[None]:
    """Limit the time that a client takes, with any number of messages, until its session starts.

    Raises:
        SessionError: the time is over.
    """
    try:
        with anyio.fail_after(timeout_s):
            yield
    except TimeoutError:
        raise SessionError("idle_timeout", f"no audio received within {timeout_s:g} s") from None


class WebSocketConnection:
    """Accepted websocket with the server's limits on the size and the rate of messages.

    Args:
        websocket: the websocket; must be accepted before messages are received or sent.
        settings: limits on messages, and the timeout for closing.
        metrics: metrics of the server; counts errors by code.
    """

    def __init__(self, websocket: WebSocket, settings: ServerSettings, metrics: Metrics) -> None:
        self._websocket, self._settings, self._metrics = websocket, settings, metrics
        self._limiter = RateLimiter(settings.max_speed, BURST_S, time.monotonic())

    async def receive(self, timeout_s: float | None) -> str | bytes:
        """Return the next message. Yields to other tasks before each message, so that no client can starve others.

        Args:
            timeout_s: time limit; None waits indefinitely.

        Raises:
            IdleTimeoutError: no message arrived in time.
            SessionError: the message is too big.
            WebSocketDisconnect: the client has disconnected.
        """
        await asyncio.sleep(self._limiter.delay_s(MESSAGE_COST_S, time.monotonic()))
        try:
            # Not asyncio.wait_for: before Python 3.12, it loses a cancellation that coincides with a message.
            with anyio.fail_after(timeout_s):
                event = await self._websocket.receive()
        except TimeoutError:
            raise IdleTimeoutError(timeout_s or 0) from None
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1006), event.get("reason"))
        message: str | bytes | None = event.get("text")
        if message is None:
            message = bytes(event["bytes"])
        size = len(message.encode() if isinstance(message, str) else message)
        if size > self._settings.max_message_bytes:
            raise SessionError(
                "message_too_big",
                f"the message has {size} bytes; at most {self._settings.max_message_bytes} are accepted",
                CloseCode.TOO_BIG,
            )
        return message

    async def send(self, text: str) -> None:
        """Send a text message; waits while the client does not read.

        Raises:
            WebSocketDisconnect: the client has disconnected.
        """
        await self._websocket.send_text(text)

    async def close(self) -> None:
        """Close the connection with code 1000."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(CloseCode.NORMAL)

    @asynccontextmanager
    async def report_errors(self, encode: Callable[[SessionError], str | None]) -> AsyncIterator[None]:
        """Report errors raised in the block to the client, and close the connection.

        Args:
            encode: returns the protocol's message for an error; None if the protocol has no such message.
        """
        try:
            yield
        except WebSocketDisconnect:
            pass
        except SessionError as error:
            await self._report_error(error, encode(error))
        except Exception:
            _log.exception("a connection failed")
            failure = internal_error()
            await self._report_error(failure, encode(failure))

    async def _report_error(self, error: SessionError, text: str | None) -> None:
        self._metrics.errors.labels(error.code).inc()
        reason = f"{error.code}: {error.message}".encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        # The timeout is for clients that do not read. RuntimeError: the connection was closed before.
        with suppress(WebSocketDisconnect, RuntimeError), anyio.move_on_after(self._settings.close_timeout_s):
            async with self._discard_incoming():
                if text is not None:
                    await self._websocket.send_text(text)
                await self._websocket.close(error.close_code, reason)

    @asynccontextmanager
    async def _discard_incoming(self) -> AsyncIterator[None]:
        """Discard incoming messages during the block, so that a client blocked in a send gets to read the error."""

        async def discard() -> None:
            with suppress(RuntimeError):  # the client has disconnected before
                while (await self._websocket.receive())["type"] != "websocket.disconnect":
                    pass

        task = asyncio.ensure_future(discard())
        try:
            yield
        finally:
            task.cancel()


async def run_session(
    session: Session,
    receive: Coroutine[Any, Any, None],
    send: Coroutine[Any, Any, None],
    *background: Coroutine[Any, Any, None],
) -> None:
    """Run the receive loop and the send loop of a connection until the send loop has sent the last event.

    Args:
        session: can end the connection with `Session.interrupt`.
        receive: feeds incoming messages to the session. May run forever; it is cancelled at the end.
        send: sends what `Session.events` yields.
        background: further coroutines, treated like ``receive``.

    Raises:
        SessionError: from any of the coroutines, or from `Session.interrupt`. The other coroutines are cancelled.
        WebSocketDisconnect: the client has disconnected.
    """
    sender = asyncio.ensure_future(send)
    tasks = {sender, *map(asyncio.ensure_future, (receive, *background, session.wait_interrupted()))}
    try:
        running = tasks
        while not sender.done():
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if sender not in done:
                for task in done:
                    task.result()
        sender.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
