"""Static files as the server sends them. Their behavior in a browser is tested in test_browser.py."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_asr.server import web
from tests.support.serving import NativeClient, RunningServer, run_server

STATIC = Path(web.__file__).parent / "static"
TOKEN = "s3cret"


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    with run_server(tokens=(TOKEN,), max_sessions=1) as server:
        yield server


@pytest.mark.parametrize("path", ["/", "/captions", "/captions?size=40&token=wrong", "/static/page.js"])
def test_pages_need_no_token_and_load_from_this_server_only(guarded: RunningServer, path: str) -> None:
    response = guarded.get(path)
    assert response.status_code == 200
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/", "text/html"), ("/static/page.css", "text/css"), ("/static/icon.svg", "image/svg+xml")]
    + [(f"/static/{file.name}", "text/javascript") for file in sorted(STATIC.glob("*.js"))],
)
def test_media_types_do_not_depend_on_the_operating_system(guarded: RunningServer, path: str, media_type: str) -> None:
    assert guarded.get(path).headers["content-type"].partition(";")[0] == media_type


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd", "%2fetc%2fpasswd", ""])
def test_other_files_cannot_be_read(guarded: RunningServer, name: str) -> None:
    connection = http.client.HTTPConnection(guarded.address)  # sends the path without normalizing it
    connection.request("GET", f"/static/{name}", headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (404, {"detail": "Not Found"})
    connection.close()


def test_referenced_files_exist() -> None:
    names = {file.name for file in STATIC.iterdir()}
    for file in STATIC.glob("*.js"):
        assert set(re.findall(r'"\./(\w+\.js)"', file.read_text(encoding="utf-8"))) <= names
    for file in STATIC.glob("*.html"):
        references = re.findall(r'(?:href|src)="([^"]+)"', file.read_text(encoding="utf-8"))
        # References are relative, so that a proxy can serve the page under any path.
        assert {name.removeprefix("static/") for name in references} <= names


@pytest.mark.parametrize("name", ["index.html", "captions.html"])
def test_pages_have_no_inline_scripts_or_styles(name: str) -> None:
    page = (STATIC / name).read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", page)
    assert not re.search(r"<script[^>]*>[^<]", page)


def test_page_can_ask_whether_a_session_is_available(guarded: RunningServer) -> None:
    authorized = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/v1/stream").json()["code"] == "unauthorized"
    assert guarded.get("/v1/stream", headers=authorized).status_code == 204
    NativeClient(guarded.open(additional_headers=authorized)).start()
    response = guarded.get(f"/v1/stream?token={TOKEN}")
    assert (response.status_code, response.json()["code"]) == (503, "too_many_sessions")
