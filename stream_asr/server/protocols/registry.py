"""The routers of all protocols and pages, and their formats of error responses."""

from __future__ import annotations

from fastapi import APIRouter

from stream_asr.server.protocols.deepgram import route as deepgram
from stream_asr.server.protocols.native import route as native
from stream_asr.server.protocols.openai import realtime_route as openai_realtime
from stream_asr.server.protocols.openai import transcription_route as openai_transcription
from stream_asr.server.protocols.vosk import route as vosk
from stream_asr.server.responses import ErrorResponseFactory
from stream_asr.server.web import health, not_found, pages

# The first match counts, so not_found comes last.
_ROUTE_MODULES = (health, native, openai_transcription, openai_realtime, vosk, deepgram, pages, not_found)
ROUTERS: tuple[APIRouter, ...] = tuple(module.router for module in _ROUTE_MODULES)

ERROR_RESPONSES: dict[str, ErrorResponseFactory] = {
    **dict.fromkeys(("/v1/audio/", "/v1/models", "/v1/realtime"), openai_transcription.error_response),
    "/v1/listen": deepgram.error_response,
}
"""Error responses by path prefix, for protocols with a format of their own. They are used for missing tokens, too."""
