"""Conversion of PCM in any supported format to 16 kHz mono float32 in [-1, 1].

The output does not depend on how the input is split into blocks, even in the middle of a sample.
Source of the mu-law and A-law tables: ITU-T Recommendation G.711.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from stream_asr.array_types import FloatArray
from stream_asr.config import AUDIO, SAMPLE_RATE
from stream_asr.errors import InputError

AudioBlock: TypeAlias = "bytes | bytearray | memoryview | npt.NDArray[Any]"


def _mulaw_table() -> FloatArray:
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code >> 4) & 7)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> FloatArray:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    mantissa, exponent = (code & 0x0F).astype(np.int32) << 4, (code >> 4) & 7
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent, 1) - 1)
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


_MULAW, _ALAW = _mulaw_table(), _alaw_table()


def _to_float(integers: npt.NDArray[Any], full_scale: float) -> FloatArray:
    scaled: FloatArray = integers.astype(np.float32) / np.float32(full_scale)
    return scaled


def _decode_s24le(raw: npt.NDArray[np.uint8]) -> FloatArray:
    octets = raw.reshape(-1, 3).astype(np.int32)
    value = octets[:, 0] | octets[:, 1] << 8 | (octets[:, 2] ^ 0x80) - 0x80 << 16
    return _to_float(value, 2**23)


def _integer_decoder(dtype: str, full_scale: float) -> Callable[[npt.NDArray[np.uint8]], FloatArray]:
    return lambda raw: _to_float(raw.view(dtype), full_scale)


ENCODINGS: dict[str, tuple[int, Callable[[npt.NDArray[np.uint8]], FloatArray]]] = {
    "pcm_s16le": (2, _integer_decoder("<i2", 2**15)),
    "pcm_s24le": (3, _decode_s24le),
    "pcm_s32le": (4, _integer_decoder("<i4", 2**31)),
    "pcm_f32le": (4, lambda raw: raw.view("<f4").astype(np.float32)),
    "mulaw": (1, lambda raw: _MULAW[raw]),
    "alaw": (1, lambda raw: _ALAW[raw]),
}
"""Name → (bytes per sample, decoder)."""

_INTEGER_FULL_SCALES = {"int16": 2**15, "int32": 2**31}


class AudioConverter:
    """Convert the blocks of one stream to 16 kHz mono float32.

    Args:
        sample_rate: sample rate of the input in Hz.
        channels: number of interleaved channels of the input. The output is their mean.
        encoding: encoding of blocks passed as ``bytes``. Arrays are converted by their dtype.

    Raises:
        InputError: the sample rate, channel count or encoding is not supported.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE, channels: int = 1, encoding: str = "pcm_s16le") -> None:
        if not AUDIO.min_sample_rate <= sample_rate <= AUDIO.max_sample_rate:
            raise InputError(
                f"a sample rate of {sample_rate} Hz; {AUDIO.min_sample_rate} to {AUDIO.max_sample_rate} Hz are accepted"
            )
        if not 1 <= channels <= AUDIO.max_channels:
            raise InputError(f"{channels} channels; 1 to {AUDIO.max_channels} are accepted")
        if encoding not in ENCODINGS:
            raise InputError(f"unknown encoding {encoding!r}; supported encodings: {', '.join(ENCODINGS)}")
        self.sample_rate, self.channels, self.encoding = sample_rate, channels, encoding
        self._bytes_per_sample, self._decode = ENCODINGS[encoding]
        self._partial_sample = b""
        self._partial_frame: FloatArray = np.zeros(0, dtype=np.float32)
        self._frames = 0
        self._resampler = (
            None if sample_rate == SAMPLE_RATE else soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32")
        )

    @property
    def trailing_bytes(self) -> int:
        """Bytes held back because they do not complete a sample of every channel."""
        return len(self._partial_sample) + len(self._partial_frame) * self._bytes_per_sample

    def push(self, block: AudioBlock) -> FloatArray:
        """Convert one block of any size.

        Args:
            block: bytes in the declared encoding, or an array of int16, int32, float32 or float64. Arrays have shape
                (samples * channels,), interleaved, or (samples, channels). Integers are at full scale, floats in
                [-1, 1].

        Returns:
            float32, shape (samples at 16 kHz,). The resampler holds back about 20 ms.

        Raises:
            InputError: the dtype or shape is not supported, or a value is NaN, infinite or far outside [-1, 1].
                The converter's state is unchanged.
        """
        if isinstance(block, bytes | bytearray | memoryview):
            mono = self._to_mono(self._decode_bytes(bytes(block)))
        else:
            mono = self._to_mono(self._decode_array(np.asarray(block)))
        if self._resampler is None:
            return mono
        return np.asarray(self._resampler.resample_chunk(mono), dtype=np.float32)

    def finish(self) -> FloatArray:
        """Return the samples that the resampler still holds. Incomplete samples (`trailing_bytes`) are discarded."""
        if self._resampler is None:
            return np.zeros(0, dtype=np.float32)
        return np.asarray(self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True), dtype=np.float32)

    def _decode_bytes(self, block: bytes) -> FloatArray:
        data = self._partial_sample + block if self._partial_sample else block
        whole = len(data) - len(data) % self._bytes_per_sample
        values = self._decode(np.frombuffer(data, dtype=np.uint8, count=whole))
        self._check_range(values)
        self._partial_sample = data[whole:]
        return values

    def _decode_array(self, block: npt.NDArray[Any]) -> FloatArray:
        if block.ndim == 2 and block.shape[1] != self.channels:
            raise InputError(
                f"a block of shape {block.shape} in a stream of {self.channels} channel(s); "
                f"the shape must be (samples, {self.channels})"
            )
        if block.ndim not in (1, 2):
            raise InputError(f"a block of {block.ndim} dimensions; the shape must be (values,) or (samples, channels)")
        if block.dtype.name in _INTEGER_FULL_SCALES:
            return _to_float(block.reshape(-1), _INTEGER_FULL_SCALES[block.dtype.name])
        if block.dtype.kind != "f":
            raise InputError(f"a block of {block.dtype}; bytes, int16, int32, float32 and float64 are accepted")
        values = block.reshape(-1).astype(np.float32)
        self._check_range(values)
        return values

    def _check_range(self, values: FloatArray) -> None:
        # NaN fails every comparison, so one pass finds NaN, infinity and values that are too large.
        if len(values) and not np.abs(values).max() <= AUDIO.max_amplitude:
            index = int(np.flatnonzero(~(np.abs(values) <= AUDIO.max_amplitude))[0])
            position_s = (self._frames + index // self.channels) / self.sample_rate
            raise InputError(
                f"sample value {values[index]} at {position_s:.3f} s; samples must be finite numbers in [-1, 1]"
                + (" (divide integers by full scale first)" if np.isfinite(values[index]) else "")
            )

    def _to_mono(self, values: FloatArray) -> FloatArray:
        if self.channels == 1:
            self._frames += len(values)
            return values
        interleaved = np.concatenate([self._partial_frame, values]) if len(self._partial_frame) else values
        whole = len(interleaved) - len(interleaved) % self.channels
        self._partial_frame = interleaved[whole:].copy()
        self._frames += whole // self.channels
        mono: FloatArray = interleaved[:whole].reshape(-1, self.channels).mean(axis=1, dtype=np.float32)
        return mono
