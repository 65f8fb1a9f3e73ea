"""For those who watch the server."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from stream_asr.server.service import Service
from stream_asr.server.sessions.registry import SHUTTING_DOWN

router = APIRouter()

OPEN_PATHS = ("/healthz", "/readyz")
"""Orchestrators ask these without a token."""


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """200 while the process is worth keeping, 503 once its recognizer has failed."""
    if not Service.from_connection(request).recognizer.stats.running:
        return JSONResponse({"status": "failed", "reason": "the recognizer has stopped"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """200 while new sessions are welcome."""
    service = Service.from_connection(request)
    if not service.recognizer.stats.running:
        return JSONResponse({"status": "not ready", "reason": "the recognizer has stopped"}, 503)
    if service.sessions.draining:
        return JSONResponse({"status": "not ready", "reason": SHUTTING_DOWN}, 503)
    return JSONResponse({"status": "ready", "model": service.recognizer.model.name})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus's text format."""
    return Response(Service.from_connection(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)
