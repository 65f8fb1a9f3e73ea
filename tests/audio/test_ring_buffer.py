"""Tests of the lock-free ring buffer."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.array_types import FloatArray
from stream_asr.audio.ring_buffer import Gap, RingBuffer


def ramp(start: int, length: int) -> FloatArray:
    """Samples whose values count up from ``start``."""
    return np.arange(start, start + length, dtype=np.float32)


def test_samples_are_read_back_across_the_wrap() -> None:
    ring = RingBuffer(8)
    for start in range(0, 30, 5):
        assert ring.write(ramp(start, 5)) == 0
        np.testing.assert_array_equal(ring.read(start, start + 5), ramp(start, 5))
        ring.release(start + 5)
    assert (ring.captured, ring.written, ring.released, ring.dropped) == (30, 30, 30, 0)


def test_full_buffer_drops_newest_samples_and_reports_the_gap() -> None:
    ring = RingBuffer(10)
    assert ring.write(ramp(1, 8)) == 0
    assert ring.write(ramp(9, 5)) == 3
    assert (ring.captured, ring.written, ring.dropped) == (13, 10, 3)
    ring.release(6)
    assert ring.write(ramp(14, 2)) == 0
    np.testing.assert_array_equal(ring.read(6, 15), [7, 8, 9, 10, 0, 0, 0, 14, 15])
    assert ring.take_gaps() == [Gap(10, 13)]
    assert ring.take_gaps() == []


def test_gap_grows_until_all_of_it_is_filled() -> None:
    ring = RingBuffer(4)
    ring.write(ramp(1, 4))
    assert ring.write(ramp(5, 6)) == 6
    ring.release(3)
    assert ring.write(ramp(11, 2)) == 2, "3 of 6 dropped samples are not filled yet"
    ring.release(ring.written)
    ring.fill_gap()
    ring.release(ring.written)
    assert ring.fill_gap()
    assert ring.take_gaps() == [Gap(4, 12)]


@pytest.mark.parametrize(("released", "span"), [(1, (0, 3)), (2, (1, 5)), (4, (4, 9))])
def test_released_and_unwritten_samples_cannot_be_read(released: int, span: tuple[int, int]) -> None:
    ring = RingBuffer(8)
    ring.write(ramp(0, 8))
    ring.release(released)
    with pytest.raises(IndexError, match="which holds"):
        ring.read(*span)


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RingBuffer(0)


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_every_sample_is_at_its_position_or_in_a_gap(capacity: int, steps: list[tuple[int, int]]) -> None:
    ring = RingBuffer(capacity)
    captured = 0
    blocks, gaps = [], []
    for write_size, read_size in steps:
        ring.write(ramp(captured + 1, write_size))
        captured += write_size
        stop = min(ring.written, ring.released + read_size)
        blocks.append(ring.read(ring.released, stop))
        ring.release(stop)
        gaps += ring.take_gaps()
        assert ring.captured == captured
        assert ring.written - ring.released <= capacity
    filled = False
    while not filled:
        filled = ring.fill_gap()
        blocks.append(ring.read(ring.released, ring.written))
        ring.release(ring.written)
    gaps += ring.take_gaps()
    expected = ramp(1, captured)
    for gap in gaps:
        expected[gap.start : gap.stop] = 0
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
    assert sum(gap.stop - gap.start for gap in gaps) == ring.dropped


def test_writer_and_reader_threads_run_concurrently() -> None:
    ring, total = RingBuffer(1000), 20_000

    def write() -> None:
        position = 0
        while position < total:
            size = min(97, total - position, ring.free)
            ring.write(ramp(position, size))
            position += size

    writer = threading.Thread(target=write)
    writer.start()
    position = 0
    while position < total:
        stop = ring.written
        block = ring.read(position, stop)
        np.testing.assert_array_equal(block, ramp(position, stop - position))
        ring.release(stop)
        position = stop
    writer.join()
    assert ring.dropped == 0
