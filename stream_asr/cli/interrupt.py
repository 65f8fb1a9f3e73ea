"""Ctrl-C handling: the first Ctrl-C asks for a clean stop, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """A flag that is true once the user has asked to stop."""

    def __init__(self) -> None:
        self._requested = threading.Event()

    def __bool__(self) -> bool:
        return self._requested.is_set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested.is_set():
            raise KeyboardInterrupt
        self._requested.set()


@contextmanager
def catch_interrupts() -> Iterator[Interrupt]:
    """Set a flag at the first SIGINT or SIGTERM inside the block. The second one raises KeyboardInterrupt."""
    interrupt = Interrupt()
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, interrupt._handle) for number in numbers]
    try:
        yield interrupt
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
