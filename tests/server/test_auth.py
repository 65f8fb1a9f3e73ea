"""Who may come in, and that no log tells how."""

from __future__ import annotations

import datetime
import ipaddress
import json
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from stream_asr import InputError
from stream_asr.server.run import Tls
from stream_asr.server.settings import ServerSettings
from tests.support.fakes import conversation
from tests.support.serving import NativeClient, RunningServer, run_server

TOKEN, OTHER = "s3cret-tok%n", "another-secret"


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    with run_server(tokens=(TOKEN, OTHER), allow_origins=("https://captions.example",)) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("", {"Authorization": f"Bearer {TOKEN}"}),
        ("", {"Authorization": f"Token {OTHER}"}),
        ("", {"authorization": f"bearer {TOKEN}"}),
        ("?token=s3cret-tok%25n", {}),
        (f"?x=1&token={OTHER}&y=2", {}),
    ],
)
def test_a_token_opens_and_no_log_has_it(
    guarded: RunningServer, path: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO),
        guarded.connect(f"/v1/stream{path}", additional_headers=headers) as connection,
    ):
        client = NativeClient(connection)
        client.start()
        client.send_message("finish")
        client.receive_until("done")
    assert guarded.get(f"/metrics{path}", headers=headers).status_code == 200
    assert caplog.text
    for secret in (TOKEN, OTHER, "s3cret-tok"):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("", {}),
        ("", {"Authorization": "Bearer wrong"}),
        ("", {"Authorization": f"Basic {OTHER}"}),
        ("", {"Authorization": f"Bearer {OTHER}x"}),
        ("", {"Authorization": "Bearer"}),
        ("?token=", {}),
        ("?token=wr%C3%B6ng", {}),
        (f"?Token={OTHER}", {}),
    ],
)
def test_without_one_the_door_stays_shut(
    guarded: RunningServer, path: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with (
        pytest.raises(InvalidStatus) as refused,
        guarded.connect(f"/v1/stream{path}", additional_headers=headers),
    ):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["code"] == "unauthorized"
    answer = guarded.get(f"/metrics{path}", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "this token is not accepted" in caplog.text or "a token is required" in caplog.text
    assert guarded.get("/healthz").status_code == guarded.get("/readyz").status_code == 200


def test_websockets_where_there_is_no_protocol(guarded: RunningServer) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with pytest.raises(InvalidStatus) as refused, guarded.connect("/v1/steam", additional_headers=headers):
        pass
    assert refused.value.response.status_code == 404
    assert "there is no websocket endpoint at /v1/steam" in (refused.value.response.body or b"").decode()


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        ("https://captions.example", True),
        ("http://{address}", True),
        ("https://evil.example", False),
        ("https://captions.example.evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_pages_from_elsewhere_need_to_be_allowed(guarded: RunningServer, origin: str, welcome: bool) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": origin.format(address=guarded.address)}
    assert guarded.get("/metrics", headers=headers).status_code == (200 if welcome else 403)
    if welcome:
        with guarded.connect(additional_headers=headers) as connection:
            NativeClient(connection).start()
    else:
        with pytest.raises(InvalidStatus) as refused, guarded.connect(additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "path", ["/v1/stream", "/vosk", "/", "/v1/realtime", "/v1/listen?encoding=alaw&sample_rate=8000"]
)
@pytest.mark.parametrize(
    ("offered", "welcome"),
    [
        (["token", TOKEN], True),
        (["bearer", "s3cret-tok%25n"], True),
        (["realtime", f"openai-insecure-api-key.{OTHER}"], True),
        (["token", f"{OTHER}x"], False),
    ],
)
def test_a_browser_sends_its_token_as_a_subprotocol(
    guarded: RunningServer, path: str, offered: list[Any], welcome: bool
) -> None:
    if welcome:
        with guarded.connect(path, subprotocols=offered) as connection:
            assert connection.subprotocol == offered[0], "with none at all, a browser would give up"
    else:
        with pytest.raises(InvalidStatus) as refused, guarded.connect(path, subprotocols=offered):
            pass
        assert refused.value.response.status_code == 401


def test_pages_from_allowed_origins_may_read_the_answers(guarded: RunningServer) -> None:
    page = {"Origin": "https://captions.example"}
    asking = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with httpx.Client(trust_env=False) as client:
        may = client.options(f"http://{guarded.address}/v1/listen", headers=asking)
    assert may.status_code == 200
    assert "POST" in may.headers["access-control-allow-methods"]
    assert may.headers["access-control-allow-headers"] == "authorization"
    wrong = guarded.post("/v1/listen", headers=page)
    bad = guarded.post("/v1/listen", headers={**page, "Authorization": f"Bearer {TOKEN}"})
    assert (wrong.status_code, bad.status_code) == (401, 400)
    for answer in (may, wrong, bad):
        assert answer.headers["access-control-allow-origin"] == "https://captions.example"
    foreign = guarded.get("/readyz", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_settings_do_not_show_tokens() -> None:
    assert TOKEN not in repr(ServerSettings(tokens=(TOKEN,)))


def test_all_origins_can_be_allowed() -> None:
    with run_server(allow_origins=("*",)) as server:
        assert server.get("/readyz", headers={"Origin": "https://anywhere.example"}).status_code == 200


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Self-signed, for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    keyfile.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certfile, keyfile


def test_tls(certificate: tuple[Path, Path]) -> None:
    trust: Any = ssl.create_default_context(cafile=str(certificate[0]))
    with (
        run_server(tls=Tls(*certificate)) as server,
        connect(f"wss://{server.address}/v1/stream", ssl=trust, proxy=None) as connection,
    ):
        client = NativeClient(connection)
        client.start()
        client.send(conversation("hello world"))
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == ["hello world"]


def test_what_is_no_certificate_is_refused(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"missing\.pem does not exist"):
        Tls(tmp_path / "missing.pem")
    with pytest.raises(InputError, match=r"cannot use .*cert\.pem for TLS"):
        Tls(certificate[0])
