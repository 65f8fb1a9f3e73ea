"""HTTP responses: those that say no, and those that last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

ErrorResponseFactory: TypeAlias = "Callable[[int, str, str, dict[str, str] | None], Response]"
"""Makes a response of a status, a short name, a message for people, and headers."""


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An HTTP response in the words of the native protocol."""
    return JSONResponse({"type": "error", "code": code, "message": message}, status, headers)


async def deny(websocket: WebSocket, response: Response) -> None:
    """Answer a websocket request with ``response`` in place of the upgrade."""
    await websocket.receive()
    await websocket.send_denial_response(response)


class HandlerResponse(Response):
    """A response that a coroutine sends by itself: what it holds open stays open until the last byte is out."""

    def __init__(self, talk: Callable[[Request, Send], Awaitable[None]]) -> None:
        super().__init__()
        self._talk = talk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._talk(Request(scope, receive), send)


class EventStream:
    """Server-sent events. The response begins with the first of them, so until then it can still be another one.

    Attributes:
        begun: the status 200 is on its way.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, event: str, *, last: bool = False) -> None:
        """Waits while the client does not read.

        Args:
            event: with the empty line that ends it.
        """
        if not self.started:
            self.started = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": event.encode(), "more_body": not last})
