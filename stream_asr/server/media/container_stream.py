"""Audio in a container that comes bit by bit, as browsers record it: unpacked and decoded as it arrives.

The bytes go through a `ContainerPipe` to a thread that decodes them. It makes one block at a time, when the session has taken
the one before, and the pipe is bounded: so neither the thread nor the client runs ahead of the session.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from importlib.util import find_spec

from stream_asr.array_types import FloatArray
from stream_asr.audio.container import ContainerReader
from stream_asr.audio.pcm import AudioConverter
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError
from stream_asr.server.errors import SessionError
from stream_asr.server.sessions.request import AudioFormat

DECODED_FORMAT = AudioFormat(SAMPLE_RATE, "pcm_f32le")
"""The format of what `unpacked` gives."""

_PIPE_BYTES = 1 << 16


def require_decoder() -> None:
    """Before a container is accepted.

    Raises:
        SessionError: nothing is installed that could decode it.
    """
    if find_spec("av") is None:
        raise SessionError(
            "no_decoder",
            "this server cannot decode containers: it lacks PyAV (pip install 'stream-asr[av]'); raw audio is accepted",
        )


class ContainerPipe:
    """Bytes that a coroutine writes, and that a thread reads like a file.

    It holds `_PIPE_BYTES` and no more than one message besides.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._taken = asyncio.Event()
        self._written = threading.Condition()
        self._held = bytearray()
        self._ended = False
        self._is_awaited = False  # all was read, and the reader wants more
        self._is_closed = False

    # --- for the coroutine --------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Returns when more may be written, which is never once the reader has left."""
        with self._written:
            self._held += data
            self._is_awaited = False
            self._written.notify()
        await self._until(lambda: len(self._held) < _PIPE_BYTES and not self._is_closed)

    async def wait_consumed(self) -> None:
        """Wait until the reader has made what it can of all that was written, and waits for more, or has left."""
        await self._until(lambda: self._is_awaited or self._is_closed)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._taken.clear()
            if not condition():
                await self._taken.wait()

    def write_eof(self) -> None:
        """Nothing more will be written. Calling it again does nothing."""
        with self._written:
            self._ended = True
            self._written.notify()

    def close(self) -> None:
        """Nothing more will be read."""
        self._is_closed = True
        self._taken.set()

    # --- for the thread -----------------------------------------------------------------------------------

    def wait(self) -> bool:
        """Wait for something to read; False when the end comes first."""
        with self._written:
            while not (self._held or self._ended):
                self._is_awaited = True
                self._tell()
                self._written.wait()
            return bool(self._held)

    def read(self, size: int, /) -> bytes:
        """What there is, of up to ``size`` bytes, as soon as there is anything; nothing at the end."""
        self.wait()
        with self._written:
            piece = bytes(self._held[:size])
            del self._held[:size]
        self._tell()
        return piece

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody is waiting any more
            self._loop.call_soon_threadsafe(self._taken.set)


def decode_container(pipe: ContainerPipe) -> Generator[FloatArray, None, None]:
    """The sound of a container, as soon as it can be decoded: blocks of shape (samples,) in the format `DECODED_FORMAT`.

    They are what a stream of the recognizer would make of the recording. Blocks in the thread that takes them.

    Args:
        pipe: brings the container; without a byte in it there is no sound.

    Raises:
        InputError: it cannot be decoded, or not any further.
    """
    if not pipe.wait():
        return
    with closing(ContainerReader("the stream", pipe, live=True)) as reader:
        converter = AudioConverter(reader.sample_rate, reader.channels)
        failure: InputError | None = None
        try:
            for block in reader.blocks():
                # Not collected to larger ones: the next one may have to wait for the client.
                yield converter.push(block)
        except InputError as error:
            failure = error  # what came before it is sound all the same
        yield converter.finish()
        if failure is not None:
            raise failure
