from __future__ import annotations

import pytest

from stream_asr.events import Event, Final, Partial, SpeechStarted, Word
from stream_asr.latency import Arrival, measure, percentile


def partial(text: str, stable: str = "") -> Partial:
    return Partial(0, 0.0, 0.0, stable, text)


def final(*words: tuple[str, float], end: float) -> Final:
    made = tuple(Word(word, at - 0.2, at, 1.0) for word, at in words)
    return Final(0, 0.0, end, " ".join(word for word, _ in words), 1.0, made)


def arrivals(*pairs: tuple[float, Event]) -> list[Arrival]:
    return [Arrival(at_s, event) for at_s, event in pairs]


def test_a_run_by_hand() -> None:
    report = measure(
        arrivals(
            (0.5, SpeechStarted(0, 0.0)),
            (1.1, partial("ass")),
            (1.4, partial("ask")),
            (1.7, partial("ask not", stable="ask")),
            (2.6, final(("ask", 1.0), ("not", 1.5), end=2.5)),
        )
    )
    assert report.words == 2
    assert report.first_partial_ms == pytest.approx([100])
    assert report.word_first_ms == pytest.approx([200, 400])
    assert report.word_stable_ms == pytest.approx([700, 1100])
    assert report.final_ms == pytest.approx([100])
    assert report.end_of_speech_ms == pytest.approx([1100])
    assert report.upwr == pytest.approx(1 / 2), "one word was revised, two are final"


def test_words_count_where_they_end_up() -> None:
    report = measure(
        arrivals(
            (1.0, partial("not ask")),
            (2.0, final(("ask", 0.5), ("not", 0.8), end=1.5)),
        )
    )
    assert len(report.word_first_ms) == 2
    assert report.upwr == 1.0


def test_an_utterance_without_its_final_does_not_count() -> None:
    report = measure(arrivals((1.0, partial("ask"))))
    assert (report.words, report.final_ms, report.upwr) == (0, (), 0.0)


def test_an_utterance_without_words_counts_for_the_final_only() -> None:
    report = measure(arrivals((1.0, partial("uh")), (2.0, final(end=1.9))))
    assert report.word_first_ms == ()
    assert report.final_ms == pytest.approx([100])


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (95, 4), (100, 4), (1, 1), (25, 1), (26, 2)])
def test_percentiles_are_values_that_occurred(percent: float, expected: int) -> None:
    assert percentile([1, 2, 3, 4], percent) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([], 50) is None
