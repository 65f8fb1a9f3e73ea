from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from stream_asr.array_types import FloatArray
from stream_asr.config import EngineConfig, RecognizerConfig, WindowConfig
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.errors import StreamASRError
from stream_asr.events import Event, Final
from stream_asr.streaming.engine import Engine
from stream_asr.streaming.mailbox import Mailbox
from stream_asr.streaming.pipeline import Pipeline
from tests.support.fakes import FRAME, LABELS, FakeModel, conversation, loud, silence, sound

CONFIG = RecognizerConfig(
    windows=WindowConfig(left_context_ms=1000, commit_ms=800, right_context_ms=400),
    engine=EngineConfig(buffer_ms=20_000),
)


def session(engine: Engine, audio: FloatArray | None = None, *, unread: int = 1000, ended: bool = False) -> Mailbox:
    made = Mailbox(Pipeline(CONFIG, GreedyDecoder(LABELS, FRAME), FRAME, detector=loud), unread)
    if audio is not None:
        made.pipeline.buffer.write(audio)
    if ended:
        made.pipeline.end_of_audio()
    engine.add(made)
    return made


def texts(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def run(engine: Engine) -> None:
    while engine.step():
        pass


def test_windows_of_one_length_from_many_streams_share_a_batch() -> None:
    model = FakeModel()
    engine = Engine(model, max_batch_size=8)
    sessions = [session(engine, conversation("hello world"), ended=True) for _ in range(5)]
    run(engine)
    assert all(texts(each.take()) == ["hello world"] for each in sessions)
    assert max(len(batch) for batch in model.batches) == 5
    assert all(len(set(batch)) == 1 for batch in model.batches)


def test_batches_are_bounded() -> None:
    model = FakeModel()
    engine = Engine(model, max_batch_size=2)
    for _ in range(5):
        session(engine, conversation("hello world"), ended=True)
    run(engine)
    assert max(len(batch) for batch in model.batches) == 2


def test_a_model_that_pads_takes_lengths_that_are_close() -> None:
    model = FakeModel(pads=True)
    engine = Engine(model, max_batch_size=8)
    for text in ("hello world", "hello worlds", "a"):
        session(engine, conversation(text), ended=True)
    run(engine)
    assert any(len(set(batch)) == 2 for batch in model.batches)
    assert all(min(batch) >= 0.75 * max(batch) for batch in model.batches)


def test_where_batches_round_differently_kept_windows_run_alone() -> None:
    model = FakeModel(batches_kept_windows=False)
    engine = Engine(model, max_batch_size=8)
    for _ in range(3):
        session(engine, conversation("hello world"), ended=True)
    run(engine)
    assert {len(batch) for batch in model.batches} == {1}


def test_a_batch_is_no_larger_than_the_model_gains_by() -> None:
    model = FakeModel(pads=True)
    model.most_windows = 2
    engine = Engine(model, max_batch_size=8)
    for _ in range(5):
        session(engine, conversation("hello world"), ended=True)
    run(engine)
    assert max(len(batch) for batch in model.batches) == 2
    assert len(engine.stats.batches) == 3


def speaker(windows: Sequence[FloatArray], tags: str = "vyz") -> str:
    """Whose window it is: each stream says a letter that the others do not."""
    levels = np.unique(np.rint(windows[0] * 64))
    (tag,) = (letter for letter in tags if LABELS.tokens.index(letter) in levels)
    return tag


def test_finals_come_before_commits_and_those_before_previews() -> None:
    heard: list[str] = []
    engine = Engine(FakeModel(lambda windows: heard.append(speaker(windows))), max_batch_size=1)
    session(engine, np.concatenate([silence(0.5), sound("va")]))
    session(engine, np.concatenate([silence(0.5), sound("yabcdefghijklmnopq")]))
    session(engine, conversation("za"))
    for _ in range(3):
        engine.step()
    assert heard == ["z", "y", "v"]


def test_windows_of_equal_urgency_are_taken_from_as_many_streams_as_there_are() -> None:
    model = FakeModel()
    engine = Engine(model, max_batch_size=2)
    long, short = (session(engine, conversation(text)) for text in ("a long sentence that goes on and on", "hello you"))
    for each in (long, short):
        each.pipeline.advance()
    before = [each.pipeline.waiting for each in (long, short)]
    assert min(before) > 0
    assert before[0] > 1
    engine.step()
    assert [each.pipeline.waiting for each in (long, short)] == [count - 1 for count in before]


@pytest.mark.parametrize(("live", "most"), [(True, 3), (False, 5)])
def test_recordings_are_looked_ahead_in(live: bool, most: int) -> None:
    config = replace(CONFIG, engine=EngineConfig(max_pending_windows=3, look_ahead_ms=4_000))
    pipeline = Pipeline(config, GreedyDecoder(LABELS, FRAME), FRAME, detector=loud, live=live)
    pipeline.buffer.write(conversation("a long sentence that goes on and on", "and another long sentence that does"))
    pipeline.advance()
    assert pipeline.waiting == most


def test_a_recording_does_not_keep_live_streams_waiting() -> None:
    """It is there all at once, so that most of its utterances have ended long before their windows are run."""
    model = FakeModel()
    engine = Engine(model, max_batch_size=1)
    audio = conversation(*20 * ["a sentence of a recording"])
    recording = Mailbox(Pipeline(CONFIG, GreedyDecoder(LABELS, FRAME), FRAME, detector=loud, live=False), 1000)
    recording.pipeline.buffer.write(audio[: 18 * 16_000])
    engine.add(recording)
    talking = session(engine, conversation("somebody who has not ended yet", pause_s=0.1))
    for each in (recording, talking):
        each.pipeline.advance()
    before = recording.pipeline.waiting, talking.pipeline.waiting
    assert before[1] > 1
    for _ in range(2 * before[1]):
        engine.step()
    assert talking.pipeline.waiting == 0
    assert recording.pipeline.waiting >= before[0] - before[1]


def test_previews_take_turns() -> None:
    heard: list[str] = []
    engine = Engine(FakeModel(lambda windows: heard.append(speaker(windows, "yz"))), max_batch_size=1)
    both = [session(engine, np.concatenate([silence(0.5), sound(f"a{tag}b")])) for tag in "yz"]
    for letters in ("cab", "dbc"):
        engine.step()
        for each in both:
            each.pipeline.buffer.write(sound(letters))
    assert heard == ["y", "z"], "the second stream does not wait for as long as the first has news"


def test_a_window_that_breaks_the_model_costs_only_its_own_stream() -> None:
    def fragile(windows: Sequence[FloatArray]) -> None:
        if any((window == 0.99).any() for window in windows):
            raise ValueError("cannot digest this")

    engine = Engine(FakeModel(fragile), max_batch_size=8)
    good = session(engine, conversation("hello world"), ended=True)
    poison = conversation("hello world")
    poison[poison > 0.9] = 0.99
    bad = session(engine, poison, ended=True)
    also_good = session(engine, conversation("hello world"), ended=True)
    run(engine)
    assert texts(good.take()) == texts(also_good.take()) == ["hello world"]
    bad.take()
    with pytest.raises(StreamASRError, match="cannot digest this"):
        bad.take()


def test_a_reader_that_does_not_read_loses_partials_never_finals() -> None:
    said = ["hello world"] * 6
    audio = conversation(*said)
    engine = Engine(FakeModel(), max_batch_size=1)
    slow = session(engine, unread=8)
    for at in range(0, len(audio), 3200):
        slow.pipeline.buffer.write(audio[at : at + 3200])
        run(engine)
    assert slow.coalesced > 0
    assert not slow.has_room
    slow.pipeline.end_of_audio()
    heard = []
    while not slow.ended:
        heard += texts(slow.take())
        run(engine)
    heard += texts(slow.take())
    assert heard == said
    assert slow.pipeline.counts.dropped == 0


def test_closing_the_engine_ends_open_streams_with_a_reason() -> None:
    engine = Engine(FakeModel(), max_batch_size=1)
    engine.start()
    left = session(engine)
    engine.close()
    assert left.ended
    with pytest.raises(StreamASRError, match="closed while this stream was still open"):
        left.take()


def test_ended_streams_are_forgotten() -> None:
    engine = Engine(FakeModel(), max_batch_size=1)
    session(engine, conversation("hello"), ended=True)
    run(engine)
    engine.step()
    assert engine._sessions == ()
