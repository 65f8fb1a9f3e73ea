"""Audio files of any length, read in blocks.

libsndfile reads wav, flac, ogg, opus, mp3, aiff and more; what it cannot read (m4a, mp4, webm, ...) goes
through PyAV where that is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import soundfile

from stream_asr.audio.ring_buffer import FloatArray
from stream_asr.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType

BLOCK_S = 0.5
"""Seconds of audio read at a time."""

_ACCEPTED = "wav, flac, ogg, opus, mp3, aiff, au, caf and w64 are accepted"
_WITH_PYAV = "with PyAV (pip install 'stream-asr[av]') m4a, mp4, webm and whatever else FFmpeg reads as well"


class _Reader(Protocol):
    sample_rate: int
    channels: int
    frames: int | None

    def blocks(self) -> Iterator[FloatArray]: ...
    def close(self) -> None: ...


class AudioFile:
    """An open audio file; iterating gives float32 blocks of shape (samples, channels) at the file's own rate.

    Raises:
        InputError: the file is missing, empty, not audio, or breaks off in a way that cannot be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder; name an audio file")
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error
        if size == 0 and self.path.is_file():
            raise InputError(f"{self.path} is empty (0 bytes)")
        self._reader = _open(self.path)
        if self._reader.frames == 0:
            self._reader.close()
            raise InputError(f"{self.path} holds no audio: its header announces 0 samples")

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

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _SoundFileReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = soundfile.SoundFile(path)
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int | None = self._file.frames

    def blocks(self) -> Iterator[FloatArray]:
        size = max(1, round(BLOCK_S * self.sample_rate))
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                at_s = self._file.tell() / self.sample_rate
                raise InputError(f"{self._path} cannot be decoded from {at_s:.1f} s on: {error}") from error
            if not len(block):
                return
            yield block

    def close(self) -> None:
        self._file.close()


class _PyAVReader:
    def __init__(self, path: Path) -> None:
        import av

        self._av = av
        self._path = path
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"{path} is not audio that can be decoded; {_ACCEPTED}, and what FFmpeg reads") from error
        if not self._container.streams.audio:
            self._container.close()
            raise InputError(f"{path} has no audio track")
        self._stream = self._container.streams.audio[0]
        self.sample_rate: int = self._stream.rate
        self.channels: int = self._stream.channels
        duration = self._container.duration  # microseconds
        self.frames: int | None = None if duration is None else round(duration / 1e6 * self.sample_rate)

    def blocks(self) -> Iterator[FloatArray]:
        # One resampler for the whole track: it only changes the sample format, never the rate.
        to_float = self._av.AudioResampler(format="flt", layout=self._stream.layout, rate=self.sample_rate)
        try:
            for frame in self._container.decode(self._stream):
                yield from self._arrays(to_float.resample(frame))
            yield from self._arrays(to_float.resample(None))
        except self._av.FFmpegError as error:
            raise InputError(f"{self._path} cannot be decoded to its end: {error}") from error

    def _arrays(self, frames: list[Any]) -> Iterator[FloatArray]:
        for frame in frames:
            yield frame.to_ndarray().reshape(-1, self.channels).astype(np.float32, copy=False)

    def close(self) -> None:
        self._container.close()


def _open(path: Path) -> _Reader:
    try:
        return _SoundFileReader(path)
    except soundfile.SoundFileError as error:
        if find_spec("av") is None:
            raise InputError(f"{path} is not audio that can be decoded ({error}); {_ACCEPTED}; {_WITH_PYAV}") from error
    return _PyAVReader(path)
