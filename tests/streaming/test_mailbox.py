"""The mailbox of a stream: which partials are replaced, and what a reader gets."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.errors import StreamASRError
from stream_asr.events import Event, Final, Partial, SpeechStarted
from stream_asr.streaming.mailbox import Mailbox
from stream_asr.streaming.pipeline import Pipeline


class StubPipeline:
    """The part of a `Pipeline` that a mailbox uses, with events that the test provides."""

    def __init__(self) -> None:
        self.buffer = RingBuffer(1)
        self.finished = False
        self.events: list[Event] = []

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events


def make_mailbox(max_unread: int) -> tuple[Mailbox, StubPipeline]:
    pipeline = StubPipeline()
    return Mailbox(cast(Pipeline, pipeline), max_unread), pipeline


def publish(mailbox: Mailbox, pipeline: StubPipeline, *events: Event) -> None:
    pipeline.events += events
    mailbox.publish()


def partial(utterance: int, text: str) -> Partial:
    return Partial(utterance, 0, 1, "", text)


def final(utterance: int) -> Final:
    return Final(utterance, 0, 1, str(utterance), 1, ())


def test_partials_are_not_replaced_below_half_of_the_limit() -> None:
    mailbox, pipeline = make_mailbox(8)
    events = [partial(0, text) for text in "abcd"]
    publish(mailbox, pipeline, *events)
    assert mailbox.take_all() == events
    assert mailbox.coalesced == 0


def test_partial_replaces_the_one_before_it_from_half_of_the_limit_on() -> None:
    mailbox, pipeline = make_mailbox(4)
    publish(mailbox, pipeline, *(partial(0, text) for text in "abcd"))
    assert mailbox.take_all() == [partial(0, "a"), partial(0, "d")]
    assert mailbox.coalesced == 2


def test_partial_replaces_neither_another_utterance_nor_a_partial_before_another_event() -> None:
    mailbox, pipeline = make_mailbox(2)
    events: list[Event] = [
        partial(0, "a"),
        partial(1, "b"),
        SpeechStarted(2, 1.0),
        partial(1, "c"),
        final(1),
        partial(1, "d"),
    ]
    publish(mailbox, pipeline, *events)
    assert mailbox.take_all() == events
    assert mailbox.coalesced == 0


def test_partials_of_one_utterance_never_fill_the_mailbox() -> None:
    mailbox, pipeline = make_mailbox(16)
    for number in range(1000):
        publish(mailbox, pipeline, partial(0, str(number)))
        assert mailbox.has_room
    unread = mailbox.take_all()
    assert len(unread) == 8
    assert unread[-1] == partial(0, "999")


def test_finals_fill_the_mailbox_until_they_are_read() -> None:
    mailbox, pipeline = make_mailbox(3)
    for number in range(3):
        assert mailbox.has_room
        publish(mailbox, pipeline, final(number))
    assert not mailbox.has_room
    assert mailbox.take_next() == final(0)
    assert mailbox.has_room


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.sampled_from(["start", "partial", "final"]), st.integers(0, 3)), max_size=60),
)
def test_only_partials_are_left_out_and_order_is_kept(max_unread: int, steps: list[tuple[str, int]]) -> None:
    mailbox, pipeline = make_mailbox(max_unread)
    published: list[Event] = []
    read: list[Event] = []
    utterance = 0
    for number, (kind, reads) in enumerate(steps):
        event: Event = partial(utterance, str(number))
        if kind == "start":
            event = SpeechStarted(utterance, number)
        elif kind == "final":
            event = final(utterance)
            utterance += 1
        published.append(event)
        publish(mailbox, pipeline, event)
        read += [taken for _ in range(reads) if (taken := mailbox.take_next()) is not None]
    read += mailbox.take_all()
    kept = iter(published)
    assert all(event in kept for event in read), "the order changed"
    assert [event for event in read if not isinstance(event, Partial)] == [
        event for event in published if not isinstance(event, Partial)
    ]
    assert len(published) - len(read) == mailbox.coalesced
    assert read[-1:] == published[-1:]


def test_reader_gets_the_events_before_the_error() -> None:
    mailbox, pipeline = make_mailbox(8)
    publish(mailbox, pipeline, final(0))
    mailbox.fail(StreamASRError("first"))
    mailbox.fail(StreamASRError("second"))
    publish(mailbox, pipeline, final(1))
    assert mailbox.ended
    assert mailbox.take_all() == [final(0)]
    with pytest.raises(StreamASRError, match="first"):
        mailbox.take_next()


def test_listeners_are_called_for_changes_only() -> None:
    mailbox, pipeline = make_mailbox(8)
    calls: list[int] = []
    unsubscribe = mailbox.subscribe(lambda: calls.append(1))
    mailbox.publish()
    assert not calls
    publish(mailbox, pipeline, final(0))
    assert len(calls) == 1
    unsubscribe()
    pipeline.finished = True
    mailbox.publish()
    assert mailbox.ended
    assert len(calls) == 1
