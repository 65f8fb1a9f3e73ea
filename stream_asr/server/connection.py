"""A websocket with the server's limits: what every protocol's route does in the same way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from stream_asr.server.errors import CloseCode, IdleTimeoutError, SessionError, internal
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.pacing import Pace
from stream_asr.server.sessions.session import Session
from stream_asr.server.settings import ServerSettings

_log = logging.getLogger(__name__)

_MESSAGE_COST_S = 0.002
"""Every message counts as so much audio, whatever is in it: a flood of tiny ones is slowed down, too."""

_BURST_S = 2.0

_MAX_REASON_BYTES = 123
"""RFC 6455, 5.5.1: a control frame has 125 bytes, and the code takes two."""


async def accept(websocket: WebSocket, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Complete the upgrade.

    A browser that offers subprotocols, as one with a token does, gives up unless it gets one of them. What they are
    called makes no difference here, so it is the first one.
    """
    offered = websocket.scope["subprotocols"]
    await websocket.accept(offered[0] if offered else None, headers)


@contextmanager
def setup_timeout(timeout_s: float) -> Iterator[None]:
    """Around all that a client says before there is a session, however many messages that takes.

    Raises:
        SessionError: it took too long.
    """
    try:
        with anyio.fail_after(timeout_s):
            yield
    except TimeoutError:
        raise SessionError("idle_timeout", f"no audio came within {timeout_s:g} s") from None


class WebSocketConnection:
    """An accepted websocket."""

    def __init__(self, websocket: WebSocket, settings: ServerSettings, metrics: Metrics) -> None:
        self._websocket, self._settings, self._metrics = websocket, settings, metrics
        self._pace = Pace(settings.max_speed, _BURST_S, time.monotonic())

    async def receive(self, timeout_s: float | None) -> str | bytes:
        """The next message. Whatever the messages are, the others get their turn between two of them.

        Args:
            timeout_s: None waits for ever.

        Raises:
            SessionError: it is too long, or (`IdleTimeoutError`) none came in time.
            WebSocketDisconnect: the client has left.
        """
        await asyncio.sleep(self._pace.wait_s(_MESSAGE_COST_S, time.monotonic()))
        try:
            # Not asyncio.wait_for: before Python 3.12 it forgets to be cancelled when a message comes just then.
            with anyio.fail_after(timeout_s):
                message = await self._websocket.receive()
        except TimeoutError:
            raise IdleTimeoutError(timeout_s or 0) from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006), message.get("reason"))
        received: str | bytes | None = message.get("text")
        if received is None:
            received = bytes(message["bytes"])
        size = len(received.encode() if isinstance(received, str) else received)
        if size > self._settings.max_message_bytes:
            raise SessionError(
                "message_too_big",
                f"a message of {size} bytes; {self._settings.max_message_bytes} are accepted",
                CloseCode.TOO_BIG,
            )
        return received

    async def send(self, text: str) -> None:
        """Waits while the client does not read.

        Raises:
            WebSocketDisconnect: the client has left.
        """
        await self._websocket.send_text(text)

    async def close(self) -> None:
        """A normal close."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(CloseCode.NORMAL)

    @asynccontextmanager
    async def report_errors(self, encode: Callable[[SessionError], str | None]) -> AsyncIterator[None]:
        """Around all that is done with a connection: tells the client why it ends early, and closes it.

        Args:
            encode: the protocol's message for an error; None where it has none.
        """
        try:
            yield
        except WebSocketDisconnect:
            pass
        except SessionError as error:
            await self._tell(error, encode(error))
        except Exception:
            _log.exception("a connection failed")
            failure = internal()
            await self._tell(failure, encode(failure))

    async def _tell(self, error: SessionError, text: str | None) -> None:
        self._metrics.errors.labels(error.code).inc()
        reason = f"{error.code}: {error.message}".encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        # A client that does not read does not hear the reason, either; RuntimeError: it was closed before.
        with suppress(WebSocketDisconnect, RuntimeError), anyio.move_on_after(self._settings.close_timeout_s):
            async with self._hearing_nothing():
                if text is not None:
                    await self._websocket.send_text(text)
                await self._websocket.close(error.close_code, reason)

    @asynccontextmanager
    async def _hearing_nothing(self) -> AsyncIterator[None]:
        """Meanwhile, drop what the client sends: one that reads only between two messages has to get that far."""

        async def drop() -> None:
            with suppress(RuntimeError):  # it has left before
                while (await self._websocket.receive())["type"] != "websocket.disconnect":
                    pass

        dropping = asyncio.ensure_future(drop())
        try:
            yield
        finally:
            dropping.cancel()


async def run_session(
    session: Session,
    hear: Coroutine[Any, Any, None],
    tell: Coroutine[Any, Any, None],
    *others: Coroutine[Any, Any, None],
) -> None:
    """Run the two halves of a connection until ``tell`` has sent the last event.

    Args:
        hear: receives messages and feeds the session; may go on for ever.
        tell: sends what `Session.events` yields.
        others: what else there is to do meanwhile; like ``hear``.

    Raises:
        SessionError, WebSocketDisconnect: from any of them, or from `Session.interrupt`; the others are stopped.
    """
    telling = asyncio.ensure_future(tell)
    tasks = {telling, *map(asyncio.ensure_future, (hear, *others, session.interruption()))}
    try:
        running = tasks
        while not telling.done():
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if telling not in done:
                for task in done:
                    task.result()
        telling.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
