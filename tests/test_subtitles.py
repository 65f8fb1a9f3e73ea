from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from stream_asr.events import Final, Word
from stream_asr.subtitles import (
    LINE_CHARACTERS,
    LINES,
    LONGEST_CUE_S,
    Cue,
    CueCutter,
    SubtitleWriter,
    cues,
    srt,
    vtt,
)


def final(text: str, start: float = 0.0, word_s: float = 0.3, gap_s: float = 0.05) -> Final:
    words, at = [], start
    for word in text.split():
        words.append(Word(word, at, at + word_s, 0.9))
        at += word_s + gap_s
    return Final(0, start, at, text, 0.9, tuple(words))


def lines(*finals: Final) -> list[tuple[str, ...]]:
    return [cue.lines for cue in cues(finals)]


@st.composite
def transcripts(draw: st.DrawFn) -> list[Final]:
    finals, at = [], 0.0
    for _ in range(draw(st.integers(0, 5))):
        words = draw(st.lists(st.text("abcdefgh'", min_size=1, max_size=60), max_size=25))
        made = final(" ".join(words), at, draw(st.floats(0.05, 1.5)), draw(st.floats(0.0, 0.5)))
        finals.append(made)
        at = made.end + draw(st.floats(0.0, 4.0))
    return finals


@given(transcripts())
def test_every_word_is_shown_once_in_order_within_the_limits(finals: list[Final]) -> None:
    made = cues(finals)
    shown = "".join("".join(cue.lines) for cue in made).replace(" ", "")
    assert shown == "".join(final.text for final in finals).replace(" ", "")
    for cue in made:
        assert 1 <= len(cue.lines) <= LINES
        assert all(0 < len(line) <= LINE_CHARACTERS for line in cue.lines)
        assert cue.start <= cue.end
    for before, after in itertools.pairwise(made):
        assert before.end <= after.start


def test_a_short_sentence_is_one_line() -> None:
    assert lines(final("ask not what your country can do")) == [("ask not what your country can do",)]


def test_two_lines_are_about_even() -> None:
    ((first, second),) = lines(final("ask not what your country can do for you ask what you can do", word_s=0.2))
    assert abs(len(first) - len(second)) <= 6


def test_a_lonely_short_word_joins_its_neighbour() -> None:
    assert lines(final("yes", 0.0), final("i think so too", 1.0)) == [("yes i think so too",)]
    long = " ".join(["abcde"] * 14)  # 83 characters: one more word does not fit
    made = lines(final(f"{long} so", word_s=0.2))
    assert min(len(cue[0].split()) for cue in made) > 1


def test_a_lonely_word_far_from_the_others_stays_alone() -> None:
    assert lines(final("yes", 0.0), final("i think so", 10.0)) == [("yes",), ("i think so",)]


def test_breaks_fall_into_pauses() -> None:
    words = " ".join(["abcde"] * 8)
    made = lines(final(words, 0.0, 0.2), final(words, 4.0, 0.2))
    assert [" ".join(cue) for cue in made] == [words, words]


def test_no_cue_stays_longer_than_can_be_read() -> None:
    for cue in cues([final(" ".join(["word"] * 40), word_s=0.9)]):
        assert cue.end - cue.start <= LONGEST_CUE_S


def test_a_short_cue_lingers_but_not_into_the_next() -> None:
    first, second = cues([final("yes", 0.0), final("i think so", 2.6)])
    assert first.end == 1.0
    assert second.start == 2.6


def test_srt_and_vtt_to_the_letter() -> None:
    finals = [final("rock & roll", 1.0, 0.5, 0.0), final("<b> for you", 3661.5, 0.5, 0.0)]
    assert srt(finals) == (
        "1\n00:00:01,000 --> 00:00:02,500\nrock & roll\n\n2\n01:01:01,500 --> 01:01:03,000\n<b> for you\n"
    )
    assert vtt(finals) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nrock &amp; roll\n\n01:01:01.500 --> 01:01:03.000\n&lt;b&gt; for you\n"
    )


def test_a_subtitle_is_written_as_soon_as_it_is_certain() -> None:
    writer = SubtitleWriter("srt")
    assert writer.add(final("yes", 0.0)) == "", "what follows may join it"
    assert writer.add(final("i think so", 0.9)) == ""
    piece = writer.add(final("and you", 10.0))
    assert piece == "1\n00:00:00,000 --> 00:00:01,900\nyes i think so\n"
    assert writer.finish() == "\n2\n00:00:10,000 --> 00:00:11,000\nand you\n"


@given(transcripts())
def test_what_is_written_piece_by_piece_is_a_whole_file_each_time(finals: list[Final]) -> None:
    writer = SubtitleWriter("vtt")
    written = writer.begin()
    for made in finals:
        written += writer.add(made)
        assert vtt(finals).startswith(written)
        assert written.endswith("\n")
        assert not written.endswith("\n\n")
    assert written + writer.finish() == vtt(finals)


def test_who_never_pauses_is_not_held_back_for_ever() -> None:
    cutter = CueCutter()
    held = 0
    made: list[Cue] = []
    for number in range(200):
        more = cutter.add(final("some words of a sentence", 2.0 * number))
        held = 0 if more else held + 1
        assert held < 40, "a minute, and what was said until its end"
        made += more
    made += cutter.finish()
    assert " ".join(line for cue in made for line in cue.lines) == " ".join(["some words of a sentence"] * 200)
    assert all(before.end <= after.start for before, after in itertools.pairwise(made))


def test_nothing_said_is_an_empty_file() -> None:
    assert srt([]) == ""
    assert vtt([]) == "WEBVTT\n"
