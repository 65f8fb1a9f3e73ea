"""Word error rates and window sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from accuracy import Measurements, add_pink_noise, make_tables, score_speakers
from corpus import Utterance
from scoring import Score, normalize, score
from window_grid import WindowSizes, grid_tables, parse_grid, parse_list, plot_grid


def test_word_error_rate_is_micro_averaged() -> None:
    result = score(["It's one, two", "three"], ["its ONE", "three four"])
    assert (result.substitutions, result.insertions, result.deletions, result.words) == (1, 1, 1, 4)
    assert result.wer == 75.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Titian, Holbein, Turner, and Tintarett,", "TITIAN HOLBEIN TURNER AND TINTARETT"),
        ("A well-known—indeed, famous—man.", "A WELL KNOWN INDEED FAMOUS MAN"),
        ("It’s 1990.", "IT'S 1990"),
        ("He said, ‘I can’t,’ and “No!”", "HE SAID I CAN'T AND NO"),
        ("'Tis the dogs' home", "TIS THE DOGS HOME"),
        ("The naïve café…", "THE NAIVE CAFE"),
        ("—", ""),
    ],
)
def test_punctuation_case_and_accents_do_not_count(text: str, expected: str) -> None:
    assert normalize(text) == expected
    assert normalize(expected) == expected


def test_table_has_penalty_and_number_of_identical_transcripts() -> None:
    measurements = Measurements()
    for path, wer, texts in (("whole recording", 10.0, ["a"]), ("transcribe", 12.5, ["b"]), ("live", 12.5, ["b"])):
        measurements.scores[path] = Score(wer, 1, 0, 0, 8)
        measurements.rtfs[path] = 0.1
        measurements.texts[path] = texts
    (table,) = make_tables("a title", measurements, {}, 1)
    assert table.rows[-2:] == [
        ("streaming penalty", "+2.50 points"),
        ("live identical to transcribe", "1 of 1"),
    ]


def test_speakers_are_scored_separately() -> None:
    utterances = [Utterance(Path("a"), "one", "a b"), Utterance(Path("b"), "two", "a b")]
    assert score_speakers(utterances, {"live": ["a b", "a"]}) == {"one": {"live": 0.0}, "two": {"live": 50.0}}


def test_added_noise_has_the_given_ratio_and_is_reproducible() -> None:
    samples = np.sin(np.arange(16_000, dtype=np.float32))
    noise = add_pink_noise(samples, 10, seed=1) - samples
    assert 10 * np.log10(np.square(samples).mean() / np.square(noise).mean()) == pytest.approx(10, abs=0.01)
    assert np.array_equal(noise, add_pink_noise(samples, 10, seed=1) - samples)


def test_grid_is_every_combination() -> None:
    assert parse_grid("2 4, 1.6, 0.4 0.8") == [
        WindowSizes(2, 1.6, 0.4),
        WindowSizes(2, 1.6, 0.8),
        WindowSizes(4, 1.6, 0.4),
        WindowSizes(4, 1.6, 0.8),
    ]


def test_list_is_parsed_in_order() -> None:
    assert parse_list("4 1.6 0.8, 2 1.6 0.4") == [WindowSizes(4, 1.6, 0.8), WindowSizes(2, 1.6, 0.4)]


def test_window_sizes_are_converted_to_milliseconds() -> None:
    windows = WindowSizes(8, 3.2, 1.6).config().windows
    assert windows is not None
    assert (windows.left_context_ms, windows.commit_ms, windows.right_context_ms) == (8000, 3200, 1600)


@pytest.mark.parametrize(
    ("parse", "text"),
    [(parse_grid, "1 2, 3"), (parse_grid, "1, , 2"), (parse_list, "1 2 3, 4 5"), (parse_grid, "a,b,c")],
)
def test_malformed_window_sizes_are_rejected(parse: Callable[[str], list[WindowSizes]], text: str) -> None:
    with pytest.raises(ValueError, match=r"needed|needs|convert"):
        parse(text)


def test_grid_has_a_table_for_each_left_context_and_a_plot(tmp_path: Path) -> None:
    wers = {sizes: 10.0 + index for index, sizes in enumerate(parse_grid("2 4, 1.6, 0.4 0.8"))}
    first, second = grid_tables(wers)
    assert first.title == "WER with a left context of 2 s"
    assert first.columns == ("", "right context 0.4 s", "right context 0.8 s")
    assert first.rows == [("commit 1.6 s", "10.00 %", "11.00 %")]
    assert second.rows == [("commit 1.6 s", "12.00 %", "13.00 %")]
    plot_grid(tmp_path / "map.svg", "a title", wers)
    assert (tmp_path / "map.svg").stat().st_size > 1000
