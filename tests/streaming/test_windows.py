from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.config import WindowConfig
from stream_asr.streaming.windows import WindowGeometry, WindowPlan

GRID = 320
geometries = st.builds(
    lambda left, commit, right: WindowGeometry(
        left * GRID, commit * GRID, right * GRID, left // 2 * GRID, 10 * GRID, GRID
    ),
    st.integers(0, 200),
    st.integers(1, 100),
    st.integers(0, 60),
)


@given(geometries, st.integers(0, 50), st.integers(1, 200_000), st.lists(st.integers(0, 200_000), max_size=20))
def test_kept_stretches_tile_the_utterance_and_do_not_depend_on_when_one_asks(
    geometry: WindowGeometry, start_frame: int, length: int, asked: list[int]
) -> None:
    start = start_frame * GRID
    end = start + length

    def windows(positions: list[int]) -> list[object]:
        plan = WindowPlan(geometry, start)
        made = [window for at in positions for window in plan.commit_windows(at)]
        made += plan.commit_windows(end)
        return [*made, *filter(None, [plan.last_window(end, end)])]

    made = windows(sorted(start + place % (length + 1) for place in asked))
    assert made == windows([])
    edge = start
    for window in made:
        assert window.new_start == edge
        assert window.start == max(start, edge - geometry.left)
        edge = window.new_stop
        assert window.new_stop <= window.stop <= end
        if window is not made[-1]:
            assert window.stop == window.new_stop + geometry.right
            assert (window.new_start - start) % geometry.commit == 0
    assert edge == end


def test_the_grid_is_that_of_the_design() -> None:
    geometry = WindowGeometry.from_config(WindowConfig(left_context_ms=4000, commit_ms=1600, right_context_ms=800), GRID)
    plan = WindowPlan(geometry, 32_000)
    second = 16_000
    assert plan.commit_windows(32_000 + int(2.4 * second) - 1) == []
    (first,) = plan.commit_windows(32_000 + int(2.4 * second))
    assert (first.start, first.stop) == (32_000, 32_000 + int(2.4 * second))
    for i, window in enumerate(plan.commit_windows(32_000 + 20 * second), start=1):
        stride, left, right = int(1.6 * second), 4 * second, int(0.8 * second)
        assert window.start == 32_000 + max(0, i * stride - left)
        assert window.stop == 32_000 + i * stride + stride + right


def test_a_short_utterance_is_one_pass_over_all_of_it() -> None:
    plan = WindowPlan(WindowGeometry.from_config(WindowConfig(), GRID), 640)
    assert plan.commit_windows(640 + 30_000) == []
    window = plan.last_window(640 + 30_000, 640 + 30_000)
    assert window is not None
    assert (window.start, window.stop, window.new_start, window.new_stop) == (640, 30_640, 640, 30_640)


def test_previews_reach_the_newest_whole_frame() -> None:
    plan = WindowPlan(WindowGeometry.from_config(WindowConfig(), GRID), 0)
    assert plan.preview_window(319) is None
    window = plan.preview_window(10_000)
    assert window is not None
    assert (window.start, window.stop) == (0, 10_000 - 10_000 % GRID)


def test_lengths_are_rounded_up_to_frames_of_the_model() -> None:
    geometry = WindowGeometry.from_config(WindowConfig(left_context_ms=4000, commit_ms=1600, right_context_ms=810), 1280)
    assert (geometry.left, geometry.commit, geometry.right) == (64_000, 25_600, 14_080)


def test_a_model_of_limited_length_gets_less_left_context() -> None:
    geometry = WindowGeometry.from_config(WindowConfig(), GRID, max_window_samples=48_000)
    assert geometry.left + geometry.commit + geometry.right <= 48_000
    with pytest.raises(ValueError, match="longest input"):
        WindowGeometry.from_config(WindowConfig(), GRID, max_window_samples=16_000)


def test_a_cut_utterance_gets_what_follows_as_right_context() -> None:
    plan = WindowPlan(WindowGeometry.from_config(WindowConfig(right_context_ms=800), GRID), 0)
    window = plan.last_window(16_000, available=16_000 + 1000)
    assert window is not None
    assert (window.stop, window.new_stop) == (16_000 + 960, 16_000)


@given(geometries, st.integers(0, 50), st.integers(1, 200_000))
def test_previews_show_all_that_is_not_committed_after_a_little_of_what_is(
    geometry: WindowGeometry, start_frame: int, length: int
) -> None:
    start = start_frame * GRID
    plan = WindowPlan(geometry, start)
    committed = max([start, *(window.new_stop for window in plan.commit_windows(start + length))])
    window = plan.preview_window(start + length)
    if window is None:
        assert start + length - committed < GRID
        return
    assert (window.new_start, window.new_stop) == (committed, window.stop)
    assert window.start == max(start, committed - geometry.preview_left)
    assert plan.first_needed <= window.start
    assert 0 <= start + length - window.stop < GRID


def test_previews_have_no_more_left_context_than_what_is_kept() -> None:
    geometry = WindowGeometry.from_config(WindowConfig(left_context_ms=600, preview_left_context_ms=1000), GRID)
    assert geometry.preview_left == geometry.left
