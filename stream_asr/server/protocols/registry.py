"""One thin route a protocol, between its codec and a `Session`. `ROUTERS` lists them all."""

from __future__ import annotations

from fastapi import APIRouter

from stream_asr.server.protocols.deepgram import route as deepgram
from stream_asr.server.protocols.native import route as native
from stream_asr.server.protocols.openai import transcription_route as openai_audio
from stream_asr.server.protocols.openai import realtime_route as openai_realtime
from stream_asr.server.protocols.vosk import route as vosk
from stream_asr.server.responses import ErrorResponseFactory
from stream_asr.server.web import health
from stream_asr.server.web import not_found as unknown
from stream_asr.server.web import pages as page

_ALL = (health, native, openai_audio, openai_realtime, vosk, deepgram, page, unknown)
ROUTERS: tuple[APIRouter, ...] = tuple(route.router for route in _ALL)

ERROR_RESPONSES: dict[str, ErrorResponseFactory] = {
    **dict.fromkeys(("/v1/audio/", "/v1/models", "/v1/realtime"), openai_audio.error_response),
    "/v1/listen": deepgram.error_response,
}
"""How the routes whose paths begin like this say no to those without a token."""
