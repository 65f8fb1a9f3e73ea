"""The promises of a stream, tested with the bundled model on real speech."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_asr import Final, Partial, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import Event, Transcript
from tests.support.streaming import collect_events

TEXT = """
good morning and welcome to the show this is a small demonstration of live captions every word you hear is turned into
text while i am still speaking the faint words at the end may change the bright words will stay as they are when i stop
for a moment the sentence is finished then the next one begins on a new line nothing leaves your computer and nothing
has to be downloaded now try it with your own voice
"""
"""What is spoken in the bundled recording."""


@pytest.fixture(scope="module")
def transcript(recognizer: Recognizer, speech: FloatArray) -> Transcript:
    return recognizer.transcribe(speech)


def finals(events: list[Event]) -> tuple[Final, ...]:
    """Return the finals with words."""
    return tuple(event for event in events if isinstance(event, Final) and event.text)


def test_bundled_recording_is_recognized(transcript: Transcript) -> None:
    expected, recognized = TEXT.split(), [word.bare for word in transcript.words]
    assert len(transcript.utterances) == 8
    assert 70 <= len(recognized) <= 90
    assert sum(word in recognized for word in expected) >= 0.9 * len(expected)
    assert all(final.text[0].isupper() and final.text[-1] in ".?!" for final in transcript.utterances)


@pytest.mark.slow
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(101, 60_100), min_size=1, max_size=5))
def test_text_does_not_depend_on_block_sizes(
    recognizer: Recognizer, speech: FloatArray, transcript: Transcript, block_sizes: list[int]
) -> None:
    assert finals(collect_events(recognizer, speech, block_sizes)) == transcript.utterances


@pytest.mark.slow
def test_text_does_not_depend_on_pacing(recognizer: Recognizer, speech: FloatArray, transcript: Transcript) -> None:
    assert finals(collect_events(recognizer, speech, [3200], pause_s=0.02)) == transcript.utterances


@pytest.mark.slow
def test_text_does_not_depend_on_load(recognizer: Recognizer, speech: FloatArray, transcript: Transcript) -> None:
    results: list[tuple[Final, ...]] = []

    def run_stream() -> None:
        results.append(finals(collect_events(recognizer, speech, [4800])))

    threads = [threading.Thread(target=run_stream) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [transcript.utterances] * 4


def test_text_does_not_depend_on_the_sample_format(recognizer: Recognizer, speech: FloatArray) -> None:
    pcm = np.clip(speech[: 8 * 16_000] * 32768, -32768, 32767).astype("<i2")
    expected = recognizer.transcribe(pcm)
    assert expected.text
    assert recognizer.transcribe(pcm.astype(np.float32) / 32768) == expected
    with recognizer.stream(encoding="pcm_s16le", live=False) as stream:
        stream.feed(pcm.tobytes())
        stream.finish()
        assert finals(list(stream)) == expected.utterances


@pytest.mark.slow
def test_stable_text_only_grows_and_the_final_begins_with_it(recognizer: Recognizer, speech: FloatArray) -> None:
    stable, partials = "", 0
    for event in collect_events(recognizer, speech, [3200], pause_s=0.03):
        if isinstance(event, Partial):
            partials += 1
            assert event.stable.startswith(stable)
            assert event.text.startswith(event.stable)
            stable = event.stable
        elif isinstance(event, Final):
            assert event.text.startswith(stable)
            stable = ""
    assert partials > 5, "too few partials for a test"


def test_silence_noise_and_tiny_recordings_have_no_words(recognizer: Recognizer) -> None:
    for samples in (0, 1, 159, 800, 16_000, 10 * 16_000):
        assert recognizer.transcribe(np.zeros(samples, dtype=np.float32)).text == ""
    noise = np.random.default_rng(0).standard_normal(10 * 16_000).astype(np.float32) * 0.003
    assert recognizer.transcribe(noise).text == ""


def test_recording_may_end_at_any_sample(recognizer: Recognizer, speech: FloatArray) -> None:
    for samples in (9_000, 9_601, 12_345, 30_000, 41_111):
        transcript = recognizer.transcribe(speech[:samples])
        assert transcript.duration_s == samples / 16_000
        for word in transcript.words:
            assert word.end <= samples / 16_000 + 0.02
