"""``stream-asr serve``: options in, a running server out."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Optional

import typer

from stream_asr.cli.loading import load_recognizer
from stream_asr.cli.options import ModelOptions, SpeechOptions, WordOptions
from stream_asr.errors import InputError
from stream_asr.server.settings import ServerSettings

_DEFAULTS = ServerSettings()
_ACCESS, _LIMITS = "Who may come in", "Limits"


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is all of IPv4.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes a free one.")] = 8765,
    token: Annotated[
        Optional[list[str]],
        typer.Option(
            "--token",
            envvar="STREAM_ASR_TOKEN",
            help="Clients must send one of these. Repeatable. Other users of this machine can see command lines; "
            "the variable and the file are more private.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    token_file: Annotated[
        Optional[Path], typer.Option("--token-file", help="Tokens, one a line.", rich_help_panel=_ACCESS)
    ] = None,
    allow_origin: Annotated[
        Optional[list[str]],
        typer.Option(
            "--allow-origin",
            help="Web pages of this origin may connect, like https://example.org; * is all. Repeatable.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    certfile: Annotated[
        Optional[Path], typer.Option("--certfile", help="Certificate chain for TLS, PEM.", rich_help_panel=_ACCESS)
    ] = None,
    keyfile: Annotated[Optional[Path], typer.Option("--keyfile", help="Its key.", rich_help_panel=_ACCESS)] = None,
    max_sessions: Annotated[
        int, typer.Option("--max-sessions", help="Sessions at once.", rich_help_panel=_LIMITS)
    ] = _DEFAULTS.max_sessions,
    max_speed: Annotated[
        float,
        typer.Option(
            "--max-speed", help="Times real time; who sends audio faster has to wait.", rich_help_panel=_LIMITS
        ),
    ] = _DEFAULTS.max_speed,
    max_message_bytes: Annotated[
        int, typer.Option("--max-message-bytes", help="The longest websocket message.", rich_help_panel=_LIMITS)
    ] = _DEFAULTS.max_message_bytes,
    max_upload_bytes: Annotated[
        int, typer.Option("--max-upload-bytes", help="The longest recording in one request.", rich_help_panel=_LIMITS)
    ] = _DEFAULTS.max_upload_bytes,
    idle_timeout_s: Annotated[
        float,
        typer.Option("--idle-timeout", help="Seconds without any message from a client.", rich_help_panel=_LIMITS),
    ] = _DEFAULTS.idle_timeout_s,
    max_duration_s: Annotated[
        float, typer.Option("--max-duration", help="Seconds of audio of one session.", rich_help_panel=_LIMITS)
    ] = _DEFAULTS.max_duration_s,
    resume_window_s: Annotated[
        float,
        typer.Option(
            "--resume-window",
            help="Seconds that a session waits for a client that lost its connection.",
            rich_help_panel=_LIMITS,
        ),
    ] = _DEFAULTS.resume_window_s,
    grace_s: Annotated[
        float,
        typer.Option("--grace", help="Seconds for the last finals after SIGTERM or Ctrl-C.", rich_help_panel=_LIMITS),
    ] = _DEFAULTS.grace_s,
    *,
    model: ModelOptions,
    words: WordOptions,
    speech: SpeechOptions,
) -> None:
    """Serve captions over websockets, to any number of clients at once.

    Prints a line of JSON for every session that has ended. The protocol is in the README, clients to copy from are
    in clients/. There are /healthz and /readyz, and /metrics for Prometheus.

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
        tokens=(*(token or ()), *_tokens(token_file)),
        allow_origins=tuple(allow_origin or ()),
    )
    if keyfile is not None and certfile is None:
        raise InputError("--keyfile belongs to a --certfile")
    try:
        from stream_asr.server.run import Tls, listen, run
    except ModuleNotFoundError as error:
        raise InputError(
            f'the server needs a package that is not installed ({error.name}): pip install "stream-asr[server]"'
        ) from error
    tls = Tls(certfile, keyfile) if certfile is not None else None
    listener = listen(host, port)  # before the model is loaded: a taken port should not cost the seconds it takes
    address, port = listener.getsockname()[:2]
    if not (settings.tokens or ip_address(address.partition("%")[0]).is_loopback):
        print("stream-asr: warning: anyone who reaches this machine may connect; see --token", file=sys.stderr)
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    secure = "s" if tls else ""

    def announce() -> None:
        print(
            f"stream-asr: serving {recognizer.model.name} on http{secure}://{place}, "
            f"websocket ws{secure}://{place}/v1/stream; Ctrl-C ends",
            file=sys.stderr,
            flush=True,
        )

    with load_recognizer(model, words, speech) as recognizer:
        run(recognizer, settings, listener, tls=tls, on_ready=announce)


def _tokens(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path} cannot be read: {error}") from error
    if not lines:
        raise InputError(f"--token-file {path} holds no token")
    return lines
