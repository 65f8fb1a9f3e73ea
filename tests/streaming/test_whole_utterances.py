"""Recordings heard an utterance at a time, with the fake model and with the embedded one."""

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
"""Of which the second takes several of the windows of live captions, and the last most of the longest utterance."""

ROOMY = EngineConfig(buffer_ms=60_000, overload_lag_ms=10_000)


def fake(model: FakeModel, **settings: int) -> Recognizer:
    segmenter = replace(SegmenterConfig(), **settings)
    return Recognizer(model, RecognizerConfig(segmenter=segmenter), detector=lambda: loud)


def test_each_utterance_is_one_pass_and_the_same_as_in_live_captions() -> None:
    model, audio = FakeModel(), conversation(*SENTENCES)
    with fake(model) as recognizer:
        usual = recognizer.transcribe(audio)
        model.batches.clear()
        whole = recognizer.transcribe(audio, whole_utterances=True)
    assert [(final.start, final.end, final.text) for final in whole.utterances] == [
        (final.start, final.end, final.text) for final in usual.utterances
    ]
    assert [final.text for final in whole.utterances] == SENTENCES
    heard = sorted(samples for batch in model.batches for samples in batch)
    assert heard == sorted(round((final.end - final.start) * 16_000) for final in whole.utterances)


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=5))
def test_same_audio_same_text_whatever_the_blocks(sizes: list[int]) -> None:
    audio = conversation(*SENTENCES)
    with fake(FakeModel()) as recognizer:
        events = collect_events(recognizer, audio, [size + 100 for size in sizes], live=False, whole_utterances=True)
        finals = tuple(event for event in events if isinstance(event, Final))
        assert finals == recognizer.transcribe(audio, whole_utterances=True).utterances


def test_a_stream_has_an_endpoint_and_flushes_of_its_own() -> None:
    audio = conversation("hello world", "good day to you", pause_s=0.4)
    with fake(FakeModel()) as recognizer:
        for flushes in (False, True):
            with recognizer.stream(live=False, whole_utterances=True, endpoint_ms=1000) as stream:
                stream.feed(audio[: len(audio) // 2])
                if flushes:
                    stream.flush()
                stream.feed(audio[len(audio) // 2 :])
                stream.finish()
                assert len([event for event in stream if isinstance(event, Final)]) == 1 + flushes


def test_many_short_utterances_share_a_pass() -> None:
    model = FakeModel(pads=True)
    with fake(model) as recognizer:
        recognizer.transcribe(conversation(*40 * ["hello"]), whole_utterances=True)
    assert max(map(len, model.batches)) == 16


def test_there_are_no_partials_of_them() -> None:
    with fake(FakeModel()) as recognizer, pytest.raises(InputError, match="live=False"):
        recognizer.stream(whole_utterances=True)


@pytest.mark.parametrize(("longest_s", "max_utterance_ms"), [(9.0, 20_000), (None, 60_000)])
def test_no_window_is_longer_than_is_wise_or_than_the_model_takes(
    longest_s: float | None, max_utterance_ms: int
) -> None:
    said = "never stop talking " * 25 + "now"
    model, audio = FakeModel(), conversation(said)
    model.max_window_samples = None if longest_s is None else round(longest_s * 16_000)
    with fake(model, max_utterance_ms=max_utterance_ms) as recognizer:
        usual, whole = (recognizer.transcribe(audio, whole_utterances=each) for each in (False, True))
    assert whole.text.replace(" ", "") == usual.text.replace(" ", "")
    most_s = longest_s or 30.0 + 4.0 + 0.8
    assert 0.8 * most_s < max(map(max, model.batches)) / 16_000 <= most_s


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
def test_the_settings_agree_with_each_other_and_with_the_model(
    windows: WindowConfig, max_utterance_ms: int, frame_samples: int, spare_samples: int | None
) -> None:
    segmenter = SegmenterConfig(max_utterance_ms=max_utterance_ms)
    usual = RecognizerConfig(segmenter=segmenter, windows=windows, engine=ROOMY)
    least = WindowGeometry.from_config(windows, frame_samples)
    longest = None if spare_samples is None else least.commit + least.right + spare_samples
    whole = whole_utterance_config(usual, frame_samples, longest)
    assert whole.windows is not None
    geometry = WindowGeometry.from_config(whole.windows, frame_samples, longest)
    contexts = WindowGeometry.from_config(windows, frame_samples, longest)
    assert (whole.segmenter, geometry.left, geometry.right) == (segmenter, contexts.left, contexts.right)
    wanted = max(16 * min(max_utterance_ms, 30_000), least.commit)
    if longest is not None:  # to a frame, and to a millisecond
        spared = max(frame_samples, 16)
        wanted = min(wanted, max(longest - contexts.left - contexts.right - 2 * spared, least.commit))
    assert wanted <= geometry.commit < max(16 * 30_000, least.commit) + frame_samples


def test_the_embedded_model_hears_each_utterance_from_its_start_to_its_end(
    recognizer: Recognizer, speech: FloatArray
) -> None:
    usual, whole = (recognizer.transcribe(speech, whole_utterances=each) for each in (False, True))
    assert whole != usual
    assert [(final.start, final.end) for final in whole.utterances] == [
        (final.start, final.end) for final in usual.utterances
    ]
    for final in whole.utterances:
        clip = speech[round(final.start * 16_000) : round(final.end * 16_000)]
        [frames] = recognizer.model.log_probs([np.pad(clip, (0, -len(clip) % recognizer.model.frame_samples))])
        assert recognizer.decoder.start(0).commit(frames, len(frames)).finish().text == final.text
