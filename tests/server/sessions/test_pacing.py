"""Rate limiter and arrival times, without a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_asr.server.sessions.pacing import ArrivalTimes, RateLimiter


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
