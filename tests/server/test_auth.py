"""Access control: tokens, origins, CORS and TLS; secrets do not appear in logs."""

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

TOKEN, OTHER_TOKEN = "s3cret-tok%n", "another-secret"


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    with run_server(tokens=(TOKEN, OTHER_TOKEN), allow_origins=("https://captions.example",)) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("", {"Authorization": f"Bearer {TOKEN}"}),
        ("", {"Authorization": f"Token {OTHER_TOKEN}"}),
        ("", {"authorization": f"bearer {TOKEN}"}),
        ("?token=s3cret-tok%25n", {}),
        (f"?x=1&token={OTHER_TOKEN}&y=2", {}),
    ],
)
def test_valid_token_is_accepted_and_not_logged(
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
    for secret in (TOKEN, OTHER_TOKEN, "s3cret-tok"):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("", {}),
        ("", {"Authorization": "Bearer wrong"}),
        ("", {"Authorization": f"Basic {OTHER_TOKEN}"}),
        ("", {"Authorization": f"Bearer {OTHER_TOKEN}x"}),
        ("", {"Authorization": "Bearer"}),
        ("?token=", {}),
        ("?token=wr%C3%B6ng", {}),
        (f"?Token={OTHER_TOKEN}", {}),
    ],
)
def test_request_without_valid_token_is_refused(
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
    response = guarded.get(f"/metrics{path}", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "this token is not accepted" in caplog.text or "a token is required" in caplog.text
    assert guarded.get("/healthz").status_code == guarded.get("/readyz").status_code == 200


def test_websocket_at_unknown_path_is_refused_with_404(guarded: RunningServer) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with pytest.raises(InvalidStatus) as refused, guarded.connect("/v1/steam", additional_headers=headers):
        pass
    assert refused.value.response.status_code == 404
    assert "there is no websocket endpoint at /v1/steam" in (refused.value.response.body or b"").decode()


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("https://captions.example", True),
        ("http://{address}", True),
        ("https://evil.example", False),
        ("https://captions.example.evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_pages_of_other_origins_must_be_allowed(guarded: RunningServer, origin: str, accepted: bool) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": origin.format(address=guarded.address)}
    assert guarded.get("/metrics", headers=headers).status_code == (200 if accepted else 403)
    if accepted:
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
    ("subprotocols", "accepted"),
    [
        (["token", TOKEN], True),
        (["bearer", "s3cret-tok%25n"], True),
        (["realtime", f"openai-insecure-api-key.{OTHER_TOKEN}"], True),
        (["token", f"{OTHER_TOKEN}x"], False),
    ],
)
def test_browser_can_send_its_token_as_a_subprotocol(
    guarded: RunningServer, path: str, subprotocols: list[Any], accepted: bool
) -> None:
    if accepted:
        with guarded.connect(path, subprotocols=subprotocols) as connection:
            assert connection.subprotocol == subprotocols[0], "browsers fail the connection without a subprotocol"
    else:
        with pytest.raises(InvalidStatus) as refused, guarded.connect(path, subprotocols=subprotocols):
            pass
        assert refused.value.response.status_code == 401


def test_pages_of_allowed_origins_can_read_responses(guarded: RunningServer) -> None:
    origin = {"Origin": "https://captions.example"}
    request_headers = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    with httpx.Client(trust_env=False) as client:
        preflight = client.options(f"http://{guarded.address}/v1/listen", headers=request_headers)
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    unauthorized = guarded.post("/v1/listen", headers=origin)
    bad_request = guarded.post("/v1/listen", headers={**origin, "Authorization": f"Bearer {TOKEN}"})
    assert (unauthorized.status_code, bad_request.status_code) == (401, 400)
    for response in (preflight, unauthorized, bad_request):
        assert response.headers["access-control-allow-origin"] == "https://captions.example"
    foreign = guarded.get("/readyz", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_repr_of_settings_contains_no_tokens() -> None:
    assert TOKEN not in repr(ServerSettings(tokens=(TOKEN,)))


def test_asterisk_allows_all_origins() -> None:
    with run_server(allow_origins=("*",)) as server:
        assert server.get("/readyz", headers={"Origin": "https://anywhere.example"}).status_code == 200


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
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
    certfile.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    keyfile.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certfile, keyfile


def test_session_over_tls(certificate: tuple[Path, Path]) -> None:
    tls_context: Any = ssl.create_default_context(cafile=str(certificate[0]))
    with (
        run_server(tls=Tls(*certificate)) as server,
        connect(f"wss://{server.address}/v1/stream", ssl=tls_context, proxy=None) as connection,
    ):
        client = NativeClient(connection)
        client.start()
        client.send(conversation("hello world"))
        client.send_message("finish")
        client.receive_until("done")
        assert client.finals == ["hello world"]


def test_unusable_certificate_is_rejected(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"missing\.pem does not exist"):
        Tls(tmp_path / "missing.pem")
    with pytest.raises(InputError, match=r"cannot use .*cert\.pem for TLS"):
        Tls(certificate[0])
