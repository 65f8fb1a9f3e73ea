"""The promises of a stream, on the pipeline itself: no threads, no clock, a fake model."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr.array_types import FloatArray
from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.config import BeamConfig, EngineConfig, RecognizerConfig, SegmenterConfig, WindowConfig
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.events import AudioDropped, Event, Final, Overload, Partial, SpeechStarted
from stream_asr.lm.kneser_ney import estimate
from stream_asr.streaming.jobs import Priority
from stream_asr.streaming.pipeline import Pipeline
from stream_asr.streaming.windows import Window
from tests.support.fakes import FRAME, LABELS, FakeModel, Loud, conversation, loud, silence, sound

CONFIG = RecognizerConfig(
    segmenter=SegmenterConfig(max_utterance_ms=6000),
    windows=WindowConfig(left_context_ms=1000, commit_ms=800, right_context_ms=400),
    engine=EngineConfig(buffer_ms=8000),
)
SECOND = 16_000


GREEDY = GreedyDecoder(LABELS, FRAME)
BEAM = make_decoder(
    LABELS,
    FRAME,
    BeamConfig(width=12, preview_width=4, settle_ms=300),
    estimate([["a", "b", "ab", "hello", "world", "a", "bad", "cab"]] * 3, order=3),
    ["ivy league", "zoo"],
)
DECODERS = {"greedy": (GREEDY, False), "beam": (BEAM, True)}
"""With what they decode, and whether the model leaves them in doubt."""


def pipeline(
    config: RecognizerConfig = CONFIG, decoder: Decoder = GREEDY, detector: Loud = loud, **settings_: bool
) -> Pipeline:
    return Pipeline(config, decoder, FRAME, detector=detector, **settings_)


def any_length(samples: int) -> bool:
    return True


def work(made: Pipeline, model: FakeModel, passes: int = 10**9, kept: list[Window] | None = None) -> list[Event]:
    """Up to ``passes`` runs of the model, one window each, in the engine's order; notes the windows kept."""
    events = []
    made.advance()
    while passes and (job := made.take_job(Priority.PREVIEW, any_length)):
        if kept is not None and not job.is_preview:
            kept.append(job.window)
        made.deliver(job, model.log_probs([job.samples])[0])
        passes -= 1
        events += made.take_events()
        made.advance()
    return events + made.take_events()


def transcript(audio: FloatArray, kept: list[Window] | None = None, decoding: str = "greedy") -> list[Final]:
    """What there is to hear, with no partials and all the time in the world."""
    decoder, doubtful = DECODERS[decoding]
    made, model, events = pipeline(decoder=decoder, live=False), FakeModel(doubtful=doubtful), []
    for at in range(0, len(audio), SECOND):
        made.buffer.write(audio[at : at + SECOND])
        events += work(made, model, kept=kept)
    made.end_of_audio()
    events += work(made, model, kept=kept)
    assert made.finished
    return finals(events)


def finals(events: Iterable[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


words = st.text("abcdefghijklmnopqrstuvwyz", min_size=1, max_size=9)
sentences = st.lists(words, min_size=1, max_size=12).map(" ".join)


@st.composite
def speeches(draw: st.DrawFn) -> FloatArray:
    """Sentences and pauses of random length, not on any grid."""
    parts = [silence(0.5), np.zeros(draw(st.integers(0, 319)), dtype=np.float32)]
    for _ in range(draw(st.integers(1, 3))):
        parts += [sound(draw(sentences)), np.zeros(draw(st.integers(0, 20_000)), dtype=np.float32)]
    return np.concatenate(parts)


def paces(longest: int, passes: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Lengths of blocks, and how often the model runs after each; one block in a round gets the test along."""
    rounds = st.lists(st.tuples(st.integers(1, longest), st.integers(0, passes)), max_size=6)
    return rounds.map(lambda steps: [*steps, (4_000, passes)])


def test_what_was_said_is_what_is_written() -> None:
    said = ["hello world", "the quick brown fox jumps over the lazy dog", "a letter doubled"]
    heard = transcript(conversation(*said))
    assert [final.text for final in heard] == said


@pytest.mark.parametrize("decoding", DECODERS)
@settings(max_examples=20)
@given(speeches(), paces(9000, 4))
def test_same_audio_same_text(decoding: str, audio: FloatArray, steps: list[tuple[int, int]]) -> None:
    """Promise 1: whatever the chunk sizes and however much the engine gets done in between."""
    decoder, doubtful = DECODERS[decoding]
    made, model, events = pipeline(decoder=decoder), FakeModel(doubtful=doubtful), []
    kept: list[Window] = []
    at, turn = 0, 0
    while at < len(audio):
        size, passes = steps[turn % len(steps)]
        while made.buffer.free < size:  # a source that waits, as `Stream.drain` does
            events += work(made, model, 1, kept)
        made.buffer.write(audio[at : at + size])
        events += work(made, model, passes, kept)
        at, turn = at + size, turn + 1
    made.end_of_audio()
    events += work(made, model, kept=kept)
    expected: list[Window] = []
    assert finals(events) == transcript(audio, expected, decoding)
    assert kept == expected, "a model that minds its context would have written something else"
    assert made.finished


def test_windows_are_planned_by_the_sample_not_by_the_block() -> None:
    """An utterance may end just before or just after a commit window is full: every case of the grid of 800 ms."""
    for frames in range(20, 62):
        # 540 ms: windows are then full in the middle of the steps in which audio is taken from the buffer.
        audio = np.concatenate([silence(0.54), sound("abcdefghijklmnop")[: frames * FRAME], silence(0.7)])
        kept: dict[int, list[Window]] = {}
        for size in (FRAME, 5 * FRAME, len(audio)):
            made, kept[size] = pipeline(live=False), []
            for at in range(0, len(audio), size):
                made.buffer.write(audio[at : at + size])
                work(made, FakeModel(), kept=kept[size])
        assert kept[FRAME] == kept[5 * FRAME] == kept[len(audio)] != []


@pytest.mark.parametrize("decoding", DECODERS)
@settings(max_examples=20)
@given(speeches(), paces(9000, 4))
def test_stable_means_stable(decoding: str, audio: FloatArray, steps: list[tuple[int, int]]) -> None:
    """Promise 2: stable text only grows, and the final begins with it."""
    decoder, doubtful = DECODERS[decoding]
    made, model = pipeline(decoder=decoder), FakeModel(doubtful=doubtful)
    stable, open_utterance = "", None
    at, turn = 0, 0
    while not made.finished:
        size, passes = steps[turn % len(steps)]
        if at < len(audio):
            made.buffer.write(audio[at : at + size])
            at += size
        else:
            made.end_of_audio()
            passes += 1
        turn += 1
        for event in work(made, model, passes):
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
@given(speeches(), paces(60_000, 1))
def test_nothing_vanishes(audio: FloatArray, steps: list[tuple[int, int]]) -> None:
    """Promise 3: recognised, silent or dropped; and what was dropped was reported, to the sample."""
    audio = np.tile(audio, 3)
    made, model, events = pipeline(), FakeModel(), []
    at, turn = 0, 0
    while at < len(audio):
        size, passes = steps[turn % len(steps)]
        made.buffer.write(audio[at : at + size])
        events += work(made, model, passes)
        at, turn = at + size, turn + 1
    made.end_of_audio()
    events += work(made, model)
    assert made.finished
    counts = made.counts
    assert counts.captured == len(audio)
    assert counts.captured == counts.recognised + counts.silent + counts.dropped
    assert min(counts.recognised, counts.silent, counts.dropped) >= 0
    reported = sum(round((event.end - event.start) * SECOND) for event in events if isinstance(event, AudioDropped))
    assert reported == counts.dropped
    in_finals = sum(round((final.end - final.start) * SECOND) for final in finals(events))
    assert counts.recognised <= in_finals <= counts.recognised + counts.dropped
    if not counts.dropped:
        assert finals(events) == transcript(audio)


@pytest.mark.parametrize("more", [0, 1, 160, 319])
def test_the_very_last_sample_is_recognised(more: int) -> None:
    """Promise 3: audio may end in the middle of a word, and of a frame."""
    audio = np.concatenate([silence(0.5), sound("hello world"), np.full(more, 0.5, dtype=np.float32)])
    (final,) = transcript(audio)
    assert round(final.end * SECOND) == len(audio)


def test_lag_and_memory_stay_bounded_for_twelve_hours() -> None:
    """Promises 4 and 5: a stream of half a day, on a machine that has time for commits and some previews."""
    minute = np.concatenate([conversation("good morning", "how are you today", "fine thanks"), silence(60)])
    minute = minute[: 60 * SECOND]
    config = replace(CONFIG, segmenter=replace(CONFIG.segmenter, min_speech_ms=150))
    made, model = pipeline(config, detector=Loud(30)), FakeModel()
    model.batches = _Forgetful()
    longest_lag = seen = early_kib = 0
    for number in range(12 * 60):
        for at in range(0, len(minute), SECOND):
            made.buffer.write(minute[at : at + SECOND])
            longest_lag = max(longest_lag, made.lag_samples)
            seen += len(finals(work(made, model, 4)))
        if number == 30:
            early_kib = _peak_memory_kib()
    assert seen == 3 * 12 * 60
    assert made.counts.dropped == 0
    assert longest_lag < 3 * SECOND
    # A byte kept for each frame of voice detection would already be 1.4 MB.
    assert _peak_memory_kib() - early_kib < 1024


def _peak_memory_kib() -> int:
    resource = pytest.importorskip("resource", reason="Windows does not tell the peak memory of a process this way")
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


class _Forgetful(list):  # type: ignore[type-arg]
    """The fake model's notes, which a test of memory must not keep."""

    def append(self, item: object) -> None: ...


def test_an_overloaded_stream_says_so_thins_previews_first_and_loses_no_final() -> None:
    """Promise 4: the machine does one pass for every 400 ms of speech, half of what is due."""
    audio = conversation(*["the quick brown fox jumps over the lazy dog"] * 8, pause_s=0.6)
    made, model, events = pipeline(), FakeModel(), []
    for at in range(0, len(audio), 6400):
        made.buffer.write(audio[at : at + 6400])
        events += work(made, model, 1)
    kept_before_previews = made.counts.previews_skipped
    made.end_of_audio()
    events += work(made, model)
    assert [final.text for final in finals(events)] == [final.text for final in transcript(audio)]
    assert kept_before_previews > 0
    assert made.counts.dropped == 0


def test_a_machine_that_keeps_up_skips_no_preview() -> None:
    audio = conversation(*["the quick brown fox jumps over the lazy dog"] * 4, pause_s=0.6)
    made, model = pipeline(), FakeModel()
    for at in range(0, len(audio), FRAME):
        made.buffer.write(audio[at : at + FRAME])
        work(made, model)
    assert made.counts.previews_skipped == 0


def test_the_end_of_the_audio_may_be_announced_at_any_moment() -> None:
    """The last samples are written, and the end announced, just when the engine has looked at the buffer."""

    class Racing(RingBuffer):
        last_words: FloatArray | None = None

        @property
        def written(self) -> int:
            seen = super().written
            if self.last_words is not None and seen == made._position:
                words, self.last_words = self.last_words, None
                self.write(words)
                made.end_of_audio()
            return seen

    audio = conversation("hello world", "and more")
    cut = len(audio) - 9001
    made, model = pipeline(), FakeModel()
    made.buffer = Racing(made.buffer.capacity)
    made.buffer.write(audio[:cut])
    made.buffer.last_words = audio[cut:]
    events = work(made, model)
    events += work(made, model)
    assert finals(events) == transcript(audio)
    assert made.finished


def test_two_flushes_are_two_flushes() -> None:
    made, model = pipeline(), FakeModel()
    for word in ("hello", "world"):
        made.buffer.write(np.concatenate([silence(0.3), sound(f"{word} "), silence(0.2)]))
        made.flush()
    assert [final.text for final in finals(work(made, model))] == ["hello", "world"]


def test_a_source_that_waits_is_no_overload() -> None:
    made, model = pipeline(), FakeModel()
    made.source_waits = True
    made.buffer.write(conversation("hello world", pause_s=3))
    assert not [event for event in work(made, model) if isinstance(event, Overload)]


def test_hopeless_overload_is_reported_and_ends_with_everything_accounted_for() -> None:
    audio = conversation(*["the quick brown fox jumps over the lazy dog"] * 12, pause_s=0.6)
    made, model, events = pipeline(), FakeModel(), []
    for turn, at in enumerate(range(0, len(audio), 6400)):
        made.buffer.write(audio[at : at + 6400])
        events += work(made, model, int(turn % 8 == 0))
    lags = [event.lag_ms for event in events if isinstance(event, Overload)]
    assert lags
    assert all(lag > CONFIG.engine.overload_lag_ms for lag in lags)
    made.end_of_audio()
    events += work(made, model)
    assert made.finished
    assert any(isinstance(event, AudioDropped) for event in events)
    started = sum(isinstance(event, SpeechStarted) for event in events)
    assert started == len(finals(events)), "what was begun is finished"


def test_times_are_positions_in_the_audio() -> None:
    """Promise 6: words lie where their sound is, in order, however late they were recognised."""
    audio = np.concatenate([silence(1), sound("one"), silence(2), sound("two"), silence(1)])
    first, second = transcript(audio)
    assert first.words[0].start == pytest.approx(1.0, abs=0.03)
    assert first.words[0].end == pytest.approx(1.24, abs=0.03)
    assert second.words[0].start == pytest.approx(1.24 + 2, abs=0.03)
    assert first.start < first.words[0].start < first.words[0].end < first.end < second.start


@settings(max_examples=30)
@given(speeches())
def test_times_never_go_back(audio: FloatArray) -> None:
    edge = 0.0
    for final in transcript(audio):
        assert edge <= final.start < final.end <= len(audio) / SECOND + 0.02
        for word in final.words:
            assert max(edge, final.start) <= word.start < word.end <= final.end + 0.02
            edge = word.start
        edge = final.end - 1e-9


def test_job_of_an_ended_utterance_is_a_final() -> None:
    made, model = pipeline(), FakeModel()
    made.buffer.write(np.concatenate([silence(0.5), sound("hello you")]))
    made.advance()
    assert made.take_job(Priority.COMMIT, any_length) is None
    preview = made.take_job(Priority.PREVIEW, any_length)
    assert preview is not None
    assert preview.priority is Priority.PREVIEW
    assert made.take_job(Priority.PREVIEW, any_length) is None, "one preview in flight"
    made.buffer.write(sound(" good old friend"))
    made.advance()
    assert made.take_job(Priority.FINAL, any_length) is None
    job = made.take_job(Priority.COMMIT, any_length)
    assert job is not None
    assert job.priority is Priority.COMMIT
    made.buffer.write(silence(1))
    made.advance()
    assert job.priority is Priority.FINAL, "its utterance has ended meanwhile"


def test_previews_give_way_to_windows_that_are_kept() -> None:
    made = pipeline()
    made.buffer.write(np.concatenate([silence(0.5), sound("hello there my good old friend")]))
    made.advance()
    job = made.take_job(Priority.PREVIEW, any_length)
    assert job is not None
    assert job.priority is Priority.COMMIT


def test_there_are_no_previews_of_silence() -> None:
    made, model = pipeline(), FakeModel()
    made.buffer.write(np.concatenate([silence(0.5), sound("hello you")]))
    work(made, model)
    passes = []
    for _ in range(40):
        before = len(model.batches)
        made.buffer.write(np.zeros(160, dtype=np.float32))
        work(made, model)
        passes.append(len(model.batches) - before)
    assert sum(passes) <= 2, "one to see the last word whole, none while the endpoint is waited for"


def test_without_live_there_are_only_finals() -> None:
    made, model = pipeline(live=False), FakeModel()
    made.buffer.write(conversation("hello world"))
    made.end_of_audio()
    assert {type(event) for event in work(made, model)} == {SpeechStarted, Final}


def test_flush_makes_a_final_of_what_was_said_so_far() -> None:
    made, model = pipeline(), FakeModel()
    made.buffer.write(np.concatenate([silence(0.5), sound("hello "), np.zeros(3200, dtype=np.float32)]))
    made.flush()
    (final,) = finals(work(made, model))
    assert final.text == "hello"
    made.buffer.write(np.concatenate([silence(0.3), sound("world"), silence(1)]))
    made.end_of_audio()
    assert [final.text for final in finals(work(made, model))] == ["world"]


def test_an_utterance_cut_at_its_longest_joins_seamlessly_to_the_next() -> None:
    said = " ".join(["abcdefgh"] * 20)  # 14 s of speech with no pause, 6 s at most in a piece
    heard = transcript(conversation(said))
    assert len(heard) > 2
    for before, after in itertools.pairwise(heard):
        assert before.end == after.start


def test_a_stream_of_nothing_ends_without_a_word() -> None:
    made = pipeline()
    made.end_of_audio()
    assert work(made, FakeModel()) == []
    assert made.finished
    assert made.counts.captured == 0
