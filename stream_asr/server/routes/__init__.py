"""One thin route a protocol, between its codec and a `Session`. `ROUTERS` lists them all."""

from __future__ import annotations

from fastapi import APIRouter

from stream_asr.server.routes import health, native, page

ROUTERS: tuple[APIRouter, ...] = (health.router, native.router, page.router)
