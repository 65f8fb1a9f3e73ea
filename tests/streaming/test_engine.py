"""The engine: which windows share a batch, in which order, and what happens when one fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from stream_asr.array_types import FloatArray
from stream_asr.config import EngineConfig, RecognizerConfig, WindowConfig
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.errors import StreamASRError
from stream_asr.streaming.engine import Engine
from stream_asr.streaming.mailbox import Mailbox
from stream_asr.streaming.pipeline import Pipeline
from tests.support.fakes import FRAME, LABELS, FakeModel, conversation, loud, silence, sound
from tests.support.streaming import add_stream, final_texts, run_until_idle

CONFIG = RecognizerConfig(
    windows=WindowConfig(left_context_ms=1000, commit_ms=800, right_context_ms=400),
    engine=EngineConfig(buffer_ms=20_000),
)


def make_engine(model: FakeModel, max_batch_size: int) -> Engine:
    return Engine(model, EngineConfig(max_batch_size=max_batch_size))


def open_stream(
    engine: Engine, audio: FloatArray | None = None, *, max_unread: int = 1000, ended: bool = False, live: bool = True
) -> Mailbox:
    """Add a stream to the engine, with audio in its buffer."""
    pipeline = Pipeline(CONFIG, GreedyDecoder(LABELS, FRAME), FRAME, detector=loud, live=live)
    return add_stream(engine, pipeline, audio, max_unread=max_unread, ended=ended)


def test_windows_of_equal_length_from_several_streams_share_a_batch() -> None:
    model = FakeModel()
    engine = make_engine(model, max_batch_size=8)
    mailboxes = [open_stream(engine, conversation("hello world"), ended=True) for _ in range(5)]
    run_until_idle(engine)
    assert all(final_texts(mailbox.take_all()) == ["hello world"] for mailbox in mailboxes)
    assert max(len(batch) for batch in model.batches) == 5
    assert all(len(set(batch)) == 1 for batch in model.batches)


def test_batch_size_is_limited() -> None:
    model = FakeModel()
    engine = make_engine(model, max_batch_size=2)
    for _ in range(5):
        open_stream(engine, conversation("hello world"), ended=True)
    run_until_idle(engine)
    assert max(len(batch) for batch in model.batches) == 2


def test_windows_of_similar_length_share_a_batch_if_the_model_pads() -> None:
    model = FakeModel(pads=True)
    engine = make_engine(model, max_batch_size=8)
    for text in ("hello world", "hello worlds", "a"):
        open_stream(engine, conversation(text), ended=True)
    run_until_idle(engine)
    assert any(len(set(batch)) == 2 for batch in model.batches)
    assert all(min(batch) >= 0.75 * max(batch) for batch in model.batches)


def test_commit_windows_run_alone_if_batching_changes_their_result() -> None:
    model = FakeModel(batches_commit_windows=False)
    engine = make_engine(model, max_batch_size=8)
    for _ in range(3):
        open_stream(engine, conversation("hello world"), ended=True)
    run_until_idle(engine)
    assert {len(batch) for batch in model.batches} == {1}


def test_batch_size_is_limited_to_parallel_windows_of_the_model() -> None:
    model = FakeModel(pads=True)
    model.parallel_windows = 2
    engine = make_engine(model, max_batch_size=8)
    for _ in range(5):
        open_stream(engine, conversation("hello world"), ended=True)
    run_until_idle(engine)
    assert max(len(batch) for batch in model.batches) == 2
    assert len(engine.stats.batches) == 3


def speaker(windows: Sequence[FloatArray], tags: str = "vyz") -> str:
    """Return the stream of the first window: each stream has a letter that the other streams do not have."""
    levels = np.unique(np.rint(windows[0] * 64))
    (tag,) = (letter for letter in tags if LABELS.tokens.index(letter) in levels)
    return tag


def test_finals_run_before_commits_and_commits_before_previews() -> None:
    order: list[str] = []
    engine = make_engine(FakeModel(lambda windows: order.append(speaker(windows))), max_batch_size=1)
    open_stream(engine, np.concatenate([silence(0.5), sound("va")]))
    open_stream(engine, np.concatenate([silence(0.5), sound("yabcdefghijklmnopq")]))
    open_stream(engine, conversation("za"))
    for _ in range(3):
        engine.step()
    assert order == ["z", "y", "v"]


def test_streams_get_equal_shares_of_a_batch() -> None:
    engine = make_engine(FakeModel(), max_batch_size=2)
    texts = ("a long sentence that goes on and on", "hello you")
    long, short = (open_stream(engine, conversation(text)).pipeline for text in texts)
    for pipeline in (long, short):
        pipeline.advance()
    before = long.waiting, short.waiting
    assert min(before) > 0
    assert before[0] > 1
    engine.step()
    assert (long.waiting, short.waiting) == (before[0] - 1, before[1] - 1)


@pytest.mark.parametrize(("live", "expected"), [(True, 3), (False, 5)])
def test_more_windows_are_queued_for_streams_without_partials(live: bool, expected: int) -> None:
    config = replace(CONFIG, engine=EngineConfig(max_pending_windows=3, look_ahead_ms=4_000))
    pipeline = Pipeline(config, GreedyDecoder(LABELS, FRAME), FRAME, detector=loud, live=live)
    pipeline.buffer.write(conversation("a long sentence that goes on and on", "and another long sentence that does"))
    pipeline.advance()
    assert pipeline.waiting == expected


def test_recording_does_not_delay_live_streams() -> None:
    """All audio of a recording arrives together, so most of its utterances end long before their windows run."""
    engine = make_engine(FakeModel(), max_batch_size=1)
    audio = conversation(*20 * ["a sentence of a recording"])
    recording = open_stream(engine, audio[: 18 * 16_000], live=False).pipeline
    speaking = open_stream(engine, conversation("a speaker who has not stopped", pause_s=0.1)).pipeline
    for pipeline in (recording, speaking):
        pipeline.advance()
    before = recording.waiting, speaking.waiting
    assert before[1] > 1
    for _ in range(2 * before[1]):
        engine.step()
    assert speaking.waiting == 0
    assert recording.waiting >= before[0] - before[1]


def test_streams_take_turns_with_previews() -> None:
    order: list[str] = []
    engine = make_engine(FakeModel(lambda windows: order.append(speaker(windows, "yz"))), max_batch_size=1)
    mailboxes = [open_stream(engine, np.concatenate([silence(0.5), sound(f"a{tag}b")])) for tag in "yz"]
    for letters in ("cab", "dbc"):
        engine.step()
        for mailbox in mailboxes:
            mailbox.pipeline.buffer.write(sound(letters))
    assert order == ["y", "z"], "the first stream has a new preview each time"


def test_window_that_fails_in_the_model_ends_only_its_own_stream() -> None:
    def fail_on_bad_window(windows: Sequence[FloatArray]) -> None:
        if any((window == 0.99).any() for window in windows):
            raise ValueError("bad window")

    engine = make_engine(FakeModel(fail_on_bad_window), max_batch_size=8)
    first = open_stream(engine, conversation("hello world"), ended=True)
    bad_audio = conversation("hello world")
    bad_audio[bad_audio > 0.9] = 0.99
    bad = open_stream(engine, bad_audio, ended=True)
    last = open_stream(engine, conversation("hello world"), ended=True)
    run_until_idle(engine)
    assert final_texts(first.take_all()) == final_texts(last.take_all()) == ["hello world"]
    bad.take_all()
    with pytest.raises(StreamASRError, match="bad window"):
        bad.take_all()


def test_full_mailbox_coalesces_partials_but_loses_no_final() -> None:
    sentences = ["hello world"] * 6
    audio = conversation(*sentences)
    engine = make_engine(FakeModel(), max_batch_size=1)
    mailbox = open_stream(engine, max_unread=8)
    for start in range(0, len(audio), 3200):
        mailbox.pipeline.buffer.write(audio[start : start + 3200])
        run_until_idle(engine)
    assert mailbox.coalesced > 0
    assert not mailbox.has_room
    mailbox.pipeline.end_of_audio()
    texts = []
    while not mailbox.ended:
        texts += final_texts(mailbox.take_all())
        run_until_idle(engine)
    texts += final_texts(mailbox.take_all())
    assert texts == sentences
    assert mailbox.pipeline.counts.dropped == 0


def test_closing_the_engine_fails_open_streams() -> None:
    engine = make_engine(FakeModel(), max_batch_size=1)
    engine.start()
    mailbox = open_stream(engine)
    engine.close()
    assert mailbox.ended
    with pytest.raises(StreamASRError, match="closed while this stream was still open"):
        mailbox.take_all()


def test_ended_streams_are_removed() -> None:
    engine = make_engine(FakeModel(), max_batch_size=1)
    open_stream(engine, conversation("hello"), ended=True)
    run_until_idle(engine)
    engine.step()
    assert engine.stats.streams == 0
