"""From any PCM to the recognizer's: 16 kHz, mono, float32 in [-1, 1].

The result does not depend on how the input was cut into blocks, not even between the bytes of one sample.
Source of the telephone encodings: ITU-T Recommendation G.711.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError

AudioBlock: TypeAlias = "bytes | bytearray | memoryview | npt.NDArray[Any]"

MIN_RATE, MAX_RATE = 4_000, 384_000
MAX_CHANNELS = 64

LOUDEST = 4.0
"""Decoders overshoot full scale a little; far beyond it, somebody forgot to divide by 32768."""


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


def _scaled(integers: npt.NDArray[Any], full_scale: float) -> FloatArray:
    scaled: FloatArray = integers.astype(np.float32) / np.float32(full_scale)
    return scaled


def _s24le(raw: npt.NDArray[np.uint8]) -> FloatArray:
    octets = raw.reshape(-1, 3).astype(np.int32)
    value = octets[:, 0] | octets[:, 1] << 8 | (octets[:, 2] ^ 0x80) - 0x80 << 16
    return _scaled(value, 2**23)


def _full_scale(dtype: str, scale: float) -> Callable[[npt.NDArray[np.uint8]], FloatArray]:
    return lambda raw: _scaled(raw.view(dtype), scale)


ENCODINGS: dict[str, tuple[int, Callable[[npt.NDArray[np.uint8]], FloatArray]]] = {
    "pcm_s16le": (2, _full_scale("<i2", 2**15)),
    "pcm_s24le": (3, _s24le),
    "pcm_s32le": (4, _full_scale("<i4", 2**31)),
    "pcm_f32le": (4, lambda raw: raw.view("<f4").astype(np.float32)),
    "mulaw": (1, lambda raw: _MULAW[raw]),
    "alaw": (1, lambda raw: _ALAW[raw]),
}
"""Name → (bytes a sample, decoder)."""

_ARRAY_SCALES = {"int16": 2**15, "int32": 2**31}


class AudioConverter:
    """Blocks of one stream in, 16 kHz mono float32 out.

    Args:
        sample_rate: of the input, in Hz.
        channels: of the input, interleaved; they are averaged.
        encoding: of ``bytes``; numpy arrays say it themselves.

    Raises:
        InputError: a rate, channel count or encoding outside what is accepted.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE, channels: int = 1, encoding: str = "pcm_s16le") -> None:
        if not MIN_RATE <= sample_rate <= MAX_RATE:
            raise InputError(f"a sample rate of {sample_rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are accepted")
        if not 1 <= channels <= MAX_CHANNELS:
            raise InputError(f"{channels} channels; 1 to {MAX_CHANNELS} are accepted")
        if encoding not in ENCODINGS:
            raise InputError(f"unknown encoding {encoding!r}; accepted are {', '.join(ENCODINGS)}")
        self.sample_rate, self.channels, self.encoding = sample_rate, channels, encoding
        self._sample_bytes, self._decode = ENCODINGS[encoding]
        self._bytes = b""  # of a sample that is not complete yet
        self._values: FloatArray = np.zeros(0, dtype=np.float32)  # of an interleaved frame that is not complete yet
        self._frames = 0
        self._resampler = (
            None if sample_rate == SAMPLE_RATE else soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32")
        )

    @property
    def trailing_bytes(self) -> int:
        """Bytes held back because they do not fill a sample of every channel yet."""
        return len(self._bytes) + len(self._values) * self._sample_bytes

    def push(self, block: AudioBlock) -> FloatArray:
        """Convert one block of any size.

        Args:
            block: bytes in the declared encoding, or an array of int16, int32, float32 or float64 (integers at
                full scale, floats in [-1, 1]) of shape (values,) interleaved or (samples, channels).

        Returns:
            float32 of shape (samples at 16 kHz,). The resampler holds back some 20 ms.

        Raises:
            InputError: another type or shape, NaN or infinity, or floats far outside [-1, 1]. Nothing of the
                block was taken in.
        """
        if isinstance(block, bytes | bytearray | memoryview):
            mono = self._mono(self._from_bytes(bytes(block)))
        else:
            mono = self._mono(self._from_array(np.asarray(block)))
        if self._resampler is None:
            return mono
        return np.asarray(self._resampler.resample_chunk(mono), dtype=np.float32)

    def finish(self) -> FloatArray:
        """What the resampler still holds; `trailing_bytes` of an incomplete sample are given up."""
        if self._resampler is None:
            return np.zeros(0, dtype=np.float32)
        return np.asarray(self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True), dtype=np.float32)

    def _from_bytes(self, block: bytes) -> FloatArray:
        joined = self._bytes + block if self._bytes else block
        whole = len(joined) - len(joined) % self._sample_bytes
        values = self._decode(np.frombuffer(joined, dtype=np.uint8, count=whole))
        self._require_finite(values)
        self._bytes = joined[whole:]
        return values

    def _from_array(self, block: npt.NDArray[Any]) -> FloatArray:
        if block.ndim == 2 and block.shape[1] != self.channels:
            raise InputError(
                f"a block of shape {block.shape} in a stream of {self.channels} channel(s); "
                f"(samples, {self.channels}) is accepted"
            )
        if block.ndim not in (1, 2):
            raise InputError(f"a block of {block.ndim} dimensions; (values,) and (samples, channels) are accepted")
        if block.dtype.name in _ARRAY_SCALES:
            return _scaled(block.reshape(-1), _ARRAY_SCALES[block.dtype.name])
        if block.dtype.kind != "f":
            raise InputError(f"a block of {block.dtype}; bytes, int16, int32, float32 and float64 are accepted")
        values = block.reshape(-1).astype(np.float32)
        self._require_finite(values)
        return values

    def _require_finite(self, values: FloatArray) -> None:
        # NaN fails every comparison, so this one finds NaN, infinity and nonsense in a single pass.
        if len(values) and not np.abs(values).max() <= LOUDEST:
            at = int(np.flatnonzero(~(np.abs(values) <= LOUDEST))[0])
            position_s = (self._frames + at // self.channels) / self.sample_rate
            raise InputError(
                f"sample value {values[at]} at {position_s:.3f} s; finite numbers in [-1, 1] are accepted"
                + (" (divide integers by full scale first)" if np.isfinite(values[at]) else "")
            )

    def _mono(self, values: FloatArray) -> FloatArray:
        if self.channels == 1:
            self._frames += len(values)
            return values
        joined = np.concatenate([self._values, values]) if len(self._values) else values
        whole = len(joined) - len(joined) % self.channels
        self._values = joined[whole:].copy()
        self._frames += whole // self.channels
        mono: FloatArray = joined[:whole].reshape(-1, self.channels).mean(axis=1, dtype=np.float32)
        return mono
