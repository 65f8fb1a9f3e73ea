"""Run the application in a process: listening socket, TLS, signals, logging and shutdown."""

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
    SHUTDOWN_POLL_S,
    TCP_USER_TIMEOUT_MS,
    TRANSPORT_SIZE_FACTOR,
    ServerSettings,
)


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate chain and private key, in PEM files.

    Attributes:
        certfile: certificate chain.
        keyfile: private key; None if it is in ``certfile``.

    Raises:
        InputError: the files cannot be read, or the key does not match the certificate.
    """

    certfile: Path
    keyfile: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.certfile, self.keyfile):
            if path is not None and not path.is_file():
                raise InputError(f"the certificate or key file {path} does not exist")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certfile, self.keyfile)
        except (OSError, ssl.SSLError) as error:
            files = self.certfile if self.keyfile is None else f"{self.certfile} with {self.keyfile}"
            raise InputError(
                f"cannot use {files} for TLS: {error}; a certificate and its key are needed as PEM files"
            ) from error


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: name or address of a local interface.
        port: 0 for any free port.

    Raises:
        InputError: the host is unknown.
        StreamASRError: the port is in use, or binding it is not permitted.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen on {host!r}: {error}") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # on Windows, the option would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit the next two options.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise StreamASRError(
            f"cannot listen on port {port} of {host}: {error.strerror}; choose another port with --port"
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
    """Serve until SIGTERM or Ctrl-C. Every client then gets its last finals; a second Ctrl-C stops at once.

    Args:
        recognizer: recognizer of all sessions. The caller closes it.
        settings: settings of the server.
        listener: socket from `listen`.
        tls: serve over TLS.
        on_ready: called once connections are accepted.
    """
    _configure_logging()
    make_server(recognizer, settings, tls=tls, on_ready=on_ready).run(sockets=[listener])


def make_server(
    recognizer: Recognizer,
    settings: ServerSettings,
    *,
    tls: Tls | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> uvicorn.Server:
    """Return a server that has not been started. Set its ``should_exit`` to shut it down, as SIGTERM does."""
    app = create_app(recognizer, settings)
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",  # stops reading from the socket while a message is pending, which gives backpressure
        ws_max_size=TRANSPORT_SIZE_FACTOR * settings.max_message_bytes,
        ws_per_message_deflate=False,  # audio is hardly compressible
        ws_ping_interval=PING_INTERVAL_S,
        # No timeout for pongs: the pong of a client that is slowed down waits behind its audio. Lost connections are
        # detected by the idle timeout and by TCP.
        ws_ping_timeout=None,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(settings.close_timeout_s)),
        ssl_certfile=tls.certfile if tls else None,
        ssl_keyfile=tls.keyfile if tls else None,
    )
    return _Server(config, app.state.service.sessions, on_ready)


def _configure_logging() -> None:
    """Log sessions and refused requests to stdout, warnings and errors to stderr, all as JSON lines."""
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
    # uvicorn logs this for every rejected handshake, which is not an error and is logged or counted elsewhere.
    logging.getLogger("uvicorn.error").addFilter(lambda record: _NO_HANDSHAKE not in record.getMessage())


_NO_HANDSHAKE = "ASGI callable returned without completing handshake"


class _Server(uvicorn.Server):
    """Uvicorn server that drains sessions before it closes connections."""

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
            await asyncio.wait({draining}, timeout=SHUTDOWN_POLL_S)
        draining.cancel()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Unlike uvicorn's, this handler does not raise the signal again at exit: a requested shutdown is a success.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
