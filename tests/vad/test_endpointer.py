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


def segmenter(config: SegmenterConfig | None = None, grid: int = GRID, frame_ms: int = 20) -> Endpointer:
    return Endpointer(config or SegmenterConfig(), grid, 800, Loud(frame_ms))


def webrtc() -> Endpointer:
    config = SegmenterConfig()
    return Endpointer(config, GRID, 800, detector_factory("webrtc", config)())


def boundaries(audio: FloatArray, made: Endpointer | None = None, sizes: list[int] | None = None) -> list[Boundary]:
    made = made or segmenter()
    found: list[Boundary] = []
    at, turn = 0, 0
    while at < len(audio):
        size = sizes[turn % len(sizes)] if sizes else len(audio)
        found += made.push(audio[at : at + size])
        at, turn = at + size, turn + 1
    return [*found, *made.finish()]


def tone(seconds: float, level: float = 0.3) -> FloatArray:
    return np.full(round(seconds * SECOND), level, dtype=np.float32)


@st.composite
def scenes(draw: st.DrawFn) -> FloatArray:
    """Stretches of sound and silence of any length, a few seconds in all."""
    parts = draw(st.lists(st.tuples(st.booleans(), st.integers(1, 30_000)), min_size=1, max_size=8))
    return np.concatenate([np.full(length, 0.3 * on, dtype=np.float32) for on, length in parts])


grids = st.sampled_from([320, 384, 1280])
frames_ms = st.sampled_from([10, 20, 30, 32])


@settings(max_examples=60)
@given(scenes(), st.lists(st.integers(1, 5000), min_size=1, max_size=6), grids, frames_ms)
def test_boundaries_depend_on_the_samples_not_on_the_blocks(
    audio: FloatArray, sizes: list[int], grid: int, frame_ms: int
) -> None:
    config = SegmenterConfig(max_utterance_ms=3000)
    whole = boundaries(audio, segmenter(config, grid, frame_ms))
    assert boundaries(audio, segmenter(config, grid, frame_ms), sizes) == whole


@settings(max_examples=60)
@given(scenes(), grids, frames_ms)
def test_utterances_are_ordered_on_the_grid_and_not_too_long(audio: FloatArray, grid: int, frame_ms: int) -> None:
    config = SegmenterConfig(max_utterance_ms=3000)
    edge, start = 0, None
    for boundary in boundaries(audio, segmenter(config, grid, frame_ms)):
        assert boundary.position <= boundary.decided_at <= len(audio)
        if isinstance(boundary, UtteranceStart):
            assert start is None
            assert boundary.position % grid == 0
            assert boundary.position >= edge
            start = boundary.position
        else:
            assert start is not None
            assert start < boundary.position <= start + config.max_utterance_ms * 16 + grid
            assert boundary.position % grid == 0 or boundary.position == len(audio)
            edge, start = boundary.position, None
    assert start is None, "the end of the audio ends the utterance"


@pytest.mark.parametrize("frame_ms", [10, 20, 30, 32])
def test_one_utterance_with_pre_roll_and_the_endpoints_silence(frame_ms: int) -> None:
    audio = np.concatenate([silence(1), tone(1), silence(2)])
    start, end = boundaries(audio, segmenter(frame_ms=frame_ms))
    config = SegmenterConfig()
    assert start.position == pytest.approx(SECOND - config.pre_roll_ms * 16, abs=GRID)
    assert start.decided_at == pytest.approx(SECOND + config.min_speech_ms * 16, abs=max(GRID, 16 * frame_ms))
    assert isinstance(end, UtteranceEnd)
    assert end.reason is EndReason.ENDPOINT
    assert end.position == pytest.approx(2 * SECOND + config.endpoint_ms * 16, abs=2 * GRID)


def test_a_click_is_no_utterance() -> None:
    click = np.concatenate([silence(1), tone(0.1), silence(1)])
    assert boundaries(click) == []


def test_settings_shorter_than_a_frame_of_the_detector_mean_one_frame() -> None:
    config = SegmenterConfig(start_window_ms=20, min_speech_ms=20, min_pause_ms=20, endpoint_ms=20)
    start, end = boundaries(np.concatenate([silence(1), tone(0.5), silence(1)]), segmenter(config, frame_ms=32))
    assert start.decided_at == pytest.approx(SECOND, abs=32 * 16)
    assert end.decided_at == pytest.approx(1.5 * SECOND, abs=2 * 32 * 16)


def test_a_pause_shorter_than_the_endpoint_splits_nothing() -> None:
    audio = np.concatenate([silence(0.5), tone(1), silence(0.4), tone(1), silence(1)])
    assert len(boundaries(audio)) == 2


def test_pre_roll_does_not_reach_into_the_utterance_before() -> None:
    audio = np.concatenate([silence(0.5), tone(1), silence(0.52), tone(1), silence(1)])
    _, end, start, _ = boundaries(audio)
    assert start.position >= end.position


def test_a_forced_cut_falls_into_the_quietest_place_nearby() -> None:
    config = SegmenterConfig(max_utterance_ms=4000)
    audio = np.concatenate([tone(3.6), tone(0.14, 0.05), tone(2.0), silence(1)])
    first_start, cut, next_start, end = boundaries(audio, segmenter(config))
    assert isinstance(cut, UtteranceEnd)
    assert cut.reason is EndReason.MAX_LENGTH
    assert 3.6 * SECOND <= cut.position <= 3.74 * SECOND
    assert next_start.position == cut.position, "not a sample is lost between the two"
    assert first_start.position == 0
    assert isinstance(end, UtteranceEnd)
    assert end.reason is EndReason.ENDPOINT


def test_a_forced_cut_stays_within_the_search() -> None:
    config = SegmenterConfig(max_utterance_ms=4000)
    audio = np.concatenate([tone(2.5), tone(0.2, 0.05), tone(4.0)])
    cut = boundaries(audio, segmenter(config))[1]
    assert cut.position >= 4 * SECOND - 800 * 16


def test_short_pauses_suffice_for_a_long_utterance() -> None:
    config = SegmenterConfig(max_utterance_ms=8000)
    short = np.concatenate([tone(2), silence(0.24), tone(2), silence(1)])
    long = np.concatenate([tone(7), silence(0.24), tone(2), silence(1)])
    assert len(boundaries(short, segmenter(config))) == 2
    found = boundaries(long, segmenter(config))
    assert len(found) == 4
    assert 7 * SECOND < found[1].position < 7.3 * SECOND


def test_flush_ends_now_and_the_stream_goes_on() -> None:
    made = segmenter()
    assert len(made.push(np.concatenate([silence(0.5), tone(1)]))) == 1
    (end,) = made.flush()
    assert isinstance(end, UtteranceEnd)
    assert end.position == pytest.approx(1.5 * SECOND, abs=GRID)
    assert made.flush() == []
    again = [*made.push(np.concatenate([tone(1), silence(1)])), *made.finish()]
    assert len(again) == 2
    assert again[0].position >= end.position


def test_the_last_word_may_be_cut_off_by_the_end_of_the_audio() -> None:
    audio = np.concatenate([silence(1), tone(0.1)])
    start, end = boundaries(audio)
    assert start.position < SECOND
    assert end.position == len(audio)


def test_nothing_before_earliest_start_is_needed_again() -> None:
    made = segmenter()
    rng = np.random.default_rng(0)
    for _ in range(400):
        earliest = made.earliest_start
        for boundary in made.push(tone(0.05) if rng.random() < 0.5 else silence(0.06)):
            if isinstance(boundary, UtteranceStart):
                assert boundary.position >= earliest


def test_real_speech_is_found_by_webrtcvad(speech: FloatArray) -> None:
    # Nine sentences; a short pause joins two of them.
    found = boundaries(speech, webrtc())
    utterances = [(a.position, b.position) for a, b in zip(found[::2], found[1::2], strict=True)]
    assert len(utterances) == 8
    energy = np.square(speech)
    inside = sum(float(energy[start:end].sum()) for start, end in utterances)
    assert inside > 0.999 * float(energy.sum())


def test_noise_is_not_taken_for_speech_for_longer_than_a_moment() -> None:
    rng = np.random.default_rng(1)
    hiss = (rng.standard_normal(20 * SECOND) * 0.01).astype(np.float32)
    found = boundaries(hiss, webrtc())
    assert sum(b.position - a.position for a, b in zip(found[::2], found[1::2], strict=True)) < 2 * SECOND


def test_silence_holds_no_utterance() -> None:
    assert boundaries(silence(5), webrtc()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"aggressiveness": 4}, "0, 1, 2 or 3"),
        ({"vad_frame_ms": 25}, "10, 20 or 30"),
        ({"silero_threshold": 1.0}, "and 1"),
        ({"silero_threshold": 0.1}, "silero_hysteresis, which is 0.15"),
        ({"min_speech_ms": 400}, "start_window_ms"),
        ({"pre_roll_ms": -1}, "negative"),
        ({"min_pause_ms": 600}, "endpoint_ms"),
        ({"max_utterance_ms": 1000}, "at least twice"),
        ({"endpoint_voiced_ratio": 0.7}, "below 0.5"),
    ],
)
def test_impossible_settings_say_what_is_possible(setting: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SegmenterConfig(**setting)  # type: ignore[arg-type]


@given(st.integers(20, 600), st.integers(0, 600), st.integers(1200, 40_000))
def test_the_range_of_endpoints_is_what_the_configuration_takes(shortest: int, longer: int, longest: int) -> None:
    def made(endpoint_ms: int) -> SegmenterConfig | None:
        try:
            return SegmenterConfig(min_pause_ms=shortest, endpoint_ms=endpoint_ms, max_utterance_ms=longest)
        except InputError:
            return None

    config = made(shortest + longer)
    assume(config)
    assert config is not None
    least, most = config.endpoint_range_ms
    assert [made(edge) is not None for edge in (least - 1, least, most, most + 1)] == [False, True, True, False]
    assert config.with_endpoint(most) == made(most)
    with pytest.raises(InputError, match=f"{least} to {most} are accepted"):
        config.with_endpoint(most + 1)


def test_the_fake_sounds_of_letters_are_voiced() -> None:
    assert len(boundaries(np.concatenate([silence(0.5), sound("hello"), silence(1)]))) == 2
