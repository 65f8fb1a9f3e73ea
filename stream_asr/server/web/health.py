"""Health checks and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from stream_asr.server.service import Service
from stream_asr.server.sessions.registry import SHUTTING_DOWN

router = APIRouter()

OPEN_PATHS = ("/healthz", "/readyz")
"""Paths that need no token, because orchestrators send none."""


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """Liveness: 200, or 503 once the recognizer has failed and the process should be restarted."""
    if not Service.from_connection(request).recognizer.stats.running:
        return JSONResponse({"status": "failed", "reason": "the recognizer has stopped"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Readiness: 200 while the server accepts new sessions, 503 otherwise."""
    service = Service.from_connection(request)
    if not service.recognizer.stats.running:
        return JSONResponse({"status": "not ready", "reason": "the recognizer has stopped"}, 503)
    if service.sessions.draining:
        return JSONResponse({"status": "not ready", "reason": SHUTTING_DOWN}, 503)
    recognizer = service.recognizer
    names = {"model": recognizer.model.name, "second_pass": recognizer.second_pass_name}
    return JSONResponse({"status": "ready", **names})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus's text format."""
    return Response(Service.from_connection(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)
