"""Audio containers written incrementally, as browsers and encoders write them while recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from stream_asr.array_types import FloatArray


class _UnseekableFile:
    """File that can only be appended to, like a network connection."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, data: bytes) -> int:
        self.content += data
        return len(data)


def encode_container(
    audio: FloatArray,
    container: str = "matroska",
    codec: str = "pcm_s16le",
    *,
    rate: int = 16_000,
    frame_samples: int = 320,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Encode mono audio with PyAV.

    Args:
        audio: float32, shape (samples,).
        container: FFmpeg's name of the container format.
        codec: FFmpeg's name of the codec.
        rate: sample rate in Hz.
        frame_samples: frame length for codecs that accept any length.
        options: FFmpeg's options of the container format.
    """
    av = pytest.importorskip("av", reason="PyAV is an extra")
    file = _UnseekableFile()
    with av.open(file, "w", format=container, options=dict(options or {})) as output:
        track: Any = output.add_stream(codec, rate=rate, layout="mono")
        context = track.codec_context
        resampler = av.AudioResampler(context.format.name, "mono", rate, frame_size=context.frame_size or frame_samples)
        # Integers, because the resampler would round the amplitudes that encode the fake model's text.
        samples = np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet_frame in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(track.encode(packet_frame))
    return bytes(file.content)


def encode_browser_recording(audio: FloatArray, rate: int = 48_000) -> bytes:
    """Encode WebM with Opus in clusters of 100 ms, as MediaRecorder does."""
    options = {"live": "1", "cluster_time_limit": "100"}
    return encode_container(audio, "webm", "libopus", rate=rate, options=options)
