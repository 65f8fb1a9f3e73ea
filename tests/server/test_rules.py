"""The server's rules that need neither sockets nor clocks: outbox, pace, timeline, settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.errors import InputError
from stream_asr.events import Final, Partial, SpeechStarted
from stream_asr.server.sessions.outbox import Outbox, SessionEvent
from stream_asr.server.sessions.pacing import Pace, Timeline
from stream_asr.server.settings import ServerSettings


def partial(utterance: int, text: str) -> Partial:
    return Partial(utterance, 0, 1, "", text)


def final(utterance: int) -> Final:
    return Final(utterance, 0, 1, str(utterance), 1, ())


def sent(outbox: Outbox, at_most: int = 10**9) -> list[SessionEvent]:
    events: list[SessionEvent] = []
    while len(events) < at_most and (event := outbox.take()) is not None:
        outbox.confirm()
        events.append(event)
    return events


def test_a_waiting_partial_gives_way_to_the_next_caption_of_its_utterance() -> None:
    outbox = Outbox(10)
    for event in (SpeechStarted(0, 0), partial(0, "a"), partial(0, "b"), final(0), partial(1, "c"), final(2)):
        outbox.put(event)
    assert sent(outbox) == [SpeechStarted(0, 0), final(0), partial(1, "c"), final(2)]
    assert outbox.coalesced == 2


def test_an_event_on_its_way_out_is_not_replaced() -> None:
    outbox = Outbox(10)
    outbox.put(partial(0, "a"))
    assert outbox.take() == partial(0, "a")
    outbox.put(partial(0, "b"))
    outbox.confirm()
    assert sent(outbox) == [partial(0, "b")]
    assert outbox.sent == 2


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_every_final_arrives_once_and_in_order_however_often_the_connection_is_lost(
    steps: list[tuple[bool, int, int]],
) -> None:
    """A client that counts, on connections that lose some of the events that were sent last."""
    outbox, arrived, made = Outbox(1000), [], 0
    for is_final, sending, lost in steps:
        outbox.put(final(made) if is_final else partial(made, "x"))
        made += is_final
        batch = sent(outbox, sending)
        received = batch[: max(0, len(batch) - lost)]
        arrived += received
        if len(received) < len(batch):
            outbox.rewind(len(arrived))
            assert outbox.sent == len(arrived)
    arrived += sent(outbox)
    assert [event for event in arrived if isinstance(event, Final)] == [final(number) for number in range(made)]


def test_without_a_count_the_event_whose_sending_failed_is_sent_again_and_no_other() -> None:
    outbox = Outbox(10)
    for number in range(3):
        outbox.put(final(number))
    sent(outbox, 1)
    outbox.take()
    outbox.rewind()
    assert sent(outbox) == [final(1), final(2)]


def test_a_client_may_have_got_the_event_whose_sending_failed() -> None:
    outbox = Outbox(10)
    outbox.put(final(0))
    outbox.take()
    outbox.rewind(1)
    assert sent(outbox) == []


def test_partials_that_were_sent_do_not_count_as_replaced() -> None:
    outbox = Outbox(10)
    outbox.put(partial(0, "a"))
    sent(outbox)
    outbox.put(final(0))
    outbox.rewind(0)
    assert sent(outbox) == [final(0)]
    assert outbox.coalesced == 0


def test_impossible_counts_are_refused() -> None:
    outbox = Outbox(2)
    for number in range(4):
        outbox.put(final(number))
    sent(outbox)
    with pytest.raises(LookupError, match="5 events cannot have arrived: 4 were sent"):
        outbox.rewind(5)
    with pytest.raises(LookupError, match="3 events did not arrive, of which only the last 2 are remembered"):
        outbox.rewind(1)
    outbox.rewind(2)
    assert sent(outbox) == [final(2), final(3)]


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=50))
def test_no_more_audio_passes_than_the_pace_allows(steps: list[tuple[float, float]]) -> None:
    pace, now_s, passed_s = Pace(4.0, 2.0, 0.0), 0.0, 0.0
    for audio_s, pause_s in steps:
        now_s += pause_s
        assert passed_s <= 2.0 + 4.0 * now_s + 1e-6, "what was taken before waiting was due"
        passed_s += audio_s
        now_s += pace.wait_s(audio_s, now_s)


def test_live_audio_never_waits() -> None:
    pace = Pace(1.0, 2.0, 0.0)
    assert all(pace.wait_s(0.02, 0.02 * number) == 0 for number in range(1000))


def test_when_audio_arrived() -> None:
    timeline = Timeline(span_s=1.0, step_s=0.09)
    assert timeline.when(0.0) is None
    for number in range(1, 8):
        timeline.note(number / 10, 100 + number)
    assert timeline.when(0.25) == 103
    assert timeline.when(0.3) == 103
    assert timeline.when(0.75) is None, "it is not there yet"
    for number in range(8, 30):
        timeline.note(number / 10, 100 + number)
    assert timeline.when(0.3) is None, "forgotten"
    assert timeline.when(2.85) == 129


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_sessions": 0}, "max_sessions is 0; it must be at least 1"),
        ({"max_speed": 0.5}, "below 1, live audio could not be followed"),
        ({"idle_timeout_s": 0}, "idle_timeout_s is 0; it must be above 0"),
        ({"idle_timeout_s": float("nan")}, "above 0"),
        ({"resume_window_s": -1}, "resume_window_s is -1; it cannot be negative"),
        ({"allow_origins": ("example.org",)}, "'example.org' is no origin; accepted are SCHEME://HOST"),
        ({"allow_origins": ("https://example.org/page",)}, "is no origin"),
        ({"tokens": ("",)}, "a token is empty"),
        ({"tokens": ("good", "schlüssel")}, "characters that no header can carry"),
        ({"tokens": ("one\ntwo",)}, "characters that no header can carry"),
        ({"tokens": ("space ",)}, "characters that no header can carry"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ServerSettings(**wrong)  # type: ignore[arg-type]
