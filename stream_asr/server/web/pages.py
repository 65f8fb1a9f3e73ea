"""The caption page at ``/``, the overlay at ``/captions``, and what both are made of."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter()

_FOLDER = Path(__file__).parent / "static"

_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Not those of `mimetypes`: it asks the machine, and some machines take modules for plain text."""

_FILES = {
    "/": _FOLDER / "index.html",
    "/captions": _FOLDER / "captions.html",
    **{f"/static/{file.name}": file for file in _FOLDER.iterdir() if file.suffix in _MEDIA_TYPES},
}
"""All there is by its path: no request can name another file."""

OPEN_PATHS = tuple(_FILES)
"""They hold no secrets, and the page has to be there to ask for the token."""

_HEADERS = {
    # Scripts, styles and connections of this server only; nothing inline, nothing evaluated.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",  # the address may hold a token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # modules of two versions do not work together
}


def _serve(path: str, file: Path) -> None:
    @router.api_route(path, methods=["GET", "HEAD"], name=file.name)
    async def send() -> FileResponse:
        return FileResponse(file, media_type=_MEDIA_TYPES[file.suffix], headers=_HEADERS)


for path, file in _FILES.items():
    _serve(path, file)
