"""The promises of a stream with a second pass, tested on the pipeline with fake models, without threads or a clock.

Each test runs with a decoder that reads the audio and with one that lies, and with both kinds of second pass: one that
uses audio, and one that uses the encoder states of a stateful model.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from types import FunctionType, ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr.acoustic.base import DecodeOutput, DecodeRequest
from stream_asr.array_types import FloatArray
from stream_asr.config import (
    RecognizerConfig,
    SecondPassConfig,
    SegmenterConfig,
    WindowConfig,
    ms_to_samples,
)
from stream_asr.decoding.attention import AttentionDecoder
from stream_asr.events import Final, Marked, Overload, Partial
from stream_asr.streaming.jobs import Job, JobKind, Priority
from stream_asr.streaming.second_pass import SecondPass
from stream_asr.streaming.windows import Window
from tests.support.fakes import (
    FRAME,
    LABELS,
    VOCABULARY,
    FakeModel,
    FakeSecondPass,
    FakeStatefulModel,
    conversation,
    encode,
    silence,
    sound,
)
from tests.support.second_pass import (
    ANY,
    CONFIG,
    PASSES,
    SECOND,
    WINDOWS,
    Player,
    Turn,
    check_counts,
    check_events,
    feed,
    finals,
    spoken_words,
    transcribe,
)
from tests.support.strategies import speeches

MODELS: dict[str, Callable[[float], tuple[FakeModel, FakeSecondPass]]] = {
    "audio": lambda lies: (FakeModel(pads=True), FakeSecondPass(lies=lies)),
    "states": lambda lies: (FakeStatefulModel(pads=True), FakeSecondPass(lies=lies, uses_audio=False)),
}
LIES = {"honest": 0.0, "lying": 0.7}
all_models = pytest.mark.parametrize("kind", MODELS)
all_decoders = pytest.mark.parametrize("lies", LIES.values(), ids=LIES.keys())
kinds = st.sampled_from(sorted(MODELS))
decoders = st.sampled_from(list(LIES.values()))

configs = st.builds(
    lambda agreement, confirmation, end_silence, preview_right: replace(
        CONFIG,
        windows=WindowConfig(
            left_context_ms=1000,
            commit_ms=800,
            right_context_ms=600,
            preview_right_context_ms=preview_right,
            hold_back_ms=160,
            end_silence_ms=end_silence,
        ),
        second_pass=replace(CONFIG.second_pass, agreement=agreement, confirmation_score=confirmation),
    ),
    st.sampled_from([2, 3]),
    st.sampled_from([0.0, -0.2, -3.0]),  # nothing, what is clear, or almost everything is confirmed
    st.sampled_from([0, 400]),
    st.sampled_from([None, 0, 200, 2000]),
)
batches = st.lists(st.tuples(st.sampled_from([ANY, WINDOWS, PASSES]), st.integers(1, 6)), max_size=5)
paces = st.lists(st.tuples(st.integers(1, 9000), batches), max_size=4).map(
    lambda pace: [*pace, (8000, [(ANY, 2)])]  # keeps a test from taking too long
)


flush_places = st.lists(st.floats(0, 1), max_size=3)


hotword_lists = st.sampled_from([(), ("the", "anna visser"), ("a", "s", "ee")])


@settings(max_examples=24)
@given(kinds, decoders, speeches(9), configs, paces, flush_places, hotword_lists)
def test_text_depends_on_the_audio_only_and_stable_text_never_changes(
    kind: str,
    lies: float,
    audio: FloatArray,
    config: RecognizerConfig,
    turns: list[Turn],
    flushes: list[float],
    hotwords: tuple[str, ...],
) -> None:
    """Promises 1, 2, 3 and 6 of a source that waits for the recognizer."""
    player = Player(*MODELS[kind](lies), config, hotwords=hotwords)
    places = [round(place * len(audio)) for place in flushes]
    feed(player, audio, turns, places)
    player.finish()
    assert player.finals == transcribe(player, audio, places)
    check_events(player.events, len(audio) / SECOND)
    check_counts(player, audio)


@pytest.mark.parametrize("kind", MODELS)
def test_hotwords_reach_stable_text_and_finals(kind: str) -> None:
    player = Player(*MODELS[kind](0.0), hotwords=("Github",))
    feed(player, conversation("we use github for the project every day"), [(1600, [(ANY, 4)] * 4)])
    player.finish()
    [final] = player.finals
    assert "Github" in final.text
    stable = [event.stable for event in player.events if isinstance(event, Partial)]
    assert any("Github" in text for text in stable)
    assert not any("github" in text for text in stable)


@settings(max_examples=12)
@given(kinds, decoders, speeches(9), paces)
def test_overload_breaks_no_promise(kind: str, lies: float, audio: FloatArray, turns: list[Turn]) -> None:
    """Promises 2, 3, 4 and 6 of a source that does not wait: dropped audio is reported, queues stay short."""
    audio = np.tile(audio, 3)
    player = Player(*MODELS[kind](lies))
    feed(player, audio, turns, waits=False)
    player.finish()
    check_events(player.events, len(audio) / SECOND)
    check_counts(player, audio)
    if not player.pipeline.counts.dropped:
        assert player.finals == transcribe(player, audio)
    # A step of the endpointer may end an utterance, and with it fill one more window.
    assert player.most_jobs <= CONFIG.engine.max_pending_windows + 2


short_words = st.text("nopqrstuvwyz", min_size=1, max_size=2)


@settings(max_examples=12)
@given(kinds, st.lists(short_words, min_size=20, max_size=40, unique=True), configs, paces)
def test_honest_decoder_loses_and_repeats_no_word_at_forced_cuts(
    kind: str, spoken: list[str], config: RecognizerConfig, turns: list[Turn]
) -> None:
    """The words are so short that each cut finds the silence after one of them."""
    audio = np.concatenate([silence(0.5), *(np.append(sound(f"{word} "), silence(0.14)) for word in spoken)])
    segmenter = SegmenterConfig(max_utterance_ms=2600, min_pause_ms=500, cut_smoothing_frames=0)
    # Where a word of one letter is garbled in the first pass, its place is a guess.
    model: FakeModel = {"audio": FakeModel, "states": FakeStatefulModel}[kind](pads=True, context_frames=0)
    player = Player(model, MODELS[kind](0.0)[1], replace(config, segmenter=segmenter))
    feed(player, audio, turns)
    player.finish()
    assert spoken_words(player.events) == spoken
    assert len(player.finals) >= (len(audio) - 8000) // round(2.6 * SECOND)
    for before, after in pairwise(player.finals):
        assert before.end == after.start


@all_models
def test_lying_decoder_writes_no_word_on_both_sides_of_a_forced_cut(kind: str) -> None:
    """Every word of a final lies inside its utterance, so that two utterances never share audio."""
    audio = np.concatenate([silence(0.5), sound(" ".join(["see you soon"] * 40)), silence(1)])
    config = replace(CONFIG, segmenter=SegmenterConfig(max_utterance_ms=2600))
    player = Player(*MODELS[kind](1.0), config)
    feed(player, audio, [(SECOND, [(ANY, 4)] * 10)])
    player.finish()
    assert len(player.finals) > 10
    for before, after in pairwise(player.finals):
        assert before.end == after.start
        assert all(word.start < before.end for word in before.words)
        assert all(word.start + word.end >= 2 * before.end for word in after.words)


@all_models
@pytest.mark.parametrize("text", ["hello world", "a b c " * 10 + "d", "the quick brown fox jumps over the lazy dog"])
def test_second_pass_writes_the_final(kind: str, text: str) -> None:
    player = Player(*MODELS[kind](0.0))
    feed(player, conversation(text), [(1600, [(ANY, 4)] * 4)])
    player.finish()
    (final,) = player.finals
    assert spoken_words([final]) == text.split()
    assert final.text[0].isupper()
    assert final.text.endswith(".")
    assert any(partial.stable for partial in partials_of(player))


@all_models
def test_first_pass_continues_the_words_of_the_second(kind: str) -> None:
    """A word is shown before the second pass has decoded it, and no word is shown twice."""
    text = "we will see you very soon and then we go home"
    player = Player(*MODELS[kind](0.0))
    feed(player, conversation(text), [(800, [(WINDOWS, 1), (PASSES, 1)] * 2)])
    player.finish()
    spoken = text.split()
    for partial in partials_of(player):
        shown = [word.bare for word in partial.words]
        assert shown[:-1] == spoken[: max(0, len(shown) - 1)]
    unstable_end = [len(event.text.split()) - len(event.stable.split()) for event in partials_of(player)]
    assert max(unstable_end) > 3


def partials_of(player: Player) -> list[Partial]:
    return [event for event in player.events if isinstance(event, Partial)]


@all_models
@all_decoders
def test_slow_second_pass_costs_previews_but_no_final(kind: str, lies: float) -> None:
    """Promise 4: windows and passes keep up, but leave little time for previews."""
    audio = conversation(*["the quick brown fox jumps over it"] * 8, pause_s=0.6)
    player = Player(*MODELS[kind](lies))
    max_lag = 0
    for start in range(0, len(audio), 6400):  # two jobs are due for each 0.8 s
        feed(player, audio[start : start + 6400], [(6400, [(ANY, 1), (ANY, 1)])])
        max_lag = max(max_lag, player.pipeline.lag_samples)
    skipped, lag = player.pipeline.counts.previews_skipped, max_lag / SECOND
    assert skipped > 0
    assert lag < 3
    assert not any(isinstance(event, Overload) for event in player.events)
    player.finish()
    assert player.pipeline.counts.dropped == 0
    assert player.finals == transcribe(player, audio)


@all_models
def test_much_too_slow_second_pass_is_reported(kind: str) -> None:
    """Promise 4: lag and queue are bounded, audio is dropped, and events say so."""
    audio = conversation(*["the quick brown fox jumps over it"] * 30, pause_s=0.6)
    player = Player(*MODELS[kind](0.0))
    max_lag = 0
    for turn, start in enumerate(range(0, len(audio), 3200)):
        player.pipeline.buffer.write(audio[start : start + 3200])
        player.run(WINDOWS, 4)  # windows run at once, and the decoder takes 2.4 s for each 0.8 s
        player.run(PASSES if turn % 12 == 0 else frozenset())
        max_lag = max(max_lag, player.pipeline.lag_samples)
    lags = [event.lag_ms for event in player.events if isinstance(event, Overload)]
    assert lags
    assert min(lags) > CONFIG.engine.overload_lag_ms
    most_jobs = CONFIG.engine.max_pending_windows + 2
    assert player.most_jobs <= most_jobs
    assert max_lag / SECOND <= (8 + 0.8 * most_jobs) * 3 < 0.6 * len(audio) / SECOND
    player.finish()
    check_events(player.events, len(audio) / SECOND)
    check_counts(player, audio)
    assert player.pipeline.counts.dropped > 0


@all_models
def test_recording_is_not_read_ahead_of_its_second_pass(kind: str) -> None:
    """Promise 5: other streams may keep the engine busy with windows, so that passes wait."""
    config = replace(CONFIG, engine=replace(CONFIG.engine, look_ahead_ms=6000))
    player = Player(*MODELS[kind](0.0), config, live=False)
    for _ in range(60):
        player.pipeline.buffer.write(sound("see you soon "))
        player.run(WINDOWS, 4)
    # Each pass belongs to 0.8 s or to the end of an utterance, of which there is one in 6 s.
    assert player.most_jobs <= 2 * (6000 // 800) + 4


@all_models
def test_memory_of_a_long_stream_does_not_grow(kind: str) -> None:
    """Promise 5: after each minute of the same audio, a stream holds as much as after the first minutes."""
    minute = conversation(*["good morning how are you today", "fine thanks"] * 9, pause_s=0.7)
    minute = np.concatenate([minute[: 59 * SECOND], silence(1)])
    player = Player(*MODELS[kind](0.3))
    sizes = []
    for _ in range(6):
        feed(player, minute, [(SECOND, [(ANY, 4)] * 8)])
        player.run_all()
        player.events.clear()
        player.model.batches.clear()
        player.decoder.batches.clear()
        sizes.append(held_bytes(player.pipeline))
    assert max(sizes[2:]) <= min(sizes[:2]) + 20_000


def held_bytes(owner: object) -> int:
    """Return the size of all objects that an object refers to, directly or not, without code."""
    seen: dict[int, object] = {}
    pending: list[object] = [owner]
    while pending:
        item = pending.pop()
        if id(item) in seen or isinstance(item, type | ModuleType | FunctionType):
            continue
        seen[id(item)] = item
        pending += [item.base] if isinstance(item, np.ndarray) else gc.get_referents(item)
    return sum(sys.getsizeof(item) for item in seen.values())


@settings(max_examples=20)
@given(kinds, paces, st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_mark_waits_for_the_second_pass_of_the_audio_before_it(
    kind: str, turns: list[Turn], places: list[float]
) -> None:
    """The final of an utterance that ended before a mark comes before the mark."""
    audio = conversation("hello world", "the quick brown fox jumps over the lazy dog", "good day")
    player = Player(*MODELS[kind](0.0))
    start = 0
    marks = sorted(round(place * len(audio)) for place in places)
    for number, position in enumerate(marks):
        feed(player, audio[start:position], turns)
        player.pipeline.mark(number)
        start = position
    feed(player, audio[start:], turns)
    player.finish()
    order = [event for event in player.events if isinstance(event, Final | Marked)]
    passed = [event.mark for event in order if isinstance(event, Marked)]
    assert passed == list(range(len(marks)))
    for index, event in enumerate(order):
        if isinstance(event, Marked):
            missing = [final for final in finals(order[index:]) if final.end * SECOND <= marks[event.mark] - FRAME]
            assert not missing


@all_models
def test_flush_gives_silence_to_both_passes(kind: str) -> None:
    """The last letters of a window are garbled in the first pass and would be lost without silence behind them."""
    player = Player(*MODELS[kind](0.0))
    player.pipeline.buffer.write(np.concatenate([silence(0.5), sound("hello world")]))
    player.pipeline.flush()
    player.run_all()
    (final,) = player.finals
    assert spoken_words([final]) == ["hello", "world"]
    assert final.words[-1].end <= final.end == (8000 + 11 * 4 * FRAME) / SECOND
    assert final.words[-1].start == pytest.approx(0.5 + 6 * 0.08, abs=0.04)


def test_second_pass_that_uses_audio_gets_all_audio_of_the_utterance() -> None:
    lengths: list[int] = []
    model = FakeModel(pads=True)

    def record(requests: Sequence[DecodeRequest]) -> None:
        for request in requests:
            assert request.samples is not None
            lengths.append(len(request.samples))
            start = 8000 - ms_to_samples(300)
            expected = np.pad(audio, (0, SECOND))[start : start + lengths[-1]]
            assert np.array_equal(request.samples, expected)

    audio = np.concatenate([silence(0.5), sound("the quick brown fox jumps over the lazy dog")])
    player = Player(model, FakeSecondPass(record))
    feed(player, audio, [(3200, [(ANY, 1)] * 4)])
    player.finish()
    commit, right = ms_to_samples(800), ms_to_samples(600)
    assert lengths[:-1] == [commit * (index + 1) + right for index in range(len(lengths) - 1)]
    assert lengths[-1] == len(audio) - 8000 + ms_to_samples(300 + 400)


def test_preview_encodes_only_audio_after_the_preview_state() -> None:
    """The commit window saves a state up to 200 ms before its end, and each preview continues the one before."""
    audio = conversation("the quick brown fox jumps over the lazy dog")
    lengths: dict[int | None, list[int]] = {}
    for preview_right in (None, 200):
        windows = replace(CONFIG.windows or WindowConfig(), preview_right_context_ms=preview_right)
        model, decoder = MODELS["states"](0.0)
        player = Player(model, decoder, replace(CONFIG, windows=windows))
        feed(player, audio, [(FRAME, [(ANY, 1)] * 4)])
        player.finish()
        lengths[preview_right] = [length // FRAME for [length] in model.batches]
        assert player.finals == transcribe(player, audio)
    commit, right, interval = 40, 30, 10
    previews = {key: [length for length in run[:-1] if length != commit + right] for key, run in lengths.items()}
    assert len(previews[200]) == len(previews[None]) > 10
    assert max(previews[200]) <= 10 + 2 * interval < right + interval <= max(previews[None])


def test_preview_that_a_commit_window_overtook_does_not_replace_its_preview_state() -> None:
    windows = replace(CONFIG.windows or WindowConfig(), preview_right_context_ms=200)
    player = Player(*MODELS["states"](0.0), replace(CONFIG, windows=windows))
    assert isinstance(player.model, FakeStatefulModel)
    pipeline, audio = player.pipeline, np.concatenate([silence(0.5), sound("the quick brown fox jumps")])

    def take(preview: bool) -> Job:
        pipeline.advance()
        job = pipeline.take_job(Priority.PREVIEW, lambda kind, samples: kind is JobKind.WINDOW)
        assert isinstance(job, Job)
        assert job.is_preview == preview
        return job

    pipeline.buffer.write(audio[: 8000 + SECOND])
    preview = take(preview=True)
    pipeline.buffer.write(audio[8000 + SECOND : 8000 + round(1.5 * SECOND)])
    commit = take(preview=False)
    for job in (commit, preview):
        [output] = player.model.forward_chunks([job.chunk])
        pipeline.deliver(job, output)
    start = commit.utterance.preview_start
    assert start is not None
    assert start.position == commit.window.stop - ms_to_samples(200)
    assert len(start.log_probs) == (start.position - commit.window.new_stop) // FRAME


def test_word_that_only_the_decoder_reads_waits_for_a_second_hypothesis() -> None:
    """Stable words, and words that the CTC model reads as well, are shown at once."""
    rules = AttentionDecoder(VOCABULARY, LABELS, FRAME, SecondPassConfig(max_tokens_per_s=15))
    second_pass = SecondPass(rules, FakeSecondPass(uses_audio=False), 0)
    audio = sound("hello world")
    log_probs = FakeModel(context_frames=0).log_probs([audio])[0]
    window = Window(0, len(audio), 0, len(audio))

    def show(text: str) -> list[str]:
        tokens = encode(text)
        second_pass.preview(window, log_probs, DecodeOutput(tokens, len(tokens) * (-0.1,), None))
        return [word.word for word in second_pass.words]

    assert show(" hello world") == ["hello", "world"]
    assert show(" hello zyxzyx zyx") == ["hello"]
    assert show(" hello zyxzyx world") == ["hello", "zyxzyx", "world"]
