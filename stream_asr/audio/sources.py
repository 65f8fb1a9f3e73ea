"""Audio for live streams from files, from stdin, and paced like a microphone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.audio.pcm import AudioConverter
from stream_asr.errors import InputError

BLOCK_S = 0.02
"""Length of a paced block: what a sound card delivers at a time."""

_READ_BYTES = 1 << 14
_WAITING_READS = 64
"""Reads of stdin that may wait; then the pipe has to, which is the sender's own back-pressure."""

_POLL_S = 0.02
_FILE_MAGIC = (b"RIFF", b"RF64", b"OggS", b"fLaC", b"ID3")
_MAGIC_BYTES = 4


def paced(
    blocks: Iterable[FloatArray],
    sample_rate: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[FloatArray]:
    """Cut ``blocks`` of shape (samples, ...) into 20 ms and give each out when a microphone would have.

    A consumer that is late gets the blocks it missed at once: like a sound card, the source does not wait.
    """
    size = max(1, round(BLOCK_S * sample_rate))
    start = clock()
    given = 0
    for block in blocks:
        for at in range(0, len(block), size):
            piece = block[at : at + size]
            given += len(piece)
            ahead_s = start + given / sample_rate - clock()
            if ahead_s > 0:
                sleep(ahead_s)
            yield piece


def raw_pcm(pipe: BinaryIO, converter: AudioConverter) -> Iterator[FloatArray]:
    """16 kHz mono blocks from raw PCM, as it comes; empty ones while nothing comes, so that captions go on.

    Raises:
        InputError: the bytes begin like a file with a header, which would be heard as a crack at best; or the
            pipe cannot be read.
    """
    # Below the buffer of sys.stdin, if there is one: the thread may be waiting in there, with the buffer's lock,
    # when Python exits and wants that lock too.
    raw = getattr(pipe, "raw", pipe)
    reads: queue.Queue[bytes | OSError] = queue.Queue(_WAITING_READS)

    def read() -> None:
        # A thread, because only some systems can wait for a pipe with a timeout.
        try:
            while block := raw.read(_READ_BYTES):
                reads.put(block)
            reads.put(b"")
        except OSError as error:
            reads.put(error)

    threading.Thread(target=read, name="stream_asr-stdin", daemon=True).start()
    head = b""
    while True:
        try:
            block = reads.get(timeout=_POLL_S)
        except queue.Empty:
            yield np.zeros(0, dtype=np.float32)
            continue
        if isinstance(block, OSError):
            raise InputError(f"stdin cannot be read: {block.strerror or block}")
        if not block:
            break
        if len(head) < _MAGIC_BYTES:
            head += block[: _MAGIC_BYTES - len(head)]
            if head.startswith(_FILE_MAGIC):
                raise InputError(
                    "stdin starts with the header of an audio file; `listen -` takes raw PCM. Give the file to "
                    "`stream-asr stream` or `transcribe`, or decode it: ffmpeg -i FILE -f s16le -ar 16000 -ac 1 -"
                )
        yield converter.push(block)
    yield converter.finish()
