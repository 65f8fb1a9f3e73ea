"""Sources for live streams: files paced like a microphone, and raw PCM from a pipe."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.audio.pcm import AudioConverter
from stream_asr.config import AUDIO
from stream_asr.errors import InputError

_FILE_MAGIC = (b"RIFF", b"RF64", b"OggS", b"fLaC", b"ID3")
_MAGIC_BYTES = 4


def pace_realtime(
    blocks: Iterable[FloatArray],
    sample_rate: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[FloatArray]:
    """Split blocks into 20 ms and yield each one at the time at which a microphone would have captured it.

    A slow consumer receives overdue blocks without delay: like a sound card, the source does not wait for it.

    Args:
        blocks: arrays of shape (samples, ...).
        sample_rate: sample rate of the blocks in Hz.
        clock: returns the current time in seconds.
        sleep: waits for a number of seconds.
    """
    size = max(1, round(AUDIO.paced_block_ms * sample_rate / 1000))
    start_s = clock()
    yielded_samples = 0
    for block in blocks:
        for offset in range(0, len(block), size):
            part = block[offset : offset + size]
            yielded_samples += len(part)
            ahead_s = start_s + yielded_samples / sample_rate - clock()
            if ahead_s > 0:
                sleep(ahead_s)
            yield part


def read_raw_pcm(pipe: BinaryIO, converter: AudioConverter) -> Iterator[FloatArray]:
    """Read raw PCM from a pipe until it ends, and convert it to 16 kHz mono.

    Yields:
        float32, shape (samples,), as data arrives. While no data arrives, an empty block every 20 ms, so that the
        caller can show captions.

    Raises:
        InputError: the pipe cannot be read, or its data starts with the header of an audio file.
    """
    # Read from the raw file below sys.stdin.buffer. A thread that blocks in the buffered reader holds its lock, which
    # Python needs at exit.
    raw = getattr(pipe, "raw", pipe)
    reads: queue.Queue[bytes | OSError] = queue.Queue(AUDIO.pipe_max_queued_reads)

    def read() -> None:
        try:
            while block := raw.read(AUDIO.pipe_read_bytes):
                reads.put(block)
            reads.put(b"")
        except OSError as error:
            reads.put(error)

    # A thread, because not every operating system can read a pipe with a timeout.
    threading.Thread(target=read, name="stream_asr-stdin", daemon=True).start()
    header = b""
    while True:
        try:
            block = reads.get(timeout=AUDIO.pipe_poll_s)
        except queue.Empty:
            yield np.zeros(0, dtype=np.float32)
            continue
        if isinstance(block, OSError):
            raise InputError(f"stdin cannot be read: {block.strerror or block}")
        if not block:
            break
        if len(header) < _MAGIC_BYTES:
            header += block[: _MAGIC_BYTES - len(header)]
            if header.startswith(_FILE_MAGIC):
                raise InputError(
                    "stdin starts with the header of an audio file, but `listen -` reads raw PCM. Use `stream-asr "
                    "stream FILE` or `stream-asr transcribe FILE`, or decode the file first: "
                    "ffmpeg -i FILE -f s16le -ar 16000 -ac 1 - | stream-asr listen -"
                )
        yield converter.push(block)
    yield converter.finish()
