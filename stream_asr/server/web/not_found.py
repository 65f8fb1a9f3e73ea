"""Websockets at paths where there is no protocol: a plain 404, which a server would not give by itself."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from stream_asr.server.responses import deny, error_response

router = APIRouter()


@router.websocket("/{path:path}")
async def unknown(websocket: WebSocket, path: str) -> None:
    reason = f"no websocket protocol is spoken at /{path}; the paths are in the README, the native one is /v1/stream"
    await deny(websocket, error_response(404, "not_found", reason))
