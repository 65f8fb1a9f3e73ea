"""Single modules of the page, in Chromium and without a session."""

from __future__ import annotations

import re
from dataclasses import asdict
from random import Random

from stream_asr.config import SubtitleConfig
from stream_asr.events import Final, Word
from stream_asr.subtitles import format_srt, format_vtt
from tests.support.browser import OpenTab
from tests.support.subtitles import read_subtitle_cases

IMPORT_SUBTITLES = 'const { CONFIG, srt, vtt } = await import("/static/subtitles.js");'


def test_subtitles_are_those_of_the_cases_shared_with_python(open_tab: OpenTab) -> None:
    cases = read_subtitle_cases()
    files = open_tab().page.evaluate(
        f"async (cases) => {{ {IMPORT_SUBTITLES} return cases.map(({{ finals }}) => [srt(finals), vtt(finals)]); }}",
        cases,
    )
    for case, (srt, vtt) in zip(cases, files, strict=True):
        assert srt == "\n".join(case["srt"]), case["name"]
        assert vtt == format_vtt([Final.from_json(final) for final in case["finals"]]), case["name"]


def test_subtitles_of_any_words_are_those_of_python(open_tab: OpenTab) -> None:
    transcripts = [make_transcript(Random(seed)) for seed in range(100)]
    files = open_tab().page.evaluate(
        f"async (transcripts) => {{ {IMPORT_SUBTITLES} return transcripts.map(srt); }}",
        [[final.to_json() for final in finals] for finals in transcripts],
    )
    assert files == [format_srt(finals) for finals in transcripts]


def make_transcript(random: Random) -> list[Final]:
    """Return finals with words, punctuation, pauses and lengths of all kinds."""
    vocabulary = ["a", "I", "Titian,", "Mr.", "U.S.", "—", "and", "(yes)", "Straße!", "wait…", "x" * 50, "𝔸𝔹", "1990."]
    finals, time_s = [], 0.0
    for utterance in range(random.randint(1, 5)):
        words, start_s = [], time_s
        for _ in range(random.randint(0, 40)):
            end_s = time_s + random.choice((0.0, 0.1, 0.25, 0.7))
            words.append(Word(random.choice(vocabulary), time_s, end_s, 0.9))
            time_s = end_s + random.choice((0.0, 0.0, 0.0, 0.024, 0.024, 0.05, 0.3, 1.0))
        text = " ".join(word.word for word in words)
        finals.append(Final(utterance, start_s, time_s, text, 0.9, tuple(words)))
    return finals


def test_subtitle_settings_are_those_of_python(open_tab: OpenTab) -> None:
    settings = open_tab().page.evaluate(f"async () => {{ {IMPORT_SUBTITLES} return CONFIG; }}")
    names = {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in settings.items()}
    assert names == asdict(SubtitleConfig())


def test_caption_does_not_move_when_it_becomes_stable_and_final(open_tab: OpenTab) -> None:
    shown = open_tab(viewport={"width": 700, "height": 600}).page.evaluate("""async () => {
      const { CaptionView } = await import("/static/caption_view.js");
      const view = new CaptionView();
      const text = "“Titian, Holbein, Turner, and Tintarett,” he said; “and almost in the same terms.”";
      const shown = [];
      const record = (id) => {
        const paragraph = document.querySelector(id);
        const { top, left, width, height } = paragraph.getBoundingClientRect();
        shown.push([paragraph.innerText, top, left, width, height, getComputedStyle(paragraph).textTransform]);
      };
      for (const stable of ["", "“Titian", "“Titian,", "“Titian, Holbein, Turner,", text]) {
        view.showPartial({ start: 1, stable, text });
        record("#live p");
      }
      view.showFinal({ start: 1, text });
      record("#finals p");
      return shown;
    }""")
    assert shown[0][0].startswith("“Titian, Holbein")
    assert all(caption == shown[0] for caption in shown)
    assert shown[0][-1] == "none"


def test_times_of_a_second_session_follow_those_of_the_first(open_tab: OpenTab) -> None:
    finals = open_tab().page.evaluate("""async () => {
      const { Transcript } = await import("/static/transcript.js");
      const transcript = new Transcript();
      const final = (text) => ({ text, start: 1, end: 2, words: [{ word: text, start: 1, end: 1.5 }] });
      for (const text of ["one", "two"]) {
        transcript.startSession();
        transcript.add(final(text));
        transcript.add(final(""));
      }
      return transcript.finals;
    }""")
    assert [(final["text"], final["start"], final["words"][0]["end"]) for final in finals] == [
        ("one", 1, 1.5),
        ("two", 3, 3.5),
    ]
