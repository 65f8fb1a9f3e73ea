"""Audio containers that arrive as a stream, such as browsers record them; decoded as they arrive.

A `ContainerPipe` carries the bytes from the connection to a thread that decodes them. The thread decodes one block
when the session has accepted the previous block, and the pipe is bounded, so backpressure reaches the client.
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
from stream_asr.server.settings import CONTAINER_PIPE_BYTES

DECODED_FORMAT = AudioFormat(SAMPLE_RATE, "pcm_f32le")
"""Format of the blocks that `decode_container` yields."""


def require_decoder() -> None:
    """Check that containers can be decoded.

    Raises:
        SessionError: PyAV is not installed.
    """
    if find_spec("av") is None:
        raise SessionError(
            "no_decoder",
            "this server cannot decode containers: PyAV is not installed (pip install 'stream-asr[av]'); "
            "raw audio is accepted",
        )


class ContainerPipe:
    """Bounded buffer that a coroutine writes and a thread reads like a file.

    Holds up to `CONTAINER_PIPE_BYTES` and the message that exceeded them.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._progress = asyncio.Event()  # the thread has read, waits for data, or has closed the pipe
        self._readable = threading.Condition()
        self._buffer = bytearray()
        self._eof = False
        self._reader_waits = False  # all data has been read and decoded as far as possible
        self._closed = False

    # --- coroutine side -----------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Write ``data``; return when more may be written, or when the pipe was closed."""
        with self._readable:
            self._buffer += data
            self._reader_waits = False
            self._readable.notify()
        await self._wait_until(lambda: len(self._buffer) < CONTAINER_PIPE_BYTES and not self._closed)

    async def wait_consumed(self) -> None:
        """Wait until all written data has been decoded as far as possible, or the pipe was closed."""
        await self._wait_until(lambda: self._reader_waits or self._closed)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._progress.clear()
            if not condition():
                await self._progress.wait()

    def write_eof(self) -> None:
        """Mark the end of the data. Further calls do nothing."""
        with self._readable:
            self._eof = True
            self._readable.notify()

    def close(self) -> None:
        """Close the pipe once nothing reads from it any more."""
        self._closed = True
        self._progress.set()

    # --- thread side --------------------------------------------------------------------------------------

    def wait_readable(self) -> bool:
        """Wait for data; return False at the end of the data."""
        with self._readable:
            while not (self._buffer or self._eof):
                self._reader_waits = True
                self._notify_writer()
                self._readable.wait()
            return bool(self._buffer)

    def read(self, size: int, /) -> bytes:
        """Wait for data and return up to ``size`` bytes; return nothing at the end of the data."""
        self.wait_readable()
        with self._readable:
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
        self._notify_writer()
        return data

    def _notify_writer(self) -> None:
        with suppress(RuntimeError):  # the event loop is closed, so no coroutine is waiting
            self._loop.call_soon_threadsafe(self._progress.set)


def decode_container(pipe: ContainerPipe) -> Generator[FloatArray, None, None]:
    """Decode a container as it arrives. The generator waits for input, so iterate in a thread.

    The blocks are the same as those that a stream of the recognizer makes of the complete recording.

    Args:
        pipe: bytes of the container. An empty pipe yields no blocks.

    Yields:
        Samples in the format `DECODED_FORMAT`, shape (samples,), as soon as they can be decoded.

    Raises:
        InputError: the container cannot be decoded, or is damaged after the last block.
    """
    if not pipe.wait_readable():
        return
    with closing(ContainerReader("the stream", pipe, live=True)) as reader:
        converter = AudioConverter(reader.sample_rate, reader.channels)
        failure: InputError | None = None
        try:
            for block in reader.blocks():
                # Blocks are not merged into larger blocks: the next block may have to wait for the client.
                yield converter.push(block)
        except InputError as error:
            failure = error  # raised after the audio that was decoded before it
        yield converter.finish()
        if failure is not None:
            raise failure
