"""Latency reports, calculated by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_asr.events import Event, Final, Partial, SpeechStarted, Word
from stream_asr.latency import Arrival, measure, merge_reports, percentile


def partial(text: str, stable: str = "") -> Partial:
    return Partial(0, 0.0, 0.0, stable, text)


def final(*words: tuple[str, float], end: float) -> Final:
    """Return a final with words and their ends in seconds."""
    return Final(0, 0.0, end, " ".join(word for word, _ in words), 1.0, tuple(make_words(*words)))


def arrivals(*pairs: tuple[float, Event]) -> list[Arrival]:
    """Return events with their arrival times in seconds."""
    return [Arrival(at_s, event) for at_s, event in pairs]


def make_words(*words: tuple[str, float]) -> list[Word]:
    """Return words with their ends in seconds."""
    return [Word(word, end - 0.2, end, 1.0) for word, end in words]


def test_all_measures_of_a_short_run() -> None:
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
    assert report.upwr == pytest.approx(1 / 2), "one word was revised; the final has two"
    assert report.normalized_erasure == pytest.approx(1 / 2)


@pytest.mark.parametrize("reference", [None, make_words(("ASK", 1.0), ("NOT", 1.5))])
def test_case_and_punctuation_do_not_count(reference: list[Word] | None) -> None:
    report = measure(
        arrivals(
            (1.4, partial("ask")),
            (1.7, partial("Ask — not", stable="Ask —")),
            (2.6, final(("“Ask,", 1.0), ("—", 1.0), ("not.”", 1.5), end=2.5)),
        ),
        reference,
    )
    assert report.words == 2
    assert report.word_first_ms == pytest.approx([200, 400])
    assert report.word_stable_ms == pytest.approx([700, 1100])
    assert (report.upwr, report.normalized_erasure) == (0.0, 0.0)


def test_word_counts_as_shown_in_its_final_place() -> None:
    report = measure(
        arrivals(
            (1.0, partial("not ask")),
            (2.0, final(("ask", 0.5), ("not", 0.8), end=1.5)),
        )
    )
    assert len(report.word_first_ms) == 2
    assert report.upwr == 1 / 2, "a word that only moved was not revised"
    assert report.normalized_erasure == 1.0, "a word that moved was erased"


def test_unchanged_words_after_a_change_count_as_erased() -> None:
    report = measure(
        arrivals(
            (1.0, partial("a sk not what")),
            (1.5, partial("ask not what")),
            (2.0, final(("ask", 0.5), ("not", 0.8), ("what", 1.2), ("your", 1.4), end=1.5)),
        )
    )
    assert report.upwr == pytest.approx(2 / 4)
    assert report.normalized_erasure == pytest.approx(4 / 4)


def test_utterance_without_a_final_is_ignored() -> None:
    report = measure(arrivals((1.0, partial("ask"))))
    assert (report.words, report.final_ms, report.upwr) == (0, (), 0.0)


def test_utterance_without_words_has_only_a_final_latency() -> None:
    report = measure(arrivals((1.0, partial("uh")), (2.0, final(end=1.9))))
    assert report.word_first_ms == ()
    assert report.final_ms == pytest.approx([100])


def test_reference_words_replace_the_word_times_of_the_finals() -> None:
    run = arrivals(
        (1.3, partial("Ask", stable="Ask")),
        (2.0, Final(0, 0.0, float("nan"), "Ask, not", 1.0, ())),
        (4.0, replace(final(("watt", 3.0), ("your", 3.5), end=3.6), utterance=1)),
    )
    report = measure(run, make_words(("ask", 1.0), ("not", 1.5), ("what", 2.9), ("your", 3.4)))
    assert report.words == 4
    assert report.word_first_ms == pytest.approx([300, 500, 600]), (
        "ask, not and your; watt does not match a word of the reference"
    )
    assert report.first_partial_ms == pytest.approx([300])
    assert report.final_ms == pytest.approx([400]), "the end of the first final is unknown"
    assert report.end_of_speech_ms == pytest.approx([500, 600])


def test_merged_ratios_are_weighted_by_words() -> None:
    one = measure(arrivals((1.0, partial("uh")), (2.0, final(("ask", 1.0), end=1.5))))
    three = measure(arrivals((5.0, final(("a", 1.0), ("b", 2.0), ("c", 3.0), end=4.0))))
    both = merge_reports([one, three])
    assert both.words == 4
    assert both.word_first_ms == pytest.approx([1000, 2000, 3000, 4000])
    assert (both.upwr, both.normalized_erasure) == (1 / 4, 1 / 4)
    assert merge_reports([]).upwr == 0.0


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (95, 4), (100, 4), (1, 1), (25, 1), (26, 2)])
def test_percentile_is_the_nearest_rank(percent: float, expected: int) -> None:
    assert percentile([1, 2, 3, 4], percent) == expected


def test_percentile_of_no_values_is_none() -> None:
    assert percentile([], 50) is None
