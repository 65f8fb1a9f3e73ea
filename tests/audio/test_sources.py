from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr.array_types import FloatArray
from stream_asr.audio.pcm import AudioConverter
from stream_asr.audio.sources import paced, raw_pcm
from stream_asr.errors import InputError


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps.append(seconds)
        self.now += seconds


class Pieces(io.RawIOBase):
    """A pipe that delivers these bytes, cut like this."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def pcm(count: int, seed: int = 0) -> bytes:
    """Noise as pcm_s16le, ``count`` values."""
    return np.random.default_rng(seed).integers(-9000, 9000, count).astype("<i2").tobytes()


def converted(data: bytes, rate: int = 16_000, channels: int = 1) -> FloatArray:
    converter = AudioConverter(rate, channels)
    return np.concatenate([converter.push(data), converter.finish()])


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100])
def test_paced_blocks_come_when_a_microphone_would_give_them(rate: int) -> None:
    clock = Clock()
    samples = np.arange(round(rate * 1.111), dtype=np.float32)
    blocks = [samples[: rate // 2], samples[:0], samples[rate // 2 :]]
    heard, given_ = [], 0
    for piece in paced(blocks, rate, clock, clock.sleep):
        heard.append(piece)
        given_ += len(piece)
        assert 0 < len(piece) <= round(0.02 * rate)
        # Its last sample was just spoken; rounding does not add up.
        assert clock.now - 100 == pytest.approx(given_ / rate, abs=1e-9)
    np.testing.assert_array_equal(np.concatenate(heard), samples)


def test_a_late_consumer_catches_up_without_waiting() -> None:
    clock = Clock()
    pieces = paced([np.zeros(32_000, dtype=np.float32)], 16_000, clock, clock.sleep)
    next(pieces)
    clock.now += 1.0
    slept = len(clock.sleeps)
    for _ in range(50):
        next(pieces)
    assert len(clock.sleeps) == slept, "a second was missed, and it is 50 blocks long"
    next(pieces)
    assert clock.sleeps[slept:] == [pytest.approx(0.02)]


def test_paced_keeps_the_channels() -> None:
    clock = Clock()
    samples = np.random.default_rng(0).uniform(-1, 1, (5000, 3)).astype(np.float32)
    pieces = list(paced([samples], 48_000, clock, clock.sleep))
    assert [piece.shape for piece in pieces] == [(960, 3)] * 5 + [(200, 3)]
    np.testing.assert_array_equal(np.concatenate(pieces), samples)


def test_pacing_starts_with_the_first_block_asked_for() -> None:
    clock = Clock()
    pieces = paced([np.zeros(640, dtype=np.float32)], 16_000, clock, clock.sleep)
    clock.now += 5  # the model was still loading
    next(pieces)
    assert clock.sleeps == [pytest.approx(0.02)]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 900), max_size=12), st.sampled_from([(16_000, 1), (48_000, 2), (8_000, 3)]))
def test_raw_pcm_may_be_cut_anywhere(sizes: list[int], form: tuple[int, int]) -> None:
    rate, channels = form
    data = pcm(3000 * channels)
    edges = [0, *np.minimum(np.cumsum(sizes, dtype=int), len(data)), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges) if b > a]
    converter = AudioConverter(rate, channels)
    heard = np.concatenate(list(raw_pcm(Pieces(*pieces), converter)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(heard, converted(data, rate, channels))
    assert converter.trailing_bytes == 0


@pytest.mark.parametrize("pipe", [io.BytesIO, lambda data: io.BufferedReader(Pieces(data))])
def test_the_end_brings_what_the_resampler_held_back(pipe: Callable[[bytes], BinaryIO]) -> None:
    data = pcm(2 * 48_000)
    heard = np.concatenate(list(raw_pcm(pipe(data), AudioConverter(48_000, 2))))
    assert len(heard) == 16_000
    np.testing.assert_array_equal(heard, converted(data, 48_000, 2))


def test_no_bytes_at_all_are_an_empty_recording() -> None:
    assert sum(len(block) for block in raw_pcm(io.BytesIO(), AudioConverter())) == 0


def test_bytes_of_half_a_sample_are_left_to_be_reported() -> None:
    converter = AudioConverter(channels=2)
    assert sum(len(block) for block in raw_pcm(io.BytesIO(pcm(20) + b"\1\2\3"), converter)) == 10
    assert converter.trailing_bytes == 3


def test_while_nothing_comes_the_blocks_are_empty() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as pipe:
        blocks = raw_pcm(pipe, AudioConverter())
        assert [len(next(blocks)), len(next(blocks))] == [0, 0]
        os.write(write_end, pcm(100))
        assert first_sound(blocks) == 100
        assert len(next(blocks)) == 0
        os.write(write_end, pcm(1))
        assert first_sound(blocks) == 1, "not kept until a buffer is full"
        os.close(write_end)
        assert sum(len(block) for block in blocks) == 0


def first_sound(blocks: Iterator[FloatArray]) -> int:
    return next(len(block) for block in blocks if len(block))


@pytest.mark.parametrize("magic", [b"RIFF", b"RF64", b"OggS", b"fLaC", b"ID3\3"])
@pytest.mark.parametrize("cuts", [[], [1], [2, 3], [1, 2, 3]])
def test_a_file_with_a_header_is_refused_however_it_arrives(magic: bytes, cuts: list[int]) -> None:
    data = magic + pcm(100)
    edges = [0, *cuts, len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    with pytest.raises(InputError, match=r"header of an audio file.*stream-asr stream.*ffmpeg -i FILE"):
        list(raw_pcm(Pieces(*pieces), AudioConverter()))  # type: ignore[arg-type]


def test_the_letters_of_a_header_later_on_are_sound() -> None:
    data = pcm(2) + b"RIFF" + pcm(2)
    assert sum(len(block) for block in raw_pcm(io.BytesIO(data), AudioConverter())) == 6


def test_a_pipe_that_cannot_be_read_is_no_silence() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(InputError, match="stdin cannot be read: Input/output error"):
        list(raw_pcm(Broken(), AudioConverter()))  # type: ignore[arg-type]


def test_a_writer_that_is_faster_than_the_reader_is_held_back() -> None:
    class Endless(io.RawIOBase):
        reads, ended = 0, False

        def read(self, size: int = -1) -> bytes:
            self.reads += 1
            return b"" if self.ended else bytes(size)

    pipe = Endless()
    blocks = raw_pcm(pipe, AudioConverter())  # type: ignore[arg-type]
    first_sound(blocks)
    before = -1
    while before != pipe.reads:
        before = pipe.reads
        time.sleep(0.05)
    assert pipe.reads < 70, "some 30 s of speech wait, then the pipe does"
    pipe.ended = True
    for _ in blocks:
        pass


def test_a_program_can_end_while_its_pipe_stays_open() -> None:
    # Python aborts where a thread holds the lock of sys.stdin.buffer when it exits.
    program = (
        "import sys, time\n"
        "from stream_asr.audio.pcm import AudioConverter\n"
        "from stream_asr.audio.sources import raw_pcm\n"
        "blocks = raw_pcm(sys.stdin.buffer, AudioConverter()); next(blocks); time.sleep(0.1); next(blocks)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 0
