"""Puts the server together."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from stream_asr.recognizer import Recognizer
from stream_asr.server.auth import AuthMiddleware
from stream_asr.server.metrics import Metrics
from stream_asr.server.protocols.deepgram import route as deepgram
from stream_asr.server.protocols.registry import ERROR_RESPONSES, ROUTERS
from stream_asr.server.service import Service
from stream_asr.server.sessions.registry import SessionRegistry
from stream_asr.server.settings import ServerSettings
from stream_asr.server.web import health
from stream_asr.server.web import pages as page


def create_app(recognizer: Recognizer, settings: ServerSettings | None = None) -> FastAPI:
    """An ASGI app that serves ``recognizer``; closing that is up to the caller.

    `serve.run` runs it with limits on the transport and a graceful end. Under another ASGI server, let
    ``app.state.service.sessions.drain()`` finish before it closes the connections.
    """
    settings = settings or ServerSettings()
    metrics = Metrics(lambda: recognizer.stats)
    sessions = SessionRegistry(recognizer, settings, metrics)
    metrics.watch("stream_asr_sessions", "Sessions that are open", lambda: sessions.open_count)
    metrics.watch("stream_asr_sessions_detached", "Those that wait to be resumed", lambda: sessions.detached_count)
    app = FastAPI(title="stream_asr", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = Service(recognizer, settings, metrics, sessions)
    for router in ROUTERS:
        app.include_router(router)
    origins = [origin.rstrip("/").lower() for origin in settings.allow_origins]
    app.add_middleware(
        AuthMiddleware,
        tokens=settings.tokens,
        origins=origins,
        open_paths=(*health.OPEN_PATHS, *page.OPEN_PATHS),
        refusals=ERROR_RESPONSES,
        metrics=metrics,
    )
    # In front of the gate: browsers ask without a token whether they may send one, and a page may read why not.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=deepgram.EXPOSED_HEADERS,
    )
    return app
