"""Access control: tokens, and the origins of web pages."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from stream_asr.server.metrics import Metrics
from stream_asr.server.responses import ErrorResponseFactory, deny, error_response

_log = logging.getLogger(__name__)

_SCHEMES = ("bearer", "token")
_TOKEN_SUBPROTOCOL_PREFIX = "openai-insecure-api-key."
_SECRET_HEADERS = (b"authorization", b"sec-websocket-protocol")


class AuthMiddleware:
    """ASGI middleware that checks the token and the origin of every request.

    A token is sent in one of these ways:

    - ``Authorization: Bearer TOKEN`` or ``Authorization: Token TOKEN``
    - the query parameter ``token``
    - the websocket subprotocol ``openai-insecure-api-key.TOKEN``
    - the second of two websocket subprotocols, where the first one is ``token`` or ``bearer``

    Subprotocols are for browsers, which cannot set headers. Characters that are not allowed there may be
    percent-encoded. The middleware removes tokens from the scope, so that they do not appear in logs.

    Browsers send the origin of the page that connects. Pages of this server may connect, pages of other origins only if
    they are listed. Programs other than browsers send no origin and may connect.

    Args:
        tokens: accepted tokens. If empty, no token is required.
        origins: allowed origins as browsers send them: in lower case, without a trailing slash; ``*`` allows all.
        open_paths: paths that need no token over HTTP: health checks and static pages.
        error_responses: for protocols with their own error format: prefix of the path to the factory of responses.
        metrics: counts refused requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Iterable[str],
        origins: Iterable[str],
        open_paths: Iterable[str],
        error_responses: Mapping[str, ErrorResponseFactory],
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._tokens = tuple(token.encode() for token in tokens)
        self._origins = frozenset(origins)
        self._open_paths = frozenset(open_paths)
        self._error_responses = error_responses
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        tokens = _pop_tokens(scope)
        is_open = scope["type"] == "http" and scope["path"] in self._open_paths
        make_response = self._error_response_factory(scope["path"])
        if not self._is_allowed_origin(HTTPConnection(scope)):
            self._metrics.unauthorized.labels("origin").inc()
            reason = "pages from this origin may not connect; see --allow-origin"
            response = make_response(403, "foreign_origin", reason, None)
        elif self._tokens and not is_open and not self._is_valid_token(tokens):
            self._metrics.unauthorized.labels("token").inc()
            reason = "this token is not accepted" if tokens else "a token is required: Authorization: Bearer TOKEN"
            response = make_response(401, "unauthorized", reason, {"WWW-Authenticate": "Bearer"})
        else:
            await self._app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else None
        _log.info("refused: %s", reason, extra={"path": scope["path"], "peer": peer})
        if scope["type"] == "websocket":
            await deny(WebSocket(scope, receive, send), response)
        else:
            await response(scope, receive, send)

    def _error_response_factory(self, path: str) -> ErrorResponseFactory:
        factories = (factory for prefix, factory in self._error_responses.items() if path.startswith(prefix))
        return next(factories, error_response)

    def _is_valid_token(self, candidates: list[str]) -> bool:
        # Make every comparison, each in constant time, so that the response time reveals nothing about the tokens.
        matches = [hmac.compare_digest(token, each.encode()) for token in self._tokens for each in candidates]
        return any(matches)

    def _is_allowed_origin(self, connection: HTTPConnection) -> bool:
        origin = connection.headers.get("origin")
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return True
        try:
            return urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower() != ""
        except ValueError:  # not a valid origin
            return False


def _pop_tokens(scope: Scope) -> list[str]:
    """Return the tokens of a request and remove them from the scope, in place: the server logs from the same scope."""
    scheme, _, credentials = Headers(scope=scope).get("authorization", "").partition(" ")
    tokens = [credentials.strip()] if scheme.lower() in _SCHEMES else []
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    tokens += [value for name, value in query if name == "token"]
    protocols = scope.get("subprotocols", [])
    offered = [
        name.removeprefix(_TOKEN_SUBPROTOCOL_PREFIX) for name in protocols if name.startswith(_TOKEN_SUBPROTOCOL_PREFIX)
    ]
    if len(protocols) == 2 and protocols[0].lower() in _SCHEMES:
        offered.append(protocols.pop())
    tokens += [*offered, *map(unquote, offered)]
    if any(name == "token" for name, _ in query):
        scope["query_string"] = urlencode([pair for pair in query if pair[0] != "token"]).encode()
    # Servers choose the subprotocol of the response from ``subprotocols``, not from the header.
    scope["subprotocols"] = [name for name in protocols if not name.startswith(_TOKEN_SUBPROTOCOL_PREFIX)]
    scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() not in _SECRET_HEADERS]
    return tokens
