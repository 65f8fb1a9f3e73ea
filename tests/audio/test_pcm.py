"""Tests of the conversion of PCM to 16 kHz mono float32."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr.array_types import FloatArray
from stream_asr.audio.pcm import ENCODINGS, AudioBlock, AudioConverter
from stream_asr.errors import InputError


def convert(converter: AudioConverter, blocks: Iterable[AudioBlock]) -> FloatArray:
    return np.concatenate([*(converter.push(block) for block in blocks), converter.finish()])


def split(data: bytes, positions: list[int]) -> list[bytes]:
    """Split at the positions, each taken modulo the length."""
    edges = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


@settings(max_examples=60)
@given(
    st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000]),
    st.integers(1, 3),
    st.sampled_from(sorted(ENCODINGS)),
    st.lists(st.integers(0, 10**6), max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_result_does_not_depend_on_block_boundaries(
    rate: int, channels: int, encoding: str, positions: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    count = 3000 * channels
    if encoding == "pcm_f32le":
        data = rng.uniform(-1, 1, count).astype("<f4").tobytes()
    else:
        data = rng.bytes(count * ENCODINGS[encoding][0])
    whole = convert(AudioConverter(rate, channels, encoding), [data])
    np.testing.assert_array_equal(convert(AudioConverter(rate, channels, encoding), split(data, positions)), whole)
    assert abs(len(whole) - 3000 * 16_000 / rate) <= 1
    assert whole.dtype == np.float32


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_arrays_of_every_dtype_have_the_same_scale(dtype: str) -> None:
    values = np.array([0.0, 0.5, -0.5, -1.0, 0.25])
    scale = {"int16": 2**15, "int32": 2**31}.get(dtype, 1)
    np.testing.assert_array_equal(AudioConverter().push((values * scale).astype(dtype)), values)


def test_channels_are_averaged_interleaved_or_as_columns() -> None:
    stereo = np.array([[0.5, 0.25], [-1.0, 0.0], [0.125, 0.125]], dtype=np.float32)
    expected = [0.375, -0.5, 0.125]
    np.testing.assert_array_equal(AudioConverter(channels=2).push(stereo), expected)
    interleaved = AudioConverter(channels=2)
    flat = stereo.reshape(-1)
    np.testing.assert_array_equal(np.concatenate([interleaved.push(flat[:3]), interleaved.push(flat[3:])]), expected)


def test_g711_matches_the_tables_of_the_recommendation() -> None:
    # Extremes, zero and a middle value of ITU-T G.711, tables 1a and 2a, on a 16-bit scale.
    mulaw = AudioConverter(encoding="mulaw").push(bytes([0x00, 0x80, 0xFF, 0x7F, 0xAA])) * 32768
    np.testing.assert_array_equal(mulaw, [-32124, 32124, 0, 0, 5372])
    alaw = AudioConverter(encoding="alaw").push(bytes([0x2A, 0xAA, 0xD5, 0x55, 0x80])) * 32768
    np.testing.assert_array_equal(alaw, [-32256, 32256, 8, -8, 5504])


def test_24_bit_samples_are_scaled() -> None:
    data = b"".join(value.to_bytes(3, "little", signed=True) for value in (0, 2**22, -(2**22), -(2**23)))
    np.testing.assert_array_equal(AudioConverter(encoding="pcm_s24le").push(data), [0, 0.5, -0.5, -1])


def test_resampler_keeps_pitch_and_level_of_a_tone() -> None:
    rate = 44_100
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32) * 0.5
    resampled = convert(AudioConverter(rate), [tone[start : start + 441] for start in range(0, rate, 441)])
    expected = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000) * 0.5
    np.testing.assert_allclose(resampled[500:-500], expected[500:-500], atol=2e-3)


def test_bytes_of_an_incomplete_sample_are_counted() -> None:
    converter = AudioConverter(channels=2)
    converter.push(b"\0" * 7)
    assert converter.trailing_bytes == 3
    converter.push(b"\0")
    assert converter.trailing_bytes == 0


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.array([0.1, np.nan], dtype=np.float32), r"nan at 0\.100 s"),
        (np.array([0.1, -np.inf]), r"-inf at 0\.100 s"),
        (np.array([0.1, 9.0]), "divide integers by full scale"),
        (np.zeros((4, 2), dtype=np.float32), r"shape \(4, 2\)"),
        (np.zeros((2, 2, 2), dtype=np.float32), "3 dimensions"),
        (np.array(["a"]), "int16, int32, float32 and float64"),
        (np.zeros(4, dtype=np.complex64), "complex64"),
    ],
)
def test_invalid_block_is_rejected_and_leaves_the_converter_unchanged(block: npt.NDArray[Any], message: str) -> None:
    converter = AudioConverter()
    converter.push(np.zeros(1599, dtype=np.float32))
    with pytest.raises(InputError, match=message):
        converter.push(block)
    np.testing.assert_array_equal(converter.push(np.array([0.5], dtype=np.float32)), [0.5])


def test_nan_in_bytes_is_rejected() -> None:
    with pytest.raises(InputError, match="nan"):
        AudioConverter(encoding="pcm_f32le").push(np.array([np.nan], dtype="<f4").tobytes())


@pytest.mark.parametrize(
    ("sample_rate", "channels", "encoding", "message"),
    [
        (100, 1, "pcm_s16le", "4000 to 384000 Hz"),
        (16_000, 0, "pcm_s16le", "1 to 64"),
        (16_000, 1, "opus", "pcm_s16le, pcm_s24le"),
    ],
)
def test_unsupported_input_format_names_what_is_supported(
    sample_rate: int, channels: int, encoding: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        AudioConverter(sample_rate, channels, encoding)
