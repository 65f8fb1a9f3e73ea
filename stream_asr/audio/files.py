"""Read audio files of any length in blocks.

libsndfile decodes wav, flac, ogg, opus, mp3, aiff and more. Other formats (m4a, mp4, webm, ...) are decoded by PyAV if
it is installed.
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
from stream_asr.audio.container import FFMPEG_FORMATS, LIBSNDFILE_FORMATS, ContainerReader
from stream_asr.config import AUDIO
from stream_asr.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType

_MIN_UNKNOWN_FRAMES = 2**62
"""libsndfile reports more frames than this if the header does not state a length, as in a flac written to a pipe."""

_TRUNCATED_DATA = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
"""The line in libsndfile's log that reports a WAV data chunk longer than the file: declared bytes, actual bytes."""

_MIN_UNKNOWN_BYTES = 2**31 - 2**16
"""Programs that write WAV to a pipe declare at least this length because they do not know the real one."""

_INSTALL_PYAV = f"with PyAV (pip install 'stream-asr[av]') {FFMPEG_FORMATS} and more as well"


class _Reader(Protocol):
    """Decoder of one open file: libsndfile or FFmpeg."""

    sample_rate: int
    channels: int
    frames: int | None

    def seek(self, frame: int) -> int: ...
    def blocks(self) -> Iterator[FloatArray]: ...
    def close(self) -> None: ...


class AudioFile:
    """An open audio file. Iteration yields float32 blocks of shape (samples, channels) at the file's sample rate.

    If the file is damaged, iteration yields the blocks that can be decoded before it raises `InputError`.

    Args:
        path: path of the file, or the name of ``file`` in error messages.
        file: an open, seekable file, read from its current position. The caller closes it.

    Raises:
        InputError: the file is missing, unreadable, empty, truncated or not audio.
    """

    def __init__(self, path: str | Path, file: BinaryIO | None = None) -> None:
        self.path = Path(path)
        with ExitStack() as stack:
            if file is None:
                file = stack.enter_context(_open_file(self.path))
            self._reader = _open_reader(self.path, file)
            stack.callback(self._reader.close)
            if self._reader.frames == 0:
                raise InputError(f"{self.path} contains a header but no audio")
            self._resources = stack.pop_all()

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz."""
        return self._reader.sample_rate

    @property
    def channels(self) -> int:
        return self._reader.channels

    @property
    def duration_s(self) -> float | None:
        """Length of the recording in seconds, or None if the file does not state its length."""
        return None if self._reader.frames is None else self._reader.frames / self.sample_rate

    def __iter__(self) -> Iterator[FloatArray]:
        return self._reader.blocks()

    def read_span(self, start_s: float, end_s: float | None = None) -> Iterator[FloatArray]:
        """Yield the blocks of a part of the file. Call it once, before any other reading.

        Audio before ``start_s`` is skipped by seeking if the format allows it, and decoded otherwise.

        Args:
            start_s: start of the part in seconds.
            end_s: end of the part in seconds; None for the end of the file.

        Yields:
            float32, shape (samples, channels).
        """
        start = round(start_s * self.sample_rate)
        stop = None if end_s is None else round(end_s * self.sample_rate)
        position = self._reader.seek(start) if start else 0
        for block in self._reader.blocks():
            part = block[max(0, start - position) : None if stop is None else max(0, stop - position)]
            if len(part):
                yield part
            position += len(block)
            if stop is not None and position >= stop:
                return

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_file(path: Path) -> BinaryIO:
    if str(path) == "-":
        raise InputError("stdin cannot be read as an audio file; `stream-asr listen -` reads raw PCM from a pipe")
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder; give the path of an audio file")
        # Opening a named pipe blocks until it has a writer, and decoders need to seek.
        if not stat.S_ISREG(status.st_mode):
            raise InputError(
                f"{path} is a pipe or a device, not a file; `stream-asr listen -` reads raw PCM from a pipe"
            )
        if status.st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _open_reader(path: Path, file: BinaryIO) -> _Reader:
    if path.suffix.lower() == ".raw":
        raise InputError(
            f"{path} has no header that states its format; use `stream-asr listen - < FILE` "
            "with --sample-rate, --channels and --encoding"
        )
    try:
        return _SoundFileReader(path, file)
    except soundfile.LibsndfileError as error:
        if find_spec("av") is None:
            raise InputError(
                f"{path} is not audio that can be decoded ({error.error_string}); {LIBSNDFILE_FORMATS} are accepted; "
                f"{_INSTALL_PYAV}"
            ) from error
    file.seek(0)
    return ContainerReader(str(path), file)


def _declared_bytes_if_truncated(log: str) -> int | None:
    """Return the length in bytes that a truncated WAV file's header declares, or None if the file is complete.

    Args:
        log: libsndfile's log of the file.
    """
    found = _TRUNCATED_DATA.search(log)
    return int(found[1]) if found and int(found[2]) < int(found[1]) < _MIN_UNKNOWN_BYTES else None


class _SequentialSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A `SoundFile` that does not seek to its own position after every read, which some files do not support."""

    def seekable(self) -> bool:
        return False


class _SoundFileReader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        # Pass the open file, not its path: libsndfile cannot open every valid file name.
        self._file = _SequentialSoundFile(file)
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int | None = self._file.frames if self._file.frames < _MIN_UNKNOWN_FRAMES else None
        self._declared_bytes = _declared_bytes_if_truncated(self._file.extra_info)

    def seek(self, frame: int) -> int:
        """Seek, and return the index of the first frame of the next block: ``frame``, or 0 if the file cannot seek."""
        try:
            return int(self._file.seek(frame))
        except soundfile.SoundFileError:
            return 0

    def blocks(self) -> Iterator[FloatArray]:
        size = max(1, round(AUDIO.file_block_ms * self.sample_rate / 1000))
        position = self._file.tell()
        while True:
            block = np.empty((size, self.channels), dtype=np.float32)
            try:
                block = self._file.read(out=block)
            except soundfile.SoundFileError as error:
                decoded_until = self._file.tell()
                if decoded_until > position:
                    yield block[: decoded_until - position]
                raise InputError(
                    f"{self._path} cannot be decoded from {decoded_until / self.sample_rate:.1f} s on: {error}"
                ) from error
            if not len(block):
                break
            position += len(block)
            yield block
        if self._declared_bytes is not None:
            raise InputError(
                f"{self._path} is truncated after {position / self.sample_rate:.1f} s: its header declares "
                f"{self._declared_bytes} bytes of samples, but the file ends earlier"
            )

    def close(self) -> None:
        self._file.close()
