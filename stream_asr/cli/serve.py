"""``stream-asr serve``: parse the options and run the server."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Optional

import typer

from stream_asr.cli.loading import describe_models, load_recognizer
from stream_asr.cli.options import DecodingOptions, ModelOptions, SpeechOptions
from stream_asr.errors import InputError
from stream_asr.server.settings import ServerSettings

_DEFAULTS = ServerSettings()
_ACCESS, _LIMITS = "Access control", "Limits"


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all IPv4 interfaces.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="Port to listen on; 0 for any free port.")
    ] = 8765,
    token: Annotated[
        Optional[list[str]],
        typer.Option(
            "--token",
            envvar="STREAM_ASR_TOKEN",
            help="Require clients to send this token. Repeatable. Other users of the machine can read command lines; "
            "prefer the environment variable or --token-file.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    token_file: Annotated[
        Optional[Path], typer.Option("--token-file", help="File with tokens, one per line.", rich_help_panel=_ACCESS)
    ] = None,
    allow_origin: Annotated[
        Optional[list[str]],
        typer.Option(
            "--allow-origin",
            help="Allow web pages of this origin to connect, such as https://example.org; * allows all. Repeatable.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    certfile: Annotated[
        Optional[Path], typer.Option("--certfile", help="Certificate chain for TLS (PEM).", rich_help_panel=_ACCESS)
    ] = None,
    keyfile: Annotated[
        Optional[Path], typer.Option("--keyfile", help="Private key of the certificate (PEM).", rich_help_panel=_ACCESS)
    ] = None,
    max_sessions: Annotated[
        int, typer.Option("--max-sessions", help="Maximum number of open sessions.", rich_help_panel=_LIMITS)
    ] = _DEFAULTS.max_sessions,
    max_speed: Annotated[
        float,
        typer.Option(
            "--max-speed", help="Maximum rate of incoming audio, in multiples of real time.", rich_help_panel=_LIMITS
        ),
    ] = _DEFAULTS.max_speed,
    max_message_bytes: Annotated[
        int, typer.Option("--max-message-bytes", help="Maximum size of a websocket message.", rich_help_panel=_LIMITS)
    ] = _DEFAULTS.max_message_bytes,
    max_upload_bytes: Annotated[
        int, typer.Option("--max-upload-bytes", help="Maximum size of an uploaded recording.", rich_help_panel=_LIMITS)
    ] = _DEFAULTS.max_upload_bytes,
    idle_timeout_s: Annotated[
        float,
        typer.Option(
            "--idle-timeout",
            help="Close a connection after this many seconds without a message.",
            rich_help_panel=_LIMITS,
        ),
    ] = _DEFAULTS.idle_timeout_s,
    max_duration_s: Annotated[
        float, typer.Option("--max-duration", help="Maximum seconds of audio per session.", rich_help_panel=_LIMITS)
    ] = _DEFAULTS.max_duration_s,
    resume_window_s: Annotated[
        float,
        typer.Option(
            "--resume-window",
            help="Seconds for which a session is kept after its connection was lost.",
            rich_help_panel=_LIMITS,
        ),
    ] = _DEFAULTS.resume_window_s,
    grace_s: Annotated[
        float,
        typer.Option(
            "--grace", help="Seconds to wait for the last finals after SIGTERM or Ctrl-C.", rich_help_panel=_LIMITS
        ),
    ] = _DEFAULTS.grace_s,
    *,
    model: ModelOptions,
    words: DecodingOptions,
    speech: SpeechOptions,
) -> None:
    """Serve the recognizer over websockets and HTTP.

    Prints a JSON line for each session that has ended. The protocols are described in docs/protocols.md; clients/ has
    example clients. Health checks are at /healthz and /readyz, Prometheus metrics at /metrics.

    Examples:

      stream-asr serve

      STREAM_ASR_TOKEN=... stream-asr serve --host 0.0.0.0 --certfile cert.pem --keyfile key.pem
    """
    settings = ServerSettings(
        max_sessions=max_sessions,
        max_speed=max_speed,
        max_message_bytes=max_message_bytes,
        max_upload_bytes=max_upload_bytes,
        idle_timeout_s=idle_timeout_s,
        max_duration_s=max_duration_s,
        resume_window_s=resume_window_s,
        grace_s=grace_s,
        tokens=(*(token or ()), *_read_tokens(token_file)),
        allow_origins=tuple(allow_origin or ()),
    )
    if keyfile is not None and certfile is None:
        raise InputError("--keyfile requires --certfile")
    try:
        from stream_asr.server.run import Tls, listen, run
    except ModuleNotFoundError as error:
        raise InputError(
            f'the server requires a package that is not installed ({error.name}): pip install "stream-asr[server]"'
        ) from error
    tls = Tls(certfile, keyfile) if certfile is not None else None
    listener = listen(host, port)  # before the slow loading of the model, so that a port in use fails at once
    address, port = listener.getsockname()[:2]
    if not (settings.tokens or ip_address(address.partition("%")[0]).is_loopback):
        print(
            "stream-asr: warning: no token is set, so anyone who can reach this machine may connect; see --token",
            file=sys.stderr,
        )
    netloc = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    secure = "s" if tls else ""

    def print_addresses() -> None:
        print(
            f"stream-asr: serving {describe_models(recognizer)} on http{secure}://{netloc}, "
            f"websocket ws{secure}://{netloc}/v1/stream; Ctrl-C stops",
            file=sys.stderr,
            flush=True,
        )

    with load_recognizer(model, words, speech) as recognizer:
        run(recognizer, settings, listener, tls=tls, on_ready=print_addresses)


def _read_tokens(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        tokens = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read --token-file {path}: {error}") from error
    if not tokens:
        raise InputError(f"--token-file {path} contains no tokens")
    return tokens
