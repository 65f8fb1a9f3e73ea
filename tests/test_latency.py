from __future__ import annotations

from dataclasses import replace

import pytest

from stream_asr.events import Event, Final, Partial, SpeechStarted, Word
from stream_asr.latency import Arrival, measure, merge_reports, percentile


def partial(text: str, stable: str = "") -> Partial:
    return Partial(0, 0.0, 0.0, stable, text)


def final(*words: tuple[str, float], end: float) -> Final:
    made = tuple(Word(word, at - 0.2, at, 1.0) for word, at in words)
    return Final(0, 0.0, end, " ".join(word for word, _ in words), 1.0, made)


def arrivals(*pairs: tuple[float, Event]) -> list[Arrival]:
    return [Arrival(at_s, event) for at_s, event in pairs]


def spoken(*words: tuple[str, float]) -> list[Word]:
    return [Word(word, at - 0.2, at, 1.0) for word, at in words]


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
    assert report.normalized_erasure == pytest.approx(1 / 2)


def test_words_count_where_they_end_up() -> None:
    report = measure(
        arrivals(
            (1.0, partial("not ask")),
            (2.0, final(("ask", 0.5), ("not", 0.8), end=1.5)),
        )
    )
    assert len(report.word_first_ms) == 2
    assert report.upwr == 1 / 2, "one of the words only moved"
    assert report.normalized_erasure == 1.0, "both had to be erased"


def test_words_that_were_there_to_the_end_count_as_erased_behind_a_change() -> None:
    report = measure(
        arrivals(
            (1.0, partial("a sk not what")),
            (1.5, partial("ask not what")),
            (2.0, final(("ask", 0.5), ("not", 0.8), ("what", 1.2), ("your", 1.4), end=1.5)),
        )
    )
    assert report.upwr == pytest.approx(2 / 4)
    assert report.normalized_erasure == pytest.approx(4 / 4)


def test_an_utterance_without_its_final_does_not_count() -> None:
    report = measure(arrivals((1.0, partial("ask"))))
    assert (report.words, report.final_ms, report.upwr) == (0, (), 0.0)


def test_an_utterance_without_words_counts_for_the_final_only() -> None:
    report = measure(arrivals((1.0, partial("uh")), (2.0, final(end=1.9))))
    assert report.word_first_ms == ()
    assert report.final_ms == pytest.approx([100])


def test_word_times_of_others_take_the_place_of_the_finals_own() -> None:
    run = arrivals(
        (1.3, partial("Ask", stable="Ask")),
        (2.0, Final(0, 0.0, float("nan"), "Ask, not", 1.0, ())),
        (4.0, replace(final(("watt", 3.0), ("your", 3.5), end=3.6), utterance=1)),
    )
    report = measure(run, spoken(("ask", 1.0), ("not", 1.5), ("what", 2.9), ("your", 3.4)))
    assert report.words == 4
    assert report.word_first_ms == pytest.approx([300, 500, 600]), "ask, not and your; watt is nowhere in them"
    assert report.first_partial_ms == pytest.approx([300])
    assert report.final_ms == pytest.approx([400]), "the first final does not say when it was decided on"
    assert report.end_of_speech_ms == pytest.approx([500, 600])


def test_reports_are_merged_by_words() -> None:
    one = measure(arrivals((1.0, partial("uh")), (2.0, final(("ask", 1.0), end=1.5))))
    three = measure(arrivals((5.0, final(("a", 1.0), ("b", 2.0), ("c", 3.0), end=4.0))))
    both = merge_reports([one, three])
    assert both.words == 4
    assert both.word_first_ms == pytest.approx([1000, 2000, 3000, 4000])
    assert (both.upwr, both.normalized_erasure) == (1 / 4, 1 / 4)
    assert merge_reports([]).upwr == 0.0


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (95, 4), (100, 4), (1, 1), (25, 1), (26, 2)])
def test_percentiles_are_values_that_occurred(percent: float, expected: int) -> None:
    assert percentile([1, 2, 3, 4], percent) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([], 50) is None
