"""The grid of commit windows, and preview windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.config import WindowConfig
from stream_asr.streaming.windows import Window, WindowGeometry, WindowPlan

FRAME = 320
SECOND = 16_000

geometries = st.builds(
    lambda left, commit, right: WindowGeometry(
        left * FRAME, commit * FRAME, right * FRAME, left // 2 * FRAME, None, 10 * FRAME, min(20, right) * FRAME, FRAME
    ),
    st.integers(0, 200),
    st.integers(1, 100),
    st.integers(0, 60),
)


@given(geometries, st.integers(0, 50), st.integers(1, 200_000), st.lists(st.integers(0, 200_000), max_size=20))
def test_commit_windows_tile_the_utterance_whenever_they_are_requested(
    geometry: WindowGeometry, start_frame: int, length: int, offsets: list[int]
) -> None:
    start = start_frame * FRAME
    end = start + length

    def plan_windows(positions: list[int]) -> list[Window]:
        plan = WindowPlan(geometry, start)
        windows = [window for position in positions for window in plan.commit_windows(position)]
        windows += plan.commit_windows(end)
        return [*windows, *filter(None, [plan.last_window(end, end)])]

    windows = plan_windows(sorted(start + offset % (length + 1) for offset in offsets))
    assert windows == plan_windows([])
    committed = start
    for window in windows:
        assert window.new_start == committed
        assert window.start == max(start, committed - geometry.left)
        committed = window.new_stop
        assert window.new_stop <= window.stop <= end
        if window is not windows[-1]:
            assert window.stop == window.new_stop + geometry.right
            assert (window.new_start - start) % geometry.commit == 0
    assert committed == end


def test_window_i_covers_the_documented_samples() -> None:
    config = WindowConfig(left_context_ms=4000, commit_ms=1600, right_context_ms=800)
    plan = WindowPlan(WindowGeometry.from_config(config, FRAME), 32_000)
    left, commit, right = 4 * SECOND, int(1.6 * SECOND), int(0.8 * SECOND)
    assert plan.commit_windows(32_000 + commit + right - 1) == []
    (first,) = plan.commit_windows(32_000 + commit + right)
    assert (first.start, first.stop) == (32_000, 32_000 + commit + right)
    for i, window in enumerate(plan.commit_windows(32_000 + 20 * SECOND), start=1):
        assert window.start == 32_000 + max(0, i * commit - left)
        assert window.stop == 32_000 + i * commit + commit + right


def test_short_utterance_is_one_window() -> None:
    plan = WindowPlan(WindowGeometry.from_config(WindowConfig(), FRAME), 640)
    assert plan.commit_windows(640 + 30_000) == []
    assert plan.last_window(640 + 30_000, 640 + 30_000) == Window(640, 30_640, 640, 30_640)


def test_preview_ends_at_the_last_whole_frame() -> None:
    plan = WindowPlan(WindowGeometry.from_config(WindowConfig(), FRAME), 0)
    assert plan.preview_window(319) is None
    window = plan.preview_window(10_000)
    assert window is not None
    assert (window.start, window.stop) == (0, 10_000 - 10_000 % FRAME)


def test_lengths_are_rounded_up_to_whole_frames() -> None:
    config = WindowConfig(left_context_ms=4000, commit_ms=1600, right_context_ms=810)
    geometry = WindowGeometry.from_config(config, 1280)
    assert (geometry.left, geometry.commit, geometry.right) == (64_000, 25_600, 14_080)


def test_left_context_is_shortened_to_the_longest_window_of_the_model() -> None:
    geometry = WindowGeometry.from_config(WindowConfig(), FRAME, max_window_samples=48_000)
    assert geometry.left + geometry.commit + geometry.right <= 48_000
    with pytest.raises(ValueError, match="longest input"):
        WindowGeometry.from_config(WindowConfig(), FRAME, max_window_samples=16_000)


@given(
    st.integers(0, 60),
    st.integers(1, 50),
    st.integers(1, 40),
    st.integers(0, 40),
    st.integers(0, 60),
    st.integers(1, 9),
)
def test_silence_at_the_end_fits_into_the_longest_window_of_the_model(
    left: int, commit: int, right: int, silence: int, spare: int, end_frames: int
) -> None:
    config = WindowConfig(
        left_context_ms=20 * left, commit_ms=20 * commit, right_context_ms=20 * right, end_silence_ms=20 * silence
    )
    limit = (commit + right + spare) * FRAME
    geometry = WindowGeometry.from_config(config, FRAME, limit)
    for end in range(end_frames * 1000, 4 * limit, 4567):
        plan = WindowPlan(geometry, 0)
        windows = plan.commit_windows(end)
        last = plan.last_window(end, None)
        assert last is not None
        assert last.audio_end == end
        assert all(-(-(window.stop - window.start) // FRAME) * FRAME <= limit for window in [*windows, last])


def test_audio_after_a_forced_cut_is_right_context() -> None:
    plan = WindowPlan(WindowGeometry.from_config(WindowConfig(right_context_ms=800), FRAME), 0)
    window = plan.last_window(16_000, available=16_000 + 1000)
    assert window is not None
    assert (window.stop, window.new_stop) == (16_000 + 960, 16_000)


@given(geometries, st.integers(0, 50), st.integers(1, 200_000))
def test_preview_covers_all_uncommitted_frames_and_its_left_context(
    geometry: WindowGeometry, start_frame: int, length: int
) -> None:
    start = start_frame * FRAME
    plan = WindowPlan(geometry, start)
    committed = max([start, *(window.new_stop for window in plan.commit_windows(start + length))])
    window = plan.preview_window(start + length)
    if window is None:
        assert start + length - committed < FRAME
        return
    assert (window.new_start, window.new_stop) == (committed, window.stop)
    assert window.start == max(start, committed - geometry.preview_left)
    assert plan.first_needed <= window.start
    assert 0 <= start + length - window.stop < FRAME


def test_previews_have_no_more_left_context_than_commit_windows() -> None:
    config = WindowConfig(left_context_ms=600, preview_left_context_ms=1000)
    geometry = WindowGeometry.from_config(config, FRAME)
    assert geometry.preview_left == geometry.left
