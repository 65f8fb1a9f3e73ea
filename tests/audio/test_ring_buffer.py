from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.audio.ring_buffer import Gap, RingBuffer


def ramp(start: int, length: int) -> np.ndarray:
    return np.arange(start, start + length, dtype=np.float32)


def test_reads_back_what_was_written_across_the_wrap() -> None:
    ring = RingBuffer(8)
    for start in range(0, 30, 5):
        assert ring.write(ramp(start, 5)) == 0
        np.testing.assert_array_equal(ring.read(start, start + 5), ramp(start, 5))
        ring.release(start + 5)
    assert (ring.captured, ring.written, ring.released, ring.dropped) == (30, 30, 30, 0)


def test_a_full_buffer_drops_the_newest_and_says_where() -> None:
    ring = RingBuffer(10)
    assert ring.write(ramp(1, 8)) == 0
    assert ring.write(ramp(9, 5)) == 3
    assert (ring.captured, ring.written, ring.dropped) == (13, 10, 3)
    ring.release(6)
    assert ring.write(ramp(14, 2)) == 0
    np.testing.assert_array_equal(ring.read(6, 15), [7, 8, 9, 10, 0, 0, 0, 14, 15])
    assert ring.take_gaps() == [Gap(10, 13)]
    assert ring.take_gaps() == []


def test_a_gap_grows_until_there_is_room_for_all_of_it() -> None:
    ring = RingBuffer(4)
    ring.write(ramp(1, 4))
    assert ring.write(ramp(5, 6)) == 6
    ring.release(3)
    assert ring.write(ramp(11, 2)) == 2, "the gap still needs 3 of 6 places"
    ring.release(ring.written)
    ring.settle()
    ring.release(ring.written)
    assert ring.settle()
    assert ring.take_gaps() == [Gap(4, 12)]


@pytest.mark.parametrize("span", [(0, 3), (2, 5), (4, 9)])
def test_samples_that_are_gone_or_not_there_yet_cannot_be_read(span: tuple[int, int]) -> None:
    ring = RingBuffer(8)
    ring.write(ramp(0, 8))
    ring.release(1 if span[0] == 0 else span[0])
    with pytest.raises(IndexError, match="holds"):
        ring.read(span[0] - 1 if span[0] > 1 else 0, span[1])


def test_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RingBuffer(0)


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_every_sample_is_at_its_position_or_in_a_gap(capacity: int, steps: list[tuple[int, int]]) -> None:
    ring = RingBuffer(capacity)
    offered, heard, gaps = 0, [], []
    for size, take in steps:
        ring.write(ramp(offered + 1, size))
        offered += size
        stop = min(ring.written, ring.released + take)
        heard.append(ring.read(ring.released, stop))
        ring.release(stop)
        gaps += ring.take_gaps()
        assert ring.captured == offered
        assert ring.written - ring.released <= capacity
    while True:
        settled = ring.settle()
        heard.append(ring.read(ring.released, ring.written))
        ring.release(ring.written)
        if settled:
            break
    gaps += ring.take_gaps()
    result = np.concatenate(heard) if heard else np.zeros(0)
    expected = ramp(1, offered)
    for gap in gaps:
        expected[gap.start : gap.stop] = 0
    np.testing.assert_array_equal(result, expected)
    assert sum(gap.stop - gap.start for gap in gaps) == ring.dropped


def test_one_writer_and_one_reader_at_once() -> None:
    ring, total = RingBuffer(1000), 20_000

    def write() -> None:
        at = 0
        while at < total:
            size = min(97, total - at, ring.free)
            ring.write(ramp(at, size))
            at += size

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
