"""The promises of a stream, tested on the pipeline with a fake model, without threads and without a clock."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr.acoustic.base import ChunkOutput
from stream_asr.array_types import FloatArray
from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.config import BeamConfig, EngineConfig, RecognizerConfig, SegmenterConfig, WindowConfig
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.events import AudioDropped, Event, Final, Overload, Partial, SpeechStarted
from stream_asr.lm.kneser_ney import estimate
from stream_asr.streaming.jobs import Accepts, DecodeJob, Job, JobKind, Priority
from stream_asr.streaming.pipeline import Pipeline
from stream_asr.streaming.windows import Window
from tests.support.fakes import FRAME, LABELS, FakeModel, Loud, conversation, loud, silence, sound
from tests.support.strategies import speeches

CONFIG = RecognizerConfig(
    segmenter=SegmenterConfig(max_utterance_ms=6000),
    windows=WindowConfig(left_context_ms=1000, commit_ms=800, right_context_ms=400),
    engine=EngineConfig(buffer_ms=8000),
)
SECOND = 16_000
FOX = "the quick brown fox jumps over the lazy dog"

GREEDY = GreedyDecoder(LABELS, FRAME)
BEAM = make_decoder(
    LABELS,
    FRAME,
    BeamConfig(width=12, preview_width=4, settle_ms=300),
    estimate([["a", "b", "ab", "hello", "world", "a", "bad", "cab"]] * 3, order=3),
    ["ivy league", "zoo"],
)
DECODERS = {"greedy": (GREEDY, False), "beam": (BEAM, True)}
"""Decoders, and whether the fake model is uncertain."""


def make_pipeline(
    config: RecognizerConfig = CONFIG, decoder: Decoder = GREEDY, detector: Loud = loud, *, live: bool = True
) -> Pipeline:
    return Pipeline(config, decoder, FRAME, detector=detector, live=live)


def any_length(kind: JobKind, samples: int) -> bool:
    return True


def take_window(pipeline: Pipeline, priority: Priority, accepts: Accepts = any_length) -> Job | None:
    """Take a job of a pipeline without a second pass."""
    job = pipeline.take_job(priority, accepts)
    assert not isinstance(job, DecodeJob)
    return job


def run(
    pipeline: Pipeline, model: FakeModel, max_passes: int = 10**9, commits: list[Window] | None = None
) -> list[Event]:
    """Run the model on one window at a time, in the order of the engine.

    Args:
        pipeline: the stream.
        model: the model.
        max_passes: maximum number of model passes.
        commits: gets the commit windows.

    Returns:
        The new events.
    """
    events = []
    pipeline.advance()
    while max_passes and (job := take_window(pipeline, Priority.PREVIEW)):
        if commits is not None and not job.is_preview:
            commits.append(job.window)
        pipeline.deliver(job, ChunkOutput(model.log_probs([job.samples])[0], None))
        max_passes -= 1
        events += pipeline.take_events()
        pipeline.advance()
    return events + pipeline.take_events()


def transcribe(audio: FloatArray, commits: list[Window] | None = None, decoding: str = "greedy") -> list[Final]:
    """Return the finals of a stream without partials and without any time limit."""
    decoder, doubtful = DECODERS[decoding]
    pipeline, model, events = make_pipeline(decoder=decoder, live=False), FakeModel(doubtful=doubtful), []
    for start in range(0, len(audio), SECOND):
        pipeline.buffer.write(audio[start : start + SECOND])
        events += run(pipeline, model, commits=commits)
    pipeline.end_of_audio()
    events += run(pipeline, model, commits=commits)
    assert pipeline.finished
    return finals(events)


def finals(events: Iterable[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def paces(max_block: int, max_passes: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Block lengths with the number of model passes after each. The last block keeps the test from taking too long."""
    blocks = st.lists(st.tuples(st.integers(1, max_block), st.integers(0, max_passes)), max_size=6)
    return blocks.map(lambda pace: [*pace, (4_000, max_passes)])


def test_speech_is_transcribed() -> None:
    texts = ["hello world", FOX, "a letter doubled"]
    assert [final.text for final in transcribe(conversation(*texts))] == texts


@pytest.mark.parametrize("decoding", DECODERS)
@settings(max_examples=20)
@given(speeches(12), paces(9000, 4))
def test_same_audio_same_text(decoding: str, audio: FloatArray, pace: list[tuple[int, int]]) -> None:
    """Promise 1: the text depends neither on block sizes nor on how far the engine gets between blocks."""
    decoder, doubtful = DECODERS[decoding]
    pipeline, model, events = make_pipeline(decoder=decoder), FakeModel(doubtful=doubtful), []
    commits: list[Window] = []
    start, turn = 0, 0
    while start < len(audio):
        size, passes = pace[turn % len(pace)]
        while pipeline.buffer.free < size:  # a source that waits, as with `Stream.drain`
            events += run(pipeline, model, 1, commits)
        pipeline.buffer.write(audio[start : start + size])
        events += run(pipeline, model, passes, commits)
        start, turn = start + size, turn + 1
    pipeline.end_of_audio()
    events += run(pipeline, model, commits=commits)
    expected_commits: list[Window] = []
    assert finals(events) == transcribe(audio, expected_commits, decoding)
    assert commits == expected_commits, "other windows would give other text with a model that depends on context"
    assert pipeline.finished


def test_windows_do_not_depend_on_block_sizes() -> None:
    """An utterance may end just before or just after a commit window is full: test all offsets to the 800 ms grid."""
    for frames in range(20, 62):
        # With 540 ms, windows become full in the middle of a step.
        audio = np.concatenate([silence(0.54), sound("abcdefghijklmnop")[: frames * FRAME], silence(0.7)])
        commits: dict[int, list[Window]] = {}
        for size in (FRAME, 5 * FRAME, len(audio)):
            pipeline, commits[size] = make_pipeline(live=False), []
            for start in range(0, len(audio), size):
                pipeline.buffer.write(audio[start : start + size])
                run(pipeline, FakeModel(), commits=commits[size])
        assert commits[FRAME] == commits[5 * FRAME] == commits[len(audio)] != []


@pytest.mark.parametrize("decoding", DECODERS)
@settings(max_examples=20)
@given(speeches(12), paces(9000, 4))
def test_stable_means_stable(decoding: str, audio: FloatArray, pace: list[tuple[int, int]]) -> None:
    """Promise 2: stable text only grows, and the final begins with it."""
    decoder, doubtful = DECODERS[decoding]
    pipeline, model = make_pipeline(decoder=decoder), FakeModel(doubtful=doubtful)
    stable, open_utterance = "", None
    start, turn = 0, 0
    while not pipeline.finished:
        size, passes = pace[turn % len(pace)]
        if start < len(audio):
            pipeline.buffer.write(audio[start : start + size])
            start += size
        else:
            pipeline.end_of_audio()
            passes += 1
        turn += 1
        for event in run(pipeline, model, passes):
            if isinstance(event, SpeechStarted):
                assert open_utterance is None
                stable, open_utterance = "", event.utterance
            elif isinstance(event, Partial):
                assert event.utterance == open_utterance
                assert event.stable.startswith(stable)
                assert event.text.startswith(event.stable)
                assert event.text == " ".join(word.word for word in event.words)
                stable = event.stable
            elif isinstance(event, Final):
                assert event.utterance == open_utterance
                assert event.text.startswith(stable)
                open_utterance = None


@settings(max_examples=30)
@given(speeches(12), paces(60_000, 1))
def test_nothing_vanishes(audio: FloatArray, pace: list[tuple[int, int]]) -> None:
    """Promise 3: each sample is recognized, silent or dropped, and dropped samples are reported exactly."""
    audio = np.tile(audio, 3)
    pipeline, model, events = make_pipeline(), FakeModel(), []
    start, turn = 0, 0
    while start < len(audio):
        size, passes = pace[turn % len(pace)]
        pipeline.buffer.write(audio[start : start + size])
        events += run(pipeline, model, passes)
        start, turn = start + size, turn + 1
    pipeline.end_of_audio()
    events += run(pipeline, model)
    assert pipeline.finished
    counts = pipeline.counts
    assert counts.captured == len(audio)
    assert counts.captured == counts.recognised + counts.silent + counts.dropped
    assert min(counts.recognised, counts.silent, counts.dropped) >= 0
    reported = sum(round((event.end - event.start) * SECOND) for event in events if isinstance(event, AudioDropped))
    assert reported == counts.dropped
    in_finals = sum(round((final.end - final.start) * SECOND) for final in finals(events))
    assert counts.recognised <= in_finals <= counts.recognised + counts.dropped
    if not counts.dropped:
        assert finals(events) == transcribe(audio)


@pytest.mark.parametrize("extra", [0, 1, 160, 319])
def test_last_sample_is_recognized(extra: int) -> None:
    """Promise 3: the audio may end in the middle of a word and of a frame."""
    audio = np.concatenate([silence(0.5), sound("hello world"), np.full(extra, 0.5, dtype=np.float32)])
    (final,) = transcribe(audio)
    assert round(final.end * SECOND) == len(audio)


@pytest.mark.slow
def test_lag_and_memory_stay_bounded_for_twelve_hours() -> None:
    """Promises 4 and 5: a long stream on a machine that has time for commits and some previews."""
    minute = np.concatenate([conversation("good morning", "how are you today", "fine thanks"), silence(60)])
    minute = minute[: 60 * SECOND]
    config = replace(CONFIG, segmenter=replace(CONFIG.segmenter, min_speech_ms=150))
    pipeline, model = make_pipeline(config, detector=Loud(30)), FakeModel()
    model.batches = _DiscardingList()
    max_lag = final_count = early_kib = 0
    for number in range(12 * 60):
        for start in range(0, len(minute), SECOND):
            pipeline.buffer.write(minute[start : start + SECOND])
            max_lag = max(max_lag, pipeline.lag_samples)
            final_count += len(finals(run(pipeline, model, 4)))
        if number == 30:
            early_kib = _peak_memory_kib()
    assert final_count == 3 * 12 * 60
    assert pipeline.counts.dropped == 0
    assert max_lag < 3 * SECOND
    # One byte per frame of voice detection would already be 1.4 MB.
    assert _peak_memory_kib() - early_kib < 1024


def _peak_memory_kib() -> int:
    resource = pytest.importorskip("resource", reason="Windows does not report the peak memory of a process this way")
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


class _DiscardingList(list):  # type: ignore[type-arg]
    """Replaces the fake model's record of batches, which would grow during a test of memory."""

    def append(self, item: object) -> None: ...


def test_overload_skips_previews_but_loses_no_final() -> None:
    """Promise 4: the machine runs one pass per 400 ms of speech, half of what is due."""
    audio = conversation(*[FOX] * 8, pause_s=0.6)
    pipeline, model, events = make_pipeline(), FakeModel(), []
    for start in range(0, len(audio), 6400):
        pipeline.buffer.write(audio[start : start + 6400])
        events += run(pipeline, model, 1)
    previews_skipped = pipeline.counts.previews_skipped
    pipeline.end_of_audio()
    events += run(pipeline, model)
    assert [final.text for final in finals(events)] == [final.text for final in transcribe(audio)]
    assert previews_skipped > 0
    assert pipeline.counts.dropped == 0


def test_no_preview_is_skipped_on_a_machine_that_keeps_up() -> None:
    audio = conversation(*[FOX] * 4, pause_s=0.6)
    pipeline, model = make_pipeline(), FakeModel()
    for start in range(0, len(audio), FRAME):
        pipeline.buffer.write(audio[start : start + FRAME])
        run(pipeline, model)
    assert pipeline.counts.previews_skipped == 0


def test_end_of_audio_may_be_announced_at_any_moment() -> None:
    """The last samples are written, and the end is announced, just after the engine has read the buffer's position."""

    class RacingBuffer(RingBuffer):
        last_samples: FloatArray | None = None

        @property
        def written(self) -> int:
            written = super().written
            if self.last_samples is not None and written == pipeline._position:
                samples, self.last_samples = self.last_samples, None
                self.write(samples)
                pipeline.end_of_audio()
            return written

    audio = conversation("hello world", "and more")
    split = len(audio) - 9001
    pipeline, model = make_pipeline(), FakeModel()
    pipeline.buffer = RacingBuffer(pipeline.buffer.capacity)
    pipeline.buffer.write(audio[:split])
    pipeline.buffer.last_samples = audio[split:]
    events = run(pipeline, model)
    events += run(pipeline, model)
    assert finals(events) == transcribe(audio)
    assert pipeline.finished


def test_each_flush_makes_a_final() -> None:
    pipeline, model = make_pipeline(), FakeModel()
    for word in ("hello", "world"):
        pipeline.buffer.write(np.concatenate([silence(0.3), sound(f"{word} "), silence(0.2)]))
        pipeline.flush()
    assert [final.text for final in finals(run(pipeline, model))] == ["hello", "world"]


def test_source_that_waits_reports_no_overload() -> None:
    pipeline, model = make_pipeline(), FakeModel()
    pipeline.source_waits = True
    pipeline.buffer.write(conversation("hello world", pause_s=3))
    assert not [event for event in run(pipeline, model) if isinstance(event, Overload)]


def test_severe_overload_is_reported_and_all_samples_are_accounted_for() -> None:
    audio = conversation(*[FOX] * 12, pause_s=0.6)
    pipeline, model, events = make_pipeline(), FakeModel(), []
    for turn, start in enumerate(range(0, len(audio), 6400)):
        pipeline.buffer.write(audio[start : start + 6400])
        events += run(pipeline, model, int(turn % 8 == 0))
    lags_ms = [event.lag_ms for event in events if isinstance(event, Overload)]
    assert lags_ms
    assert all(lag_ms > CONFIG.engine.overload_lag_ms for lag_ms in lags_ms)
    pipeline.end_of_audio()
    events += run(pipeline, model)
    assert pipeline.finished
    assert any(isinstance(event, AudioDropped) for event in events)
    started = sum(isinstance(event, SpeechStarted) for event in events)
    assert started == len(finals(events)), "each utterance has a final"


def test_word_times_are_positions_in_the_audio() -> None:
    """Promise 6: words have the times of their sound, in order, however late they were recognized."""
    audio = np.concatenate([silence(1), sound("one"), silence(2), sound("two"), silence(1)])
    first, second = transcribe(audio)
    assert first.words[0].start == pytest.approx(1.0, abs=0.03)
    assert first.words[0].end == pytest.approx(1.24, abs=0.03)
    assert second.words[0].start == pytest.approx(1.24 + 2, abs=0.03)
    assert first.start < first.words[0].start < first.words[0].end < first.end < second.start


@settings(max_examples=30)
@given(speeches(12))
def test_times_are_monotonic(audio: FloatArray) -> None:
    previous = 0.0
    for final in transcribe(audio):
        assert previous <= final.start < final.end <= len(audio) / SECOND + 0.02
        for word in final.words:
            assert max(previous, final.start) <= word.start < word.end <= final.end + 0.02
            previous = word.start
        previous = final.end - 1e-9


def test_take_job_returns_nothing_less_urgent_than_requested() -> None:
    pipeline = make_pipeline()
    pipeline.buffer.write(np.concatenate([silence(0.5), sound("hello you")]))
    pipeline.advance()
    assert take_window(pipeline, Priority.COMMIT) is None
    preview = take_window(pipeline, Priority.PREVIEW)
    assert preview is not None
    assert preview.priority is Priority.PREVIEW
    assert take_window(pipeline, Priority.PREVIEW) is None, "a preview is in flight"
    pipeline.buffer.write(sound(" good old friend"))
    pipeline.advance()
    assert take_window(pipeline, Priority.FINAL) is None
    job = take_window(pipeline, Priority.COMMIT)
    assert job is not None
    before = job.priority
    pipeline.buffer.write(silence(1))
    pipeline.advance()
    assert (before, job.priority) == (Priority.COMMIT, Priority.FINAL), "the utterance has ended"


def test_preview_that_does_not_fit_stays_due() -> None:
    pipeline = make_pipeline()
    pipeline.buffer.write(np.concatenate([silence(0.5), sound("hello you")]))
    pipeline.advance()
    assert take_window(pipeline, Priority.PREVIEW, lambda kind, samples: False) is None
    assert take_window(pipeline, Priority.PREVIEW) is not None


def test_commit_windows_are_taken_before_previews() -> None:
    pipeline = make_pipeline()
    pipeline.buffer.write(np.concatenate([silence(0.5), sound("hello there my good old friend")]))
    pipeline.advance()
    job = take_window(pipeline, Priority.PREVIEW)
    assert job is not None
    assert job.priority is Priority.COMMIT


def test_previews_pause_during_silence() -> None:
    pipeline, model = make_pipeline(), FakeModel()
    pipeline.buffer.write(np.concatenate([silence(0.5), sound("hello you")]))
    run(pipeline, model)
    before = len(model.batches)
    for _ in range(40):
        pipeline.buffer.write(np.zeros(160, dtype=np.float32))
        run(pipeline, model)
    assert len(model.batches) - before <= 2, "one to show the last word, none until the endpoint"


def test_stream_without_partials_emits_finals_only() -> None:
    pipeline, model = make_pipeline(live=False), FakeModel()
    pipeline.buffer.write(conversation("hello world"))
    pipeline.end_of_audio()
    assert {type(event) for event in run(pipeline, model)} == {SpeechStarted, Final}


def test_flush_makes_a_final_of_the_audio_so_far() -> None:
    pipeline, model = make_pipeline(), FakeModel()
    pipeline.buffer.write(np.concatenate([silence(0.5), sound("hello "), np.zeros(3200, dtype=np.float32)]))
    pipeline.flush()
    (final,) = finals(run(pipeline, model))
    assert final.text == "hello"
    pipeline.buffer.write(np.concatenate([silence(0.3), sound("world"), silence(1)]))
    pipeline.end_of_audio()
    assert [final.text for final in finals(run(pipeline, model))] == ["world"]


def test_utterances_are_contiguous_at_a_forced_cut() -> None:
    text = " ".join(["abcdefgh"] * 20)  # 14 s without a pause; utterances are cut at 6 s
    utterances = transcribe(conversation(text))
    assert len(utterances) > 2
    for before, after in itertools.pairwise(utterances):
        assert before.end == after.start


def test_empty_stream_ends_without_events() -> None:
    pipeline = make_pipeline()
    pipeline.end_of_audio()
    assert run(pipeline, FakeModel()) == []
    assert pipeline.finished
    assert pipeline.counts.captured == 0
