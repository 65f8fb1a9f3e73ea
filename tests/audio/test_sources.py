"""Tests of the sources for live streams: paced blocks and raw PCM from a pipe."""

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
from stream_asr.audio.sources import pace_realtime, read_raw_pcm
from stream_asr.errors import InputError


class Clock:
    """A clock that advances only when `sleep` is called."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps.append(seconds)
        self.now += seconds


class ScriptedPipe(io.RawIOBase):
    """A pipe whose reads return the given blocks one by one, then end of file."""

    def __init__(self, *blocks: bytes) -> None:
        self._blocks = list(blocks)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._blocks.pop(0) if self._blocks else b""


def buffered_pipe(*blocks: bytes) -> io.BufferedReader:
    """A scripted pipe behind a buffer, like ``sys.stdin.buffer``."""
    return io.BufferedReader(ScriptedPipe(*blocks))


def pcm(count: int, seed: int = 0) -> bytes:
    """``count`` values of noise in pcm_s16le."""
    return np.random.default_rng(seed).integers(-9000, 9000, count).astype("<i2").tobytes()


def convert(data: bytes, rate: int = 16_000, channels: int = 1) -> FloatArray:
    converter = AudioConverter(rate, channels)
    return np.concatenate([converter.push(data), converter.finish()])


def first_block_with_samples(blocks: Iterator[FloatArray]) -> int:
    """The length of the next block that is not empty."""
    return next(len(block) for block in blocks if len(block))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100])
def test_paced_blocks_arrive_when_a_microphone_would_deliver_them(rate: int) -> None:
    clock = Clock()
    samples = np.arange(round(rate * 1.111), dtype=np.float32)
    blocks = [samples[: rate // 2], samples[:0], samples[rate // 2 :]]
    received: list[FloatArray] = []
    for block in pace_realtime(blocks, rate, clock, clock.sleep):
        received.append(block)
        assert 0 < len(block) <= round(0.02 * rate)
        # The time of a block is that of its last sample; rounding errors do not accumulate.
        assert clock.now - 100 == pytest.approx(sum(map(len, received)) / rate, abs=1e-9)
    np.testing.assert_array_equal(np.concatenate(received), samples)


def test_late_consumer_catches_up_without_sleeping() -> None:
    clock = Clock()
    blocks = pace_realtime([np.zeros(32_000, dtype=np.float32)], 16_000, clock, clock.sleep)
    next(blocks)
    clock.now += 1.0
    sleeps = len(clock.sleeps)
    for _ in range(50):
        next(blocks)
    assert len(clock.sleeps) == sleeps, "one second is overdue, which is 50 blocks"
    next(blocks)
    assert clock.sleeps[sleeps:] == [pytest.approx(0.02)]


def test_pacing_keeps_channels() -> None:
    clock = Clock()
    samples = np.random.default_rng(0).uniform(-1, 1, (5000, 3)).astype(np.float32)
    blocks = list(pace_realtime([samples], 48_000, clock, clock.sleep))
    assert [block.shape for block in blocks] == [(960, 3)] * 5 + [(200, 3)]
    np.testing.assert_array_equal(np.concatenate(blocks), samples)


def test_pacing_starts_when_the_first_block_is_requested() -> None:
    clock = Clock()
    blocks = pace_realtime([np.zeros(640, dtype=np.float32)], 16_000, clock, clock.sleep)
    clock.now += 5  # the model is still loading
    next(blocks)
    assert clock.sleeps == [pytest.approx(0.02)]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 900), max_size=12), st.sampled_from([(16_000, 1), (48_000, 2), (8_000, 3)]))
def test_raw_pcm_does_not_depend_on_how_reads_split_the_data(sizes: list[int], pcm_format: tuple[int, int]) -> None:
    rate, channels = pcm_format
    data = pcm(3000 * channels)
    edges = [0, *np.minimum(np.cumsum(sizes, dtype=int), len(data)), len(data)]
    reads = [data[start:stop] for start, stop in pairwise(edges) if stop > start]
    converter = AudioConverter(rate, channels)
    samples = np.concatenate(list(read_raw_pcm(buffered_pipe(*reads), converter)))
    np.testing.assert_array_equal(samples, convert(data, rate, channels))
    assert converter.trailing_bytes == 0


@pytest.mark.parametrize("make_pipe", [io.BytesIO, buffered_pipe])
def test_samples_held_by_the_resampler_are_yielded_at_the_end(make_pipe: Callable[[bytes], BinaryIO]) -> None:
    data = pcm(2 * 48_000)
    samples = np.concatenate(list(read_raw_pcm(make_pipe(data), AudioConverter(48_000, 2))))
    assert len(samples) == 16_000
    np.testing.assert_array_equal(samples, convert(data, 48_000, 2))


def test_empty_pipe_yields_no_samples() -> None:
    assert sum(len(block) for block in read_raw_pcm(io.BytesIO(), AudioConverter())) == 0


def test_incomplete_last_sample_is_counted_in_trailing_bytes() -> None:
    converter = AudioConverter(channels=2)
    assert sum(len(block) for block in read_raw_pcm(io.BytesIO(pcm(20) + b"\1\2\3"), converter)) == 10
    assert converter.trailing_bytes == 3


def test_idle_pipe_yields_empty_blocks() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as pipe:
        blocks = read_raw_pcm(pipe, AudioConverter())
        assert [len(next(blocks)), len(next(blocks))] == [0, 0]
        os.write(write_end, pcm(100))
        assert first_block_with_samples(blocks) == 100
        assert len(next(blocks)) == 0
        os.write(write_end, pcm(1))
        assert first_block_with_samples(blocks) == 1, "a short read is passed on at once"
        os.close(write_end)
        assert sum(len(block) for block in blocks) == 0


@pytest.mark.parametrize("magic", [b"RIFF", b"RF64", b"OggS", b"fLaC", b"ID3\3"])
@pytest.mark.parametrize("cuts", [[], [1], [2, 3], [1, 2, 3]])
def test_audio_file_header_is_rejected_however_reads_split_it(magic: bytes, cuts: list[int]) -> None:
    data = magic + pcm(100)
    edges = [0, *cuts, len(data)]
    reads = [data[start:stop] for start, stop in pairwise(edges)]
    with pytest.raises(InputError, match=r"header of an audio file.*stream-asr stream.*ffmpeg -i FILE"):
        list(read_raw_pcm(buffered_pipe(*reads), AudioConverter()))


def test_header_bytes_in_later_samples_are_audio() -> None:
    data = pcm(2) + b"RIFF" + pcm(2)
    assert sum(len(block) for block in read_raw_pcm(io.BytesIO(data), AudioConverter())) == 6


def test_read_error_of_the_pipe_is_an_input_error() -> None:
    class BrokenPipe(ScriptedPipe):
        def read(self, size: int = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(InputError, match="stdin cannot be read: Input/output error"):
        list(read_raw_pcm(io.BufferedReader(BrokenPipe()), AudioConverter()))


def test_full_queue_stops_reading_from_the_pipe() -> None:
    class EndlessPipe(ScriptedPipe):
        reads, ended = 0, False

        def read(self, size: int = -1) -> bytes:
            self.reads += 1
            return b"" if self.ended else bytes(size)

    pipe = EndlessPipe()
    blocks = read_raw_pcm(io.BufferedReader(pipe), AudioConverter())
    first_block_with_samples(blocks)
    before = -1
    while before != pipe.reads:
        before = pipe.reads
        time.sleep(0.05)
    assert pipe.reads < 70, "about 30 s of audio are queued"
    pipe.ended = True
    for _ in blocks:
        pass


def test_process_exits_while_its_pipe_is_open() -> None:
    # Python aborts at exit if a thread holds the lock of sys.stdin.buffer.
    program = (
        "import sys, time\n"
        "from stream_asr.audio.pcm import AudioConverter\n"
        "from stream_asr.audio.sources import read_raw_pcm\n"
        "blocks = read_raw_pcm(sys.stdin.buffer, AudioConverter()); next(blocks); time.sleep(0.1); next(blocks)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 0
