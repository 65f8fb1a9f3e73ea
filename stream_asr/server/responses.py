"""HTTP responses: errors, and responses that are sent over time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

ErrorResponseFactory: TypeAlias = "Callable[[int, str, str, dict[str, str] | None], Response]"
"""Makes an error response from an HTTP status, an error code, a message and headers."""


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error response in the format of the native protocol."""
    return JSONResponse({"type": "error", "code": code, "message": message}, status, headers)


async def deny(websocket: WebSocket, response: Response) -> None:
    """Reject a websocket handshake with an HTTP response."""
    await websocket.receive()
    await websocket.send_denial_response(response)


class HandlerResponse(Response):
    """Response that a coroutine sends by itself. Resources that the coroutine holds stay open until it has ended."""

    def __init__(self, handler: Callable[[Request, Send], Awaitable[None]]) -> None:
        super().__init__()
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(Request(scope, receive), send)


class EventStream:
    """Stream of server-sent events. The response starts with the first event; until then, another one can be sent.

    Attributes:
        started: whether status 200 has been sent.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, event: str, *, last: bool = False) -> None:
        """Send an event; waits while the client does not read.

        Args:
            event: text of the event, with the empty line at its end.
            last: end the response.
        """
        if not self.started:
            self.started = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": event.encode(), "more_body": not last})
