"""One thin route a protocol, between its codec and a `Session`. `ROUTERS` lists them all."""

from __future__ import annotations

from fastapi import APIRouter

from stream_asr.server.auth import Refusal
from stream_asr.server.routes import health, native, openai_audio, openai_realtime

ROUTERS: tuple[APIRouter, ...] = (health.router, native.router, openai_audio.router, openai_realtime.router)

REFUSALS: dict[str, Refusal] = dict.fromkeys(("/v1/audio/", "/v1/models", "/v1/realtime"), openai_audio.refusal)
"""How the routes whose paths begin like this say no to those without a token."""
