"""Subtitles: cues and the files that contain them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.config import SubtitleConfig
from stream_asr.events import Final, Word
from stream_asr.subtitles import MAX_LINES, Cue, CueBuilder, SubtitleWriter, format_srt, format_vtt, make_cues
from tests.support.subtitles import read_subtitle_cases

CONFIG = SubtitleConfig()


def final(text: str, start: float = 0.0, word_s: float = 0.3, gap_s: float = 0.05) -> Final:
    """Return a final whose words have equal lengths and gaps."""
    words, word_start = [], start
    for word in text.split():
        words.append(Word(word, word_start, word_start + word_s, 0.9))
        word_start += word_s + gap_s
    return Final(0, start, word_start, text, 0.9, tuple(words))


def lines(*finals: Final) -> list[tuple[str, ...]]:
    return [cue.lines for cue in make_cues(finals)]


@st.composite
def transcripts(draw: st.DrawFn) -> list[Final]:
    finals, start = [], 0.0
    for _ in range(draw(st.integers(0, 5))):
        words = draw(st.lists(st.text("abcdefgh'.,—", min_size=1, max_size=60), max_size=25))
        finals.append(final(" ".join(words), start, draw(st.floats(0.0, 1.5)), draw(st.floats(0.0, 0.5))))
        start = finals[-1].end + draw(st.floats(0.0, 4.0))
    return finals


@given(transcripts())
def test_cues_contain_every_word_once_in_order_within_the_limits(finals: list[Final]) -> None:
    cues = make_cues(finals)
    text = "".join("".join(cue.lines) for cue in cues).replace(" ", "")
    assert text == "".join(final.text for final in finals).replace(" ", "")
    for cue in cues:
        assert 1 <= len(cue.lines) <= MAX_LINES
        assert all(0 < len(line) <= CONFIG.line_characters for line in cue.lines)
        assert cue.start_ms < cue.end_ms
    for before, after in itertools.pairwise(cues):
        assert before.end_ms <= after.start_ms


@pytest.mark.parametrize("case", read_subtitle_cases(), ids=lambda case: str(case["name"]))
def test_cues_are_those_of_the_cases_shared_with_the_page(case: dict[str, Any]) -> None:
    assert format_srt([Final.from_json(final) for final in case["finals"]]) == "\n".join(case["srt"])


@given(transcripts(), st.randoms(use_true_random=False))
def test_words_without_times_lose_no_text(finals: list[Final], random: Any) -> None:
    untimed = [
        Final(0, one.start, one.end, one.text, 0.9, tuple(random.choice((word, unknown(word))) for word in one.words))
        for one in finals
    ]
    cues = make_cues(untimed)
    assert "".join("".join(cue.lines) for cue in cues).replace(" ", "") == "".join(
        final.text for final in finals
    ).replace(" ", "")
    assert all(cue.start_ms < cue.end_ms for cue in cues)


def unknown(word: Word) -> Word:
    """Return a word without times."""
    return Word(word.word, math.nan, math.nan, word.confidence)


def test_short_sentence_is_one_line() -> None:
    assert lines(final("ask not what your country can do")) == [("ask not what your country can do",)]


def test_two_lines_have_similar_lengths() -> None:
    ((first, second),) = lines(final("ask not what your country can do for you ask what you can do", word_s=0.2))
    assert abs(len(first) - len(second)) <= 6


def test_single_short_word_joins_its_neighbor() -> None:
    assert lines(final("yes", 0.0), final("i think so too", 1.0)) == [("yes i think so too",)]
    long = " ".join(["abcde"] * 14)  # 83 characters: one more word does not fit
    assert min(len(cue[0].split()) for cue in lines(final(f"{long} so", word_s=0.2))) > 1


def test_single_word_far_from_others_is_its_own_cue() -> None:
    assert lines(final("yes", 0.0), final("i think so", 10.0)) == [("yes",), ("i think so",)]


def test_cues_break_at_pauses() -> None:
    words = " ".join(["abcde"] * 8)
    cues = lines(final(words, 0.0, 0.2), final(words, 4.0, 0.2))
    assert [" ".join(cue) for cue in cues] == [words, words]


def test_cue_duration_is_limited() -> None:
    for cue in make_cues([final(" ".join(["word"] * 40), word_s=0.9)]):
        assert cue.end_ms - cue.start_ms <= CONFIG.max_cue_ms


def test_short_cue_is_extended_up_to_the_next_cue() -> None:
    first, second = make_cues([final("yes", 0.0), final("i think so", 2.6)])
    assert first.end_ms == 1000
    assert second.start_ms == 2600


def test_srt_and_vtt_files() -> None:
    finals = [final("rock & roll", 1.0, 0.5, 0.0), final("<b> for you", 3661.5, 0.5, 0.0)]
    assert format_srt(finals) == (
        "1\n00:00:01,000 --> 00:00:02,500\nrock & roll\n\n2\n01:01:01,500 --> 01:01:03,000\n<b> for you\n"
    )
    assert format_vtt(finals) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nrock &amp; roll\n\n01:01:01.500 --> 01:01:03.000\n&lt;b&gt; for you\n"
    )


def test_cue_is_written_once_later_words_cannot_change_it() -> None:
    writer = SubtitleWriter("srt")
    assert writer.add(final("yes", 0.0)) == "", "the next words may join it"
    assert writer.add(final("i think so", 0.9)) == ""
    assert writer.add(final("and you", 10.0)) == "1\n00:00:00,000 --> 00:00:01,900\nyes i think so\n"
    assert writer.finish() == "\n2\n00:00:10,000 --> 00:00:11,000\nand you\n"


@given(transcripts())
def test_pieces_written_so_far_are_a_valid_file(finals: list[Final]) -> None:
    writer = SubtitleWriter("vtt")
    written = writer.begin()
    for utterance in finals:
        written += writer.add(utterance)
        assert format_vtt(finals).startswith(written)
        assert written.endswith("\n")
        assert not written.endswith("\n\n")
    assert written + writer.finish() == format_vtt(finals)


def test_pending_words_are_limited_without_pauses() -> None:
    builder = CueBuilder()
    pending = 0
    cues: list[Cue] = []
    for number in range(200):
        new_cues = builder.add(final("some words of a sentence", 2.0 * number))
        pending = 0 if new_cues else pending + 1
        assert pending < 40, "a minute of speech, to the end of an utterance"
        cues += new_cues
    cues += builder.finish()
    assert " ".join(line for cue in cues for line in cue.lines) == " ".join(["some words of a sentence"] * 200)
    assert all(before.end_ms <= after.start_ms for before, after in itertools.pairwise(cues))


def test_transcript_without_words_is_an_empty_file() -> None:
    assert format_srt([]) == ""
    assert format_vtt([]) == "WEBVTT\n"
