"""The endpointer and its settings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stream_asr.array_types import FloatArray
from stream_asr.config import SegmenterConfig
from stream_asr.errors import InputError
from stream_asr.vad.detectors import detector_factory
from stream_asr.vad.endpointer import Boundary, Endpointer, EndReason, UtteranceEnd, UtteranceStart
from tests.support.fakes import Loud, silence, sound

GRID = 320
SECOND = 16_000
CUT_SEARCH_SAMPLES = 12_800


def make_endpointer(config: SegmenterConfig | None = None, grid: int = GRID, frame_ms: int = 20) -> Endpointer:
    return Endpointer(config or SegmenterConfig(), grid, CUT_SEARCH_SAMPLES, Loud(frame_ms))


def make_webrtc_endpointer() -> Endpointer:
    config = SegmenterConfig()
    return Endpointer(config, GRID, CUT_SEARCH_SAMPLES, detector_factory("webrtc", config)())


def find_boundaries(
    audio: FloatArray, endpointer: Endpointer | None = None, block_sizes: list[int] | None = None
) -> list[Boundary]:
    endpointer = endpointer or make_endpointer()
    boundaries: list[Boundary] = []
    start, turn = 0, 0
    while start < len(audio):
        size = block_sizes[turn % len(block_sizes)] if block_sizes else len(audio)
        boundaries += endpointer.push(audio[start : start + size])
        start, turn = start + size, turn + 1
    return [*boundaries, *endpointer.finish()]


def tone(seconds: float, level: float = 0.3) -> FloatArray:
    return np.full(round(seconds * SECOND), level, dtype=np.float32)


@st.composite
def scenes(draw: st.DrawFn) -> FloatArray:
    """Some seconds of sound and silence, in parts of any length."""
    parts = draw(st.lists(st.tuples(st.booleans(), st.integers(1, 30_000)), min_size=1, max_size=8))
    return np.concatenate([np.full(length, 0.3 * on, dtype=np.float32) for on, length in parts])


grids = st.sampled_from([320, 384, 1280])
frames_ms = st.sampled_from([10, 20, 30, 32])


@settings(max_examples=60)
@given(scenes(), st.lists(st.integers(1, 5000), min_size=1, max_size=6), grids, frames_ms)
def test_boundaries_do_not_depend_on_block_sizes(
    audio: FloatArray, block_sizes: list[int], grid: int, frame_ms: int
) -> None:
    config = SegmenterConfig(max_utterance_ms=3000)
    in_one_block = find_boundaries(audio, make_endpointer(config, grid, frame_ms))
    assert find_boundaries(audio, make_endpointer(config, grid, frame_ms), block_sizes) == in_one_block


@settings(max_examples=60)
@given(scenes(), grids, frames_ms)
def test_utterances_are_ordered_aligned_and_limited_in_length(audio: FloatArray, grid: int, frame_ms: int) -> None:
    config = SegmenterConfig(max_utterance_ms=3000)
    previous_end, start = 0, None
    for boundary in find_boundaries(audio, make_endpointer(config, grid, frame_ms)):
        assert boundary.position <= boundary.decided_at <= len(audio)
        if isinstance(boundary, UtteranceStart):
            assert start is None
            assert boundary.position % grid == 0
            assert boundary.position >= previous_end
            start = boundary.position
        else:
            assert start is not None
            assert start < boundary.position <= start + config.max_utterance_ms * 16 + grid
            assert boundary.position % grid == 0 or boundary.position == len(audio)
            previous_end, start = boundary.position, None
    assert start is None, "the end of the audio ends the utterance"


@pytest.mark.parametrize("frame_ms", [10, 20, 30, 32])
def test_utterance_includes_pre_roll_and_endpoint_silence(frame_ms: int) -> None:
    audio = np.concatenate([silence(1), tone(1), silence(2)])
    start, end = find_boundaries(audio, make_endpointer(frame_ms=frame_ms))
    config = SegmenterConfig()
    assert start.position == pytest.approx(SECOND - config.pre_roll_ms * 16, abs=GRID)
    assert start.decided_at == pytest.approx(SECOND + config.min_speech_ms * 16, abs=max(GRID, 16 * frame_ms))
    assert isinstance(end, UtteranceEnd)
    assert end.reason is EndReason.ENDPOINT
    assert end.position == pytest.approx(2 * SECOND + config.endpoint_ms * 16, abs=2 * GRID)


def test_click_is_not_an_utterance() -> None:
    assert find_boundaries(np.concatenate([silence(1), tone(0.1), silence(1)])) == []


def test_durations_below_a_detector_frame_mean_one_frame() -> None:
    config = SegmenterConfig(start_window_ms=20, min_speech_ms=20, min_pause_ms=20, endpoint_ms=20)
    audio = np.concatenate([silence(1), tone(0.5), silence(1)])
    start, end = find_boundaries(audio, make_endpointer(config, frame_ms=32))
    assert start.decided_at == pytest.approx(SECOND, abs=32 * 16)
    assert end.decided_at == pytest.approx(1.5 * SECOND, abs=2 * 32 * 16)


def test_pause_shorter_than_the_endpoint_does_not_end_an_utterance() -> None:
    audio = np.concatenate([silence(0.5), tone(1), silence(0.4), tone(1), silence(1)])
    assert len(find_boundaries(audio)) == 2


def test_pre_roll_does_not_overlap_the_previous_utterance() -> None:
    audio = np.concatenate([silence(0.5), tone(1), silence(0.52), tone(1), silence(1)])
    _, end, start, _ = find_boundaries(audio)
    assert start.position >= end.position


def test_forced_cut_is_at_the_quietest_place_nearby() -> None:
    config = SegmenterConfig(max_utterance_ms=4000)
    audio = np.concatenate([tone(3.6), tone(0.14, 0.05), tone(2.0), silence(1)])
    first_start, cut, next_start, end = find_boundaries(audio, make_endpointer(config))
    assert isinstance(cut, UtteranceEnd)
    assert cut.reason is EndReason.MAX_LENGTH
    assert 3.6 * SECOND <= cut.position <= 3.74 * SECOND
    assert next_start.position == cut.position, "no sample is lost at the cut"
    assert first_start.position == 0
    assert isinstance(end, UtteranceEnd)
    assert end.reason is EndReason.ENDPOINT


def test_forced_cut_is_within_the_search_range() -> None:
    config = SegmenterConfig(max_utterance_ms=4000)
    audio = np.concatenate([tone(2.5), tone(0.2, 0.05), tone(4.0)])
    cut = find_boundaries(audio, make_endpointer(config))[1]
    assert cut.position >= 4 * SECOND - CUT_SEARCH_SAMPLES


def test_shorter_pause_ends_a_long_utterance() -> None:
    config = SegmenterConfig(max_utterance_ms=8000)
    short = np.concatenate([tone(2), silence(0.24), tone(2), silence(1)])
    long = np.concatenate([tone(7), silence(0.24), tone(2), silence(1)])
    assert len(find_boundaries(short, make_endpointer(config))) == 2
    boundaries = find_boundaries(long, make_endpointer(config))
    assert len(boundaries) == 4
    assert 7 * SECOND < boundaries[1].position < 7.3 * SECOND


def test_flush_ends_the_utterance_but_not_the_stream() -> None:
    endpointer = make_endpointer()
    assert len(endpointer.push(np.concatenate([silence(0.5), tone(1)]))) == 1
    (end,) = endpointer.flush()
    assert isinstance(end, UtteranceEnd)
    assert end.position == pytest.approx(1.5 * SECOND, abs=GRID)
    assert endpointer.flush() == []
    boundaries = [*endpointer.push(np.concatenate([tone(1), silence(1)])), *endpointer.finish()]
    assert len(boundaries) == 2
    assert boundaries[0].position >= end.position


def test_end_of_audio_may_cut_off_the_last_word() -> None:
    audio = np.concatenate([silence(1), tone(0.1)])
    start, end = find_boundaries(audio)
    assert start.position < SECOND
    assert end.position == len(audio)


def test_utterances_do_not_start_before_earliest_start() -> None:
    endpointer = make_endpointer()
    rng = np.random.default_rng(0)
    for _ in range(400):
        earliest_start = endpointer.earliest_start
        for boundary in endpointer.push(tone(0.05) if rng.random() < 0.5 else silence(0.06)):
            if isinstance(boundary, UtteranceStart):
                assert boundary.position >= earliest_start


def test_webrtcvad_finds_speech(speech: FloatArray) -> None:
    # The recording has nine sentences; a short pause joins two of them.
    boundaries = find_boundaries(speech, make_webrtc_endpointer())
    utterances = [(a.position, b.position) for a, b in zip(boundaries[::2], boundaries[1::2], strict=True)]
    assert len(utterances) == 8
    energy = np.square(speech)
    energy_inside = sum(float(energy[start:end].sum()) for start, end in utterances)
    assert energy_inside > 0.999 * float(energy.sum())


def test_webrtcvad_adapts_to_noise() -> None:
    rng = np.random.default_rng(1)
    noise = (rng.standard_normal(20 * SECOND) * 0.01).astype(np.float32)
    boundaries = find_boundaries(noise, make_webrtc_endpointer())
    assert sum(b.position - a.position for a, b in zip(boundaries[::2], boundaries[1::2], strict=True)) < 2 * SECOND


def test_silence_contains_no_utterance() -> None:
    assert find_boundaries(silence(5), make_webrtc_endpointer()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"aggressiveness": 4}, "0, 1, 2 or 3"),
        ({"vad_frame_ms": 25}, "10, 20 or 30"),
        ({"silero_threshold": 1.0}, "and 1"),
        ({"silero_threshold": 0.1}, "silero_hysteresis, which is 0.15"),
        ({"silero_hysteresis": -0.1}, "negative"),
        ({"min_speech_ms": 400}, "start_window_ms"),
        ({"pre_roll_ms": -1}, "negative"),
        ({"min_pause_ms": 600}, "endpoint_ms"),
        ({"min_pause_ms": 10}, "vad_frame_ms, which is 20"),
        ({"max_utterance_ms": 1000}, "at least twice"),
        ({"endpoint_voiced_ratio": 0.7}, "below 0.5"),
        ({"shrink_from_ratio": 1.0}, "below 1"),
    ],
)
def test_invalid_setting_is_an_error_that_states_the_range(setting: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SegmenterConfig(**setting)  # type: ignore[arg-type]


@given(st.integers(20, 600), st.integers(0, 600), st.integers(1200, 40_000))
def test_endpoint_range_is_what_the_configuration_accepts(
    min_pause_ms: int, additional_ms: int, max_utterance_ms: int
) -> None:
    def make_config(endpoint_ms: int) -> SegmenterConfig | None:
        try:
            return SegmenterConfig(
                min_pause_ms=min_pause_ms, endpoint_ms=endpoint_ms, max_utterance_ms=max_utterance_ms
            )
        except InputError:
            return None

    config = make_config(min_pause_ms + additional_ms)
    assume(config)
    assert config is not None
    low, high = config.endpoint_range_ms
    accepted = [make_config(endpoint_ms) is not None for endpoint_ms in (low - 1, low, high, high + 1)]
    assert accepted == [False, True, True, False]
    assert config.with_endpoint(high) == make_config(high)
    with pytest.raises(InputError, match=f"{low} to {high} are accepted"):
        config.with_endpoint(high + 1)


def test_fake_sound_is_voiced() -> None:
    assert len(find_boundaries(np.concatenate([silence(0.5), sound("hello"), silence(1)]))) == 2
