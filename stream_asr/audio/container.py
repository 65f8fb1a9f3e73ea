"""Containers read by FFmpeg through PyAV, an optional extra: m4a, webm, the sound of videos and more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError

BY_LIBSNDFILE = "wav, flac, ogg, opus, mp3, aiff, au, caf and w64"
BY_FFMPEG = "m4a, mp4, webm, mkv, aac, wma, amr, avi"
"""On top of those that libsndfile reads, which FFmpeg does, too."""

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,gsm,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,ogg,"
    "rm,shn,tak,tta,voc,w64,wav,wv,xwma"
)
"""By FFmpeg's names, those for files that hold their sound themselves. Others read further files, or the network, which
a file from a stranger could name: concat, hls, sdp."""

_LIVE = {"probesize": "2048", "analyzeduration": "1"}
"""Bytes, and microseconds (0 would mean 5 s), that FFmpeg may look at before it decodes. Not its ``nobuffer`` as well:
that throws away what was looked at."""


class Readable(Protocol):
    """A file; if it has a ``seek``, FFmpeg uses it."""

    def read(self, size: int, /) -> bytes: ...


class ContainerReader:
    """The first audio track of a container.

    Args:
        name: that errors give to it.
        file: read from where it stands; closing it is up to the caller.
        live: the file is still being made, so decode what is there before more is read.

    Attributes:
        sample_rate: in Hz, and ``channels``: of all blocks.
        frames: the length in samples; None where the format does not say.

    Raises:
        InputError: it is no audio that FFmpeg can decode.
    """

    def __init__(self, name: str, file: Readable, *, live: bool = False) -> None:
        import av

        self._av = av
        self._name = name
        options = {"format_whitelist": DEMUXERS, **(_LIVE if live else {})}
        try:
            # Old files have tags that are not UTF-8.
            container: Any = av.open(file, metadata_errors="replace", container_options=options)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"{name} is not audio that can be decoded; {BY_LIBSNDFILE} are accepted, and so are "
                f"{BY_FFMPEG} and more"
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
        # Noted now: the context changes with what is decoded.
        self.sample_rate: int = context.sample_rate
        self.channels: int = context.channels
        self._layout: str = context.layout.name
        duration = container.duration  # microseconds
        self.frames: int | None = round(duration / 1e6 * self.sample_rate) if duration else None

    def seek(self, frame: int) -> int:
        """The frame that the next block begins with, wherever ``frame`` is."""
        return 0  # FFmpeg finds the nearest key frame only, and not where that is in samples

    def blocks(self) -> Iterator[FloatArray]:
        """The sound from the start: float32 of shape (samples, channels), a block as soon as it is decoded.

        Raises:
            InputError: it cannot be decoded any further.
        """
        done = 0
        try:
            for frame in self._as_opened():
                block = frame.to_ndarray().reshape(-1, self.channels).astype(np.float32, copy=False)
                done += len(block)
                yield block
        except self._av.FFmpegError as error:
            at_s = done / self.sample_rate
            raise InputError(f"{self._name} cannot be decoded from {at_s:.1f} s on: {error.strerror}") from error

    def _as_opened(self) -> Iterator[Any]:
        """The track's frames as packed float32, at the rate and in the channels that it opened with."""
        resampler: Any = None
        before = None
        for frame in self._container.decode(self._stream):
            kind = frame.format.name, frame.layout.name, frame.sample_rate
            if kind != before:
                # Recordings of broadcasts go from stereo to mono and back.
                if resampler is not None:
                    yield from resampler.resample(None)
                resampler = self._av.AudioResampler(format="flt", layout=self._layout, rate=self.sample_rate)
                before = kind
            yield from resampler.resample(frame)
        if resampler is not None:
            yield from resampler.resample(None)

    def close(self) -> None:
        self._container.close()
