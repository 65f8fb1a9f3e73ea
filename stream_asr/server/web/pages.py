"""Static files: the caption page at ``/``, the overlay at ``/captions``, and their scripts and styles."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter()

_FOLDER = Path(__file__).parent / "static"

_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""`mimetypes` is not used: it depends on the operating system, and some systems serve JavaScript as plain text."""

_FILES = {
    "/": _FOLDER / "index.html",
    "/captions": _FOLDER / "captions.html",
    **{f"/static/{file.name}": file for file in _FOLDER.iterdir() if file.suffix in _MEDIA_TYPES},
}
"""All files by path. Paths are fixed at import, so no request can reach another file."""

OPEN_PATHS = tuple(_FILES)
"""Paths that need no token: the files contain no secrets, and the page asks the user for the token."""

_HEADERS = {
    # Scripts, styles and connections of this server only; no inline code, no eval.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",  # the URL may contain a token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # modules of different versions are incompatible
}


def _add_route(path: str, file: Path) -> None:
    @router.api_route(path, methods=["GET", "HEAD"], name=file.name)
    async def send_file() -> FileResponse:
        return FileResponse(file, media_type=_MEDIA_TYPES[file.suffix], headers=_HEADERS)


for path, file in _FILES.items():
    _add_route(path, file)
