"""Assemble the ASGI application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from stream_asr.recognizer import Recognizer
from stream_asr.server.auth import AuthMiddleware
from stream_asr.server.metrics import Metrics
from stream_asr.server.protocols.deepgram.route import EXPOSED_HEADERS
from stream_asr.server.protocols.registry import ERROR_RESPONSES, ROUTERS
from stream_asr.server.service import Service
from stream_asr.server.sessions.registry import SessionRegistry
from stream_asr.server.settings import ServerSettings
from stream_asr.server.web import health, pages


def create_app(recognizer: Recognizer, settings: ServerSettings | None = None) -> FastAPI:
    """Return an ASGI application that serves ``recognizer``. The caller closes the recognizer.

    `run.run` serves the application with limits on the transport and a graceful shutdown. With another ASGI server,
    wait for ``app.state.service.sessions.drain()`` before that server closes its connections.
    """
    settings = settings or ServerSettings()
    metrics = Metrics(lambda: recognizer.stats)
    sessions = SessionRegistry(recognizer, settings, metrics)
    metrics.add_gauge("stream_asr_sessions", "Open sessions", lambda: sessions.open_count)
    metrics.add_gauge(
        "stream_asr_sessions_detached", "Open sessions that wait to be resumed", lambda: sessions.detached_count
    )
    app = FastAPI(title="stream_asr", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = Service(recognizer, settings, metrics, sessions)
    for router in ROUTERS:
        app.include_router(router)
    origins = [origin.rstrip("/").lower() for origin in settings.allow_origins]
    app.add_middleware(
        AuthMiddleware,
        tokens=settings.tokens,
        origins=origins,
        open_paths=(*health.OPEN_PATHS, *pages.OPEN_PATHS),
        error_responses=ERROR_RESPONSES,
        metrics=metrics,
    )
    # Added last, so it runs before authentication: preflight requests carry no token, and error responses need the
    # CORS headers, too.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=EXPOSED_HEADERS,
    )
    return app
