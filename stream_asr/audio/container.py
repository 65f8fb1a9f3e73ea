"""Decode containers (m4a, webm, video files, ...) with FFmpeg through PyAV, an optional dependency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError

LIBSNDFILE_FORMATS = "wav, flac, ogg, opus, mp3, aiff, au, caf and w64"
FFMPEG_FORMATS = "m4a, mp4, webm, mkv, aac, wma, amr, avi"
"""Formats that only FFmpeg decodes. FFmpeg decodes all of libsndfile's formats as well."""

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,gsm,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,ogg,"
    "rm,shn,tak,tta,voc,w64,wav,wv,xwma"
)
"""FFmpeg demuxers that are allowed: formats that contain their audio themselves. Others (concat, hls, sdp) open further
files or network addresses, which an untrusted file could name."""

_LIVE_OPTIONS = {"probesize": "2048", "analyzeduration": "1"}
"""Probe at most 2048 bytes and 1 microsecond before decoding starts; FFmpeg reads 0 as its default of 5 s. The flag
``nobuffer`` must stay off: it discards the probed packets."""


class ReadableFile(Protocol):
    """A binary file. FFmpeg uses its ``seek`` method if there is one."""

    def read(self, size: int, /) -> bytes: ...


class ContainerReader:
    """Decode the first audio track of a container.

    Args:
        name: name of the file in error messages.
        file: read from its current position. The caller closes it.
        live: the container is still being written, so decode each packet before reading more.

    Attributes:
        sample_rate: sample rate of all blocks in Hz.
        channels: channel count of all blocks.
        frames: length in samples per channel, or None if the container does not state its length.

    Raises:
        InputError: FFmpeg cannot decode the file as audio.
    """

    def __init__(self, name: str, file: ReadableFile, *, live: bool = False) -> None:
        import av

        self._av = av
        self._name = name
        options = {"format_whitelist": DEMUXERS, **(_LIVE_OPTIONS if live else {})}
        try:
            # Tags in old files are often not UTF-8.
            container: Any = av.open(file, metadata_errors="replace", container_options=options)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"{name} is not audio that can be decoded; {LIBSNDFILE_FORMATS} are accepted, and so are "
                f"{FFMPEG_FORMATS} and more"
            ) from error
        if not container.streams.audio:
            container.close()
            raise InputError(f"{name} has no audio track")
        self._container = container
        self._stream = container.streams.audio[0]
        context = self._stream.codec_context
        if context is None or not context.sample_rate or not context.channels:
            container.close()
            raise InputError(f"{name} has an audio track in an encoding that FFmpeg cannot decode")
        # Copied here because decoding may change the codec context.
        self.sample_rate: int = context.sample_rate
        self.channels: int = context.channels
        self._layout: str = context.layout.name
        duration_us = container.duration
        self.frames: int | None = round(duration_us / 1e6 * self.sample_rate) if duration_us else None

    def seek(self, frame: int) -> int:
        """Return the index of the first frame of the next block. It is always 0: there is no sample-accurate seek."""
        return 0  # FFmpeg seeks to the nearest key frame and does not report its sample position.

    def blocks(self) -> Iterator[FloatArray]:
        """Yield the decoded audio from the start, each block as soon as it is decoded.

        Yields:
            float32, shape (samples, channels).

        Raises:
            InputError: decoding failed; blocks decoded before the error have been yielded.
        """
        decoded = 0
        try:
            for frame in self._decode_frames():
                block = frame.to_ndarray().reshape(-1, self.channels).astype(np.float32, copy=False)
                decoded += len(block)
                yield block
        except self._av.FFmpegError as error:
            position_s = decoded / self.sample_rate
            raise InputError(f"{self._name} cannot be decoded from {position_s:.1f} s on: {error.strerror}") from error

    def _decode_frames(self) -> Iterator[Any]:
        """Yield PyAV frames of packed float32 in the track's initial sample rate and channel layout."""
        resampler: Any = None
        resampler_input = None
        for frame in self._container.decode(self._stream):
            frame_format = frame.format.name, frame.layout.name, frame.sample_rate
            if frame_format != resampler_input:
                # A broadcast recording may switch between stereo and mono.
                if resampler is not None:
                    yield from resampler.resample(None)
                resampler = self._av.AudioResampler(format="flt", layout=self._layout, rate=self.sample_rate)
                resampler_input = frame_format
            yield from resampler.resample(frame)
        if resampler is not None:
            yield from resampler.resample(None)

    def close(self) -> None:
        self._container.close()
