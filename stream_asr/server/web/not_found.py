"""Response to websocket handshakes at unknown paths. Without it, the framework answers 403 rather than 404."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from stream_asr.server.responses import deny, error_response

router = APIRouter()


@router.websocket("/{path:path}")
async def not_found(websocket: WebSocket, path: str) -> None:
    """Reject the handshake with status 404."""
    reason = f"there is no websocket endpoint at /{path}; the native protocol is at /v1/stream"
    await deny(websocket, error_response(404, "not_found", reason))
