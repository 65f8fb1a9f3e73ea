"""Runs the app in a process of its own: the listening socket, TLS, signals and the way out."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from stream_asr.errors import InputError, StreamASRError
from stream_asr.recognizer import Recognizer
from stream_asr.server.app import create_app
from stream_asr.server.log import JsonFormatter
from stream_asr.server.sessions.registry import SessionRegistry
from stream_asr.server.settings import (
    LISTEN_BACKLOG,
    PING_INTERVAL_S,
    SEND_BUFFER_BYTES,
    TCP_USER_TIMEOUT_MS,
    TRANSPORT_SIZE_FACTOR,
    ServerSettings,
)


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate chain and its key, PEM.

    Raises:
        InputError: they cannot be read or do not belong together.
    """

    certfile: Path
    keyfile: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.certfile, self.keyfile):
            if path is not None and not path.is_file():
                raise InputError(f"there is no file {path} with a certificate or key")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certfile, self.keyfile)
        except (OSError, ssl.SSLError) as error:
            files = self.certfile if self.keyfile is None else f"{self.certfile} with {self.keyfile}"
            raise InputError(
                f"{files} cannot be used for TLS; needed are PEM files that belong together: {error}"
            ) from error


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    Raises:
        StreamASRError: the port is taken, or may not be used.
        InputError: there is no such host here.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen on {host!r}: {error}") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # where it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit both.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise StreamASRError(
            f"cannot listen on port {port} of {host}: {error.strerror}; choose another one with --port"
        ) from error
    return listener


def run(
    recognizer: Recognizer,
    settings: ServerSettings,
    listener: socket.socket,
    *,
    tls: Tls | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then give everybody the last finals; a second Ctrl-C ends at once.

    Args:
        on_ready: called when connections are accepted.
    """
    _log_json()
    make_server(recognizer, settings, tls=tls, on_ready=on_ready).run(sockets=[listener])


def make_server(
    recognizer: Recognizer,
    settings: ServerSettings,
    *,
    tls: Tls | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> uvicorn.Server:
    """A server for a socket that listens; setting its ``should_exit`` does what SIGTERM does."""
    app = create_app(recognizer, settings)
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",  # stops reading from the socket while a message waits: the back-pressure
        ws_max_size=TRANSPORT_SIZE_FACTOR * settings.max_message_bytes,
        ws_per_message_deflate=False,  # audio hardly shrinks
        ws_ping_interval=PING_INTERVAL_S,
        # No limit for the answer: it waits behind the audio of a client that we make wait. Those that are gone
        # are found by the idle timeout and by TCP.
        ws_ping_timeout=None,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(settings.close_timeout_s)),
        ssl_certfile=tls.certfile if tls else None,
        ssl_keyfile=tls.keyfile if tls else None,
    )
    return _Server(config, app.state.service.sessions, on_ready)


def _log_json() -> None:
    """SessionRegistry as lines of JSON on stdout; what is wrong, in the same form, on stderr."""
    for logger, stream, level in (
        (logging.getLogger("stream_asr.server.sessions.registry"), sys.stdout, logging.INFO),
        (logging.getLogger("stream_asr.server.auth"), sys.stdout, logging.INFO),
        (logging.getLogger(), sys.stderr, logging.WARNING),
    ):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    # Said of every websocket that is refused before the upgrade, which the gate and the routes tell better.
    logging.getLogger("uvicorn.error").addFilter(lambda record: _NO_HANDSHAKE not in record.getMessage())


_NO_HANDSHAKE = "ASGI callable returned without completing handshake"


class _Server(uvicorn.Server):
    """Lets sessions end well before the connections are closed."""

    def __init__(self, config: uvicorn.Config, sessions: SessionRegistry, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._sessions, self._on_ready = sessions, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        draining = asyncio.ensure_future(self._sessions.drain())
        while not (draining.done() or self.force_exit):
            await asyncio.wait({draining}, timeout=0.1)
        draining.cancel()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not kept and raised again at the end, as uvicorn does: to have been told to stop is no failure.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
