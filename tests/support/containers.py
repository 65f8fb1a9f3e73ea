"""Containers made bit by bit, as browsers and encoders make them while they record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_asr.array_types import FloatArray


class _Unseekable:
    """Where an encoder writes that nobody lets go back, as over a network."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)


def container(
    audio: FloatArray,
    kind: str = "matroska",
    codec: str = "pcm_s16le",
    *,
    rate: int = 16_000,
    frame_samples: int = 320,
    **options: str,
) -> bytes:
    """A container of mono ``audio``, float32 of shape (samples,), made by PyAV.

    Args:
        kind: of the container, by FFmpeg's name.
        frame_samples: of codecs that do not have a length of their own.
        options: of the container.
    """
    av = pytest.importorskip("av", reason="PyAV is an extra")
    sink = _Unseekable()
    with av.open(sink, "w", format=kind, options=options) as made:
        track: Any = made.add_stream(codec, rate=rate, layout="mono")
        context = track.codec_context
        cut = av.AudioResampler(context.format.name, "mono", rate, frame_size=context.frame_size or frame_samples)
        # Whole numbers, because a resampler would round the amplitudes that the fake model reads.
        samples = np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
        whole = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        whole.sample_rate = rate
        for frame in [*cut.resample(whole), *cut.resample(None), None]:
            made.mux(track.encode(frame))
    return bytes(sink.written)


def browser_recording(audio: FloatArray, rate: int = 48_000) -> bytes:
    """WebM with Opus in clusters of 100 ms, like that of MediaRecorder."""
    return container(audio, "webm", "libopus", rate=rate, live="1", cluster_time_limit="100")
