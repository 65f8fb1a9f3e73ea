"""The outbox of a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.events import Final, Partial, SpeechStarted
from stream_asr.server.sessions.outbox import Outbox, SessionEvent


def partial(utterance: int, text: str) -> Partial:
    return Partial(utterance, 0, 1, "", text)


def final(utterance: int) -> Final:
    return Final(utterance, 0, 1, str(utterance), 1, ())


def send_queued(outbox: Outbox, max_count: int = 10**9) -> list[SessionEvent]:
    """Take and confirm queued events, up to ``max_count``."""
    events: list[SessionEvent] = []
    while len(events) < max_count and (event := outbox.take()) is not None:
        outbox.confirm()
        events.append(event)
    return events


def test_queued_partial_is_replaced_by_the_next_caption_of_its_utterance() -> None:
    outbox = Outbox(10)
    for event in (SpeechStarted(0, 0), partial(0, "a"), partial(0, "b"), final(0), partial(1, "c"), final(2)):
        outbox.put(event)
    assert send_queued(outbox) == [SpeechStarted(0, 0), final(0), partial(1, "c"), final(2)]
    assert outbox.coalesced == 2


def test_event_in_flight_is_not_replaced() -> None:
    outbox = Outbox(10)
    outbox.put(partial(0, "a"))
    assert outbox.take() == partial(0, "a")
    outbox.put(partial(0, "b"))
    outbox.confirm()
    assert send_queued(outbox) == [partial(0, "b")]
    assert outbox.sent == 2


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_every_final_arrives_once_and_in_order_after_lost_connections(
    steps: list[tuple[bool, int, int]],
) -> None:
    """The client counts events; each lost connection loses some of the events sent last."""
    outbox, received, utterance = Outbox(1000), [], 0
    for is_final, send_count, lost_count in steps:
        outbox.put(final(utterance) if is_final else partial(utterance, "x"))
        utterance += is_final
        batch = send_queued(outbox, send_count)
        received += batch[: max(0, len(batch) - lost_count)]
        if batch and lost_count:
            outbox.rewind(len(received))
            assert outbox.sent == len(received)
    received += send_queued(outbox)
    assert [event for event in received if isinstance(event, Final)] == [final(number) for number in range(utterance)]


def test_rewind_without_a_count_does_not_replay_sent_events() -> None:
    outbox = Outbox(10)
    for number in range(3):
        outbox.put(final(number))
    send_queued(outbox, 1)
    outbox.take()
    outbox.rewind()
    assert send_queued(outbox) == [final(1), final(2)]


def test_event_whose_sending_failed_may_have_been_received() -> None:
    outbox = Outbox(10)
    outbox.put(final(0))
    outbox.take()
    outbox.rewind(1)
    assert send_queued(outbox) == []


def test_replayed_partials_do_not_count_as_coalesced() -> None:
    outbox = Outbox(10)
    outbox.put(partial(0, "a"))
    send_queued(outbox)
    outbox.put(final(0))
    outbox.rewind(0)
    assert send_queued(outbox) == [final(0)]
    assert outbox.coalesced == 0


def test_impossible_event_counts_are_rejected() -> None:
    outbox = Outbox(2)
    for number in range(4):
        outbox.put(final(number))
    send_queued(outbox)
    with pytest.raises(LookupError, match="cannot have received 5 events; 4 were sent"):
        outbox.rewind(5)
    with pytest.raises(LookupError, match="3 events are missing, but only the last 2 are kept"):
        outbox.rewind(1)
    outbox.rewind(2)
    assert send_queued(outbox) == [final(2), final(3)]
