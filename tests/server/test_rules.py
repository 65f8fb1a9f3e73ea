"""Server rules without sockets and clocks: outbox, rate limiter, arrival times, settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.errors import InputError
from stream_asr.events import Final, Partial, SpeechStarted
from stream_asr.server.sessions.outbox import Outbox, SessionEvent
from stream_asr.server.sessions.pacing import ArrivalTimes, RateLimiter
from stream_asr.server.settings import ServerSettings


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


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=50))
def test_rate_of_accepted_audio_is_limited(steps: list[tuple[float, float]]) -> None:
    limiter, now_s, accepted_s = RateLimiter(4.0, 2.0, 0.0), 0.0, 0.0
    for audio_s, pause_s in steps:
        now_s += pause_s
        assert accepted_s <= 2.0 + 4.0 * now_s + 1e-6
        accepted_s += audio_s
        now_s += limiter.delay_s(audio_s, now_s)


def test_live_audio_is_never_delayed() -> None:
    limiter = RateLimiter(1.0, 2.0, 0.0)
    assert all(limiter.delay_s(0.02, 0.02 * number) == 0 for number in range(1000))


def test_arrival_times() -> None:
    arrivals = ArrivalTimes(span_s=1.0, step_s=0.09)
    assert arrivals.time_of(0.0) is None
    for number in range(1, 8):
        arrivals.record(number / 10, 100 + number)
    assert arrivals.time_of(0.25) == 103
    assert arrivals.time_of(0.3) == 103
    assert arrivals.time_of(0.75) is None, "not arrived yet"
    for number in range(8, 30):
        arrivals.record(number / 10, 100 + number)
    assert arrivals.time_of(0.3) is None, "no longer recorded"
    assert arrivals.time_of(2.85) == 129


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_sessions": 0}, "max_sessions is 0; it must be at least 1"),
        ({"max_speed": 0.5}, "max_speed is 0.5; it must be at least 1, the speed of live audio"),
        ({"idle_timeout_s": 0}, "idle_timeout_s is 0; it must be greater than 0"),
        ({"idle_timeout_s": float("nan")}, "greater than 0"),
        ({"resume_window_s": -1}, "resume_window_s is -1; it must not be negative"),
        ({"allow_origins": ("example.org",)}, "'example.org' is not an origin; accepted: SCHEME://HOST"),
        ({"allow_origins": ("https://example.org/page",)}, "is not an origin"),
        ({"tokens": ("",)}, "a token is empty"),
        ({"tokens": ("good", "schlüssel")}, "characters that are not allowed in a header"),
        ({"tokens": ("one\ntwo",)}, "characters that are not allowed in a header"),
        ({"tokens": ("space ",)}, "characters that are not allowed in a header"),
    ],
)
def test_settings_out_of_range_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ServerSettings(**settings)
