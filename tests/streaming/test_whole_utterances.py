"""Streams that recognize each utterance in one pass, with the fake model and with the bundled one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr import Final, InputError, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import EngineConfig, RecognizerConfig, SegmenterConfig, WindowConfig
from stream_asr.streaming.windows import WindowGeometry, whole_utterance_config
from tests.support.fakes import FRAME, FakeModel, conversation, loud
from tests.support.streaming import collect_events

SENTENCES = ["hello world", "the quick brown fox jumps over the lazy dog and goes on", "so", "a b c " * 30 + "d"]
"""The second one takes several commit windows; the last one is almost as long as the longest utterance."""

END_SILENCE = 6400
"""Samples of silence behind each utterance."""


def make_recognizer(model: FakeModel, **settings: int) -> Recognizer:
    segmenter = replace(SegmenterConfig(), **settings)
    return Recognizer(model, RecognizerConfig(segmenter=segmenter), detector=lambda: loud)


def test_each_utterance_is_one_window_with_the_text_of_live_captions() -> None:
    model, audio = FakeModel(), conversation(*SENTENCES)
    with make_recognizer(model) as recognizer:
        windowed = recognizer.transcribe(audio)
        model.batches.clear()
        whole = recognizer.transcribe(audio, whole_utterances=True)
    assert [(final.start, final.end, final.text) for final in whole.utterances] == [
        (final.start, final.end, final.text) for final in windowed.utterances
    ]
    assert [final.text for final in whole.utterances] == SENTENCES
    lengths = sorted(samples for batch in model.batches for samples in batch)
    assert lengths == sorted(round((final.end - final.start) * 16_000) + END_SILENCE for final in whole.utterances)


@pytest.mark.slow
@given(st.lists(st.integers(100, 40_100), min_size=1, max_size=5))
def test_text_does_not_depend_on_block_sizes(sizes: list[int]) -> None:
    audio = conversation(*SENTENCES)
    with make_recognizer(FakeModel()) as recognizer:
        events = collect_events(recognizer, audio, sizes, live=False, whole_utterances=True)
        finals = tuple(event for event in events if isinstance(event, Final))
        assert finals == recognizer.transcribe(audio, whole_utterances=True).utterances


@pytest.mark.parametrize("flush", [False, True])
def test_endpoint_and_flush_of_the_stream_apply(flush: bool) -> None:
    audio = conversation("hello world", "good day to you", pause_s=0.4)
    with (
        make_recognizer(FakeModel()) as recognizer,
        recognizer.stream(live=False, whole_utterances=True, endpoint_ms=1000) as stream,
    ):
        stream.feed(audio[: len(audio) // 2])
        if flush:
            stream.flush()
        stream.feed(audio[len(audio) // 2 :])
        stream.finish()
        assert len([event for event in stream if isinstance(event, Final)]) == 1 + flush


def test_short_utterances_share_a_batch() -> None:
    model = FakeModel(pads=True)
    with make_recognizer(model) as recognizer:
        recognizer.transcribe(conversation(*40 * ["hello"]), whole_utterances=True)
    assert max(map(len, model.batches)) == 16


def test_whole_utterances_require_live_false() -> None:
    with make_recognizer(FakeModel()) as recognizer, pytest.raises(InputError, match="live=False"):
        recognizer.stream(whole_utterances=True)


@pytest.mark.parametrize(("model_limit_s", "max_utterance_ms"), [(9.0, 20_000), (None, 60_000)])
def test_windows_are_limited_to_thirty_seconds_and_to_the_model(
    model_limit_s: float | None, max_utterance_ms: int
) -> None:
    text = "never stop talking " * 25 + "now"
    model, audio = FakeModel(), conversation(text)
    model.max_window_samples = None if model_limit_s is None else round(model_limit_s * 16_000)
    with make_recognizer(model, max_utterance_ms=max_utterance_ms) as recognizer:
        windowed, whole = (recognizer.transcribe(audio, whole_utterances=value) for value in (False, True))
    assert whole.text.replace(" ", "") == windowed.text.replace(" ", "")
    limit_s = model_limit_s or 30.0 + 4.0 + 0.8
    assert 0.8 * limit_s < max(map(max, model.batches)) / 16_000 <= limit_s


@given(
    st.builds(
        WindowConfig,
        left_context_ms=st.integers(0, 8000),
        commit_ms=st.integers(1, 5000),
        right_context_ms=st.integers(0, 1500),
    ),
    st.integers(3200, 90_000),
    st.sampled_from([FRAME, 1, 257, 640]),
    st.none() | st.integers(0, 40 * 16_000),
)
def test_settings_are_consistent_and_suit_the_model(
    windows: WindowConfig, max_utterance_ms: int, frame_samples: int, spare_samples: int | None
) -> None:
    segmenter = SegmenterConfig(max_utterance_ms=max_utterance_ms)
    engine = EngineConfig(buffer_ms=60_000, overload_lag_ms=10_000)
    config = RecognizerConfig(segmenter=segmenter, windows=windows, engine=engine)
    minimum = WindowGeometry.from_config(windows, frame_samples)
    limit = None if spare_samples is None else minimum.commit + minimum.right + spare_samples
    whole = whole_utterance_config(config, frame_samples, limit)
    assert whole.windows is not None
    geometry = WindowGeometry.from_config(whole.windows, frame_samples, limit)
    usual = WindowGeometry.from_config(windows, frame_samples, limit)
    assert (whole.segmenter, geometry.left, geometry.right) == (segmenter, usual.left, usual.right)
    expected = max(16 * min(max_utterance_ms, 30_000), minimum.commit)
    if limit is not None:  # rounded to whole frames and milliseconds
        rounding = 2 * max(frame_samples, 16)
        room = limit - usual.left - usual.right - usual.end_silence
        expected = min(expected, max(room - rounding, minimum.commit))
    assert expected <= geometry.commit < max(16 * 30_000, minimum.commit) + frame_samples


def test_embedded_model_recognizes_each_utterance_from_start_to_end(speech: FloatArray) -> None:
    with Recognizer.from_pretrained(second_pass=None) as recognizer:
        windowed, whole = (recognizer.transcribe(speech, whole_utterances=value) for value in (False, True))
    assert whole != windowed
    assert [(final.start, final.end) for final in whole.utterances] == [
        (final.start, final.end) for final in windowed.utterances
    ]
    assert recognizer.config.windows is not None
    silence = WindowGeometry.from_config(recognizer.config.windows, recognizer.model.frame_samples).end_silence
    for final in whole.utterances:
        clip = speech[round(final.start * 16_000) : round(final.end * 16_000)]
        [log_probs] = recognizer.model.log_probs([np.pad(clip, (0, silence))])
        assert recognizer.decoder.start(0).commit(log_probs, len(log_probs)).finish().text == final.text
