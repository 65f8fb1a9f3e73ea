"""Who may come in: tokens, and the web pages from which a browser may connect."""

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
_PROTOCOL_WITH_TOKEN = "openai-insecure-api-key."
_SECRET_HEADERS = (b"authorization", b"sec-websocket-protocol")


class AuthMiddleware:
    """ASGI middleware in front of everything.

    A token comes as ``Authorization: Bearer TOKEN``, ``Authorization: Token TOKEN`` or ``?token=TOKEN``, or from a
    browser as the websocket subprotocol ``openai-insecure-api-key.TOKEN`` beside another one, or as the second of two
    of which the first is ``token`` or ``bearer``; there, what the name of a subprotocol cannot hold may be
    percent-encoded. It is taken out of the scope here, so that no log of a request can show it.

    A browser names the page that connects in ``Origin``. Pages of this very server are let in, others if they were
    allowed; programs that are no browsers send no origin and are let in.

    Args:
        tokens: any of them is accepted; with none, everybody is.
        origins: allowed ones, as browsers write them: in lower case, without a slash at the end; ``*`` is all.
        open_paths: for plain HTTP without a token: health checks, and pages that hold no secrets.
        refusals: how protocols that have errors of their own say no, by how their paths begin.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Iterable[str],
        origins: Iterable[str],
        open_paths: Iterable[str],
        refusals: Mapping[str, ErrorResponseFactory],
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._tokens = tuple(token.encode() for token in tokens)
        self._origins = frozenset(origins)
        self._open_paths = frozenset(open_paths)
        self._refusals = refusals
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = _take_tokens(scope)
        refuse = next((made for path, made in self._refusals.items() if scope["path"].startswith(path)), error_response)
        is_open = scope["type"] == "http" and scope["path"] in self._open_paths
        if not self._from_here(HTTPConnection(scope)):
            self._metrics.unauthorized.labels("origin").inc()
            reason = "pages from this origin may not connect; see --allow-origin"
            refused = refuse(403, "foreign_origin", reason, None)
        elif self._tokens and not is_open and not self._knows(given):
            self._metrics.unauthorized.labels("token").inc()
            reason = "this token is not accepted" if given else "a token is needed: Authorization: Bearer TOKEN"
            refused = refuse(401, "unauthorized", reason, {"WWW-Authenticate": "Bearer"})
        else:
            await self._app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else None
        _log.info("refused: %s", reason, extra={"path": scope["path"], "peer": peer})
        if scope["type"] == "websocket":
            await deny(WebSocket(scope, receive, send), refused)
        else:
            await refused(scope, receive, send)

    def _knows(self, given: list[str]) -> bool:
        # Every comparison is made, each in constant time, so that the time taken tells nothing.
        matches = [hmac.compare_digest(token, each.encode()) for token in self._tokens for each in given]
        return any(matches)

    def _from_here(self, connection: HTTPConnection) -> bool:
        origin = connection.headers.get("origin")
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return True
        try:
            return urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower() != ""
        except ValueError:  # no origin at all
            return False


def _take_tokens(scope: Scope) -> list[str]:
    """The tokens of a request; the scope is changed in place, because the server logs from it."""
    scheme, _, credentials = Headers(scope=scope).get("authorization", "").partition(" ")
    tokens = [credentials.strip()] if scheme.lower() in _SCHEMES else []
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    tokens += [value for name, value in query if name == "token"]
    protocols = scope.get("subprotocols", [])
    offered = [name.removeprefix(_PROTOCOL_WITH_TOKEN) for name in protocols if name.startswith(_PROTOCOL_WITH_TOKEN)]
    if len(protocols) == 2 and protocols[0].lower() in _SCHEMES:
        offered.append(protocols.pop())
    tokens += [*offered, *map(unquote, offered)]
    if any(name == "token" for name, _ in query):
        scope["query_string"] = urlencode([pair for pair in query if pair[0] != "token"]).encode()
    # The names of subprotocols are in the scope besides, and servers answer from there.
    scope["subprotocols"] = [name for name in protocols if not name.startswith(_PROTOCOL_WITH_TOKEN)]
    scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() not in _SECRET_HEADERS]
    return tokens
