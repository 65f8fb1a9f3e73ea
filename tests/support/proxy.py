"""TCP proxies that break connections."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with a timeout of 0: close resets the connection, and data in flight is lost in both directions."""

_READ_BYTES = 1 << 12


class ResettingProxy:
    """Proxy in front of a local server that resets connections, as a failing network does.

    Args:
        target_port: port of the server.
        reset_limit: number of connections to reset by themselves, each after a random number of bytes from the client.
        seed: for these random numbers.

    Attributes:
        port: port to connect to.
        resets: number of connections reset by themselves so far.
    """

    def __init__(self, target_port: int, *, reset_limit: int = 0, seed: int = 0) -> None:
        self._target_port, self._reset_limit, self._random = target_port, reset_limit, random.Random(seed)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.resets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def reset_connections(self) -> None:
        """Reset all connections."""
        while self._pairs:
            _reset(*self._pairs.pop())

    def close(self) -> None:
        """Accept no more connections, and reset all of them."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_connections()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                self._pairs.append((client, server))
                limit = self._random.randint(400, 60_000) if self.resets < self._reset_limit else None
                threading.Thread(target=self._forward, args=(client, server, limit), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, None), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, limit_bytes: int | None) -> None:
        """Forward data until the source is closed, or reset both connections after ``limit_bytes``."""
        forwarded = 0
        with suppress(OSError):
            while data := source.recv(_READ_BYTES):
                target.sendall(data)
                forwarded += len(data)
                if limit_bytes is not None and forwarded > limit_bytes:
                    self.resets += 1
                    _reset(source, target)
                    return
            target.shutdown(socket.SHUT_WR)


def _reset(*sockets: socket.socket) -> None:
    for end in sockets:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.shutdown(socket.SHUT_RD)  # wakes the thread that reads from this socket
        end.close()


@contextmanager
def resetting_proxy(target_port: int, *, reset_limit: int = 0, seed: int = 0) -> Iterator[ResettingProxy]:
    """Run a `ResettingProxy`."""
    proxy = ResettingProxy(target_port, reset_limit=reset_limit, seed=seed)
    try:
        yield proxy
    finally:
        proxy.close()
