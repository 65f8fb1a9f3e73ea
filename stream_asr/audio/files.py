"""Audio files of any length, read in blocks.

libsndfile reads wav, flac, ogg, opus, mp3, aiff and more; what it cannot read (m4a, mp4, webm, ...) goes
through PyAV where that is installed.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
import soundfile

from stream_asr.array_types import FloatArray
from stream_asr.audio.container import BY_FFMPEG, BY_LIBSNDFILE, ContainerReader
from stream_asr.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType

BLOCK_S = 0.5
"""Seconds of audio read at a time."""

_UNKNOWN_FRAMES = 2**62
"""libsndfile's count where a header does not say (a flac written to a pipe) is far above this."""

_SHORT_DATA = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_BYTES = 2**31 - 2**16
"""In a WAV file's header, which has 32 bits for the length, this much or more says that it was not known."""

_WITH_PYAV = f"with PyAV (pip install 'stream-asr[av]') {BY_FFMPEG} and more as well"


class _Reader(Protocol):
    sample_rate: int
    channels: int
    frames: int | None

    def seek(self, frame: int) -> int: ...
    def blocks(self) -> Iterator[FloatArray]: ...
    def close(self) -> None: ...


class AudioFile:
    """An open audio file; iterating gives float32 blocks of shape (samples, channels) at the file's own rate.

    What can be decoded of a damaged file is given out before the error.

    Args:
        path: of a file, or the name that errors give to ``file``.
        file: open and seekable, read from where it stands; closing it is up to the caller.

    Raises:
        InputError: the file is missing, unreadable, empty, not audio, or breaks off in a way that cannot be decoded.
    """

    def __init__(self, path: str | Path, file: BinaryIO | None = None) -> None:
        self.path = Path(path)
        with ExitStack() as stack:
            if file is None:
                file = stack.enter_context(_open(self.path))
            self._reader = _reader(self.path, file)
            stack.callback(self._reader.close)
            if self._reader.frames == 0:
                raise InputError(f"{self.path} holds no audio, only a header")
            self._opened = stack.pop_all()

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self._reader.sample_rate

    @property
    def channels(self) -> int:
        return self._reader.channels

    @property
    def seconds(self) -> float | None:
        """Length of the recording; None where the format does not say."""
        return None if self._reader.frames is None else self._reader.frames / self.sample_rate

    def __iter__(self) -> Iterator[FloatArray]:
        return self._reader.blocks()

    def span(self, start_s: float, end_s: float | None = None) -> Iterator[FloatArray]:
        """Blocks of a part of a file just opened, without decoding what comes before it where the format allows that.

        Args:
            start_s: where it begins, in seconds.
            end_s: where it ends; None for the end of the file.
        """
        start = round(start_s * self.sample_rate)
        stop = None if end_s is None else round(end_s * self.sample_rate)
        at = self._reader.seek(start) if start else 0
        for block in self._reader.blocks():
            part = block[max(0, start - at) : None if stop is None else max(0, stop - at)]
            if len(part):
                yield part
            at += len(block)
            if stop is not None and at >= stop:
                return

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path) -> BinaryIO:
    if str(path) == "-":
        raise InputError("recordings are read from files; `stream-asr listen -` takes raw PCM from a pipe")
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder; name an audio file")
        # Opening a pipe would wait for its writer, and decoders want to seek.
        if not stat.S_ISREG(status.st_mode):
            raise InputError(
                f"{path} is a pipe or a device, not a file; `stream-asr listen -` takes raw PCM from a pipe"
            )
        if status.st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _reader(path: Path, file: BinaryIO) -> _Reader:
    if path.suffix.lower() == ".raw":
        raise InputError(
            f"{path} has no header to say what it holds; pipe it in: `stream-asr listen - < FILE`, "
            "with --sample-rate, --channels and --encoding"
        )
    try:
        return _SoundFileReader(path, file)
    except soundfile.LibsndfileError as error:
        if find_spec("av") is None:
            raise InputError(
                f"{path} is not audio that can be decoded ({error.error_string}); {BY_LIBSNDFILE} are accepted; "
                f"{_WITH_PYAV}"
            ) from error
    file.seek(0)
    return ContainerReader(str(path), file)


def _announced_bytes(chunks: str) -> int | None:
    """What the header of a WAV file announces, where that is more than there is.

    Args:
        chunks: libsndfile's account of the file.
    """
    found = _SHORT_DATA.search(chunks)
    # Who writes to a pipe does not know the length and announces the largest there is.
    return int(found[1]) if found and int(found[2]) < int(found[1]) < _UNKNOWN_BYTES else None


class _SequentialSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """Without the seek to its own position that soundfile does after every read; not every file can do that."""

    def seekable(self) -> bool:
        return False


class _SoundFileReader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        # The open file in place of its name: not every name that a file can have gets through to the library.
        self._file = _SequentialSoundFile(file)
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int | None = self._file.frames if self._file.frames < _UNKNOWN_FRAMES else None
        self._announced = _announced_bytes(self._file.extra_info)

    def seek(self, frame: int) -> int:
        """The frame that the next block begins with: ``frame``, or 0 where the file does not let itself be searched."""
        try:
            return int(self._file.seek(frame))
        except soundfile.SoundFileError:
            return 0

    def blocks(self) -> Iterator[FloatArray]:
        size = max(1, round(BLOCK_S * self.sample_rate))
        done = self._file.tell()
        while True:
            block = np.empty((size, self.channels), dtype=np.float32)
            try:
                block = self._file.read(out=block)
            except soundfile.SoundFileError as error:
                at = self._file.tell()
                if at > done:
                    yield block[: at - done]
                raise InputError(
                    f"{self._path} cannot be decoded from {at / self.sample_rate:.1f} s on: {error}"
                ) from error
            if not len(block):
                break
            done += len(block)
            yield block
        if self._announced is not None:
            raise InputError(
                f"{self._path} breaks off after {done / self.sample_rate:.1f} s: its header announces "
                f"{self._announced} bytes of samples, and not all of them are there"
            )

    def close(self) -> None:
        self._file.close()
