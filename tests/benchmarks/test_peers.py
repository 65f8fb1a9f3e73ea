"""Comparing recognizers: what captions are worth, the process of each, and what happens without them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import peers
import pytest
import soundfile
from corpus import BUNDLED, Placed, Programme, Utterance, assembled, read_corpus
from recognizers.child import SAMPLE_RATE, Microphone
from recognizers.driving import Line, PeerError, drive
from recognizers.roster import PEERS, WAYS, Way, interpreter
from recognizers.spoken import Spoken, aligned, by_ctm, by_model, recordings, stream
from recognizers.timing import captions, match, measure

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.training.alphabet import Alphabet

FAKE = '''
"""Writes down how many blocks it heard."""

import os

assert os.environ["HF_HUB_OFFLINE"] == "1"


class Fake:
    packages = ("numpy",)

    def __init__(self, word):
        self.word = word

    def transcribe(self, samples):
        print("a library that talks")
        return f"{self.word} {len(samples)}"

    def listen(self, microphone, say):
        while len(block := microphone.read(1600)):
            say(partial=self.word)
        say(final=self.word, partial="and more")


def load(live, threads, word):
    assert threads == 1
    return Fake(word)
'''


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that recognizes nothing."""
    (tmp_path / "fake_peer.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "fake_peer"


def spoken(*words: tuple[str, float, float]) -> tuple[Spoken, ...]:
    return tuple(Spoken(*word) for word in words)


def partial(at_s: float, text: str) -> Line:
    return Line(at_s, False, text)


def final(at_s: float, text: str) -> Line:
    return Line(at_s, True, text)


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_microphone_gives_what_was_said_and_no_more() -> None:
    clock = Clock()
    microphone = Microphone(np.arange(SAMPLE_RATE, dtype=np.float32), clock, clock.sleep)
    assert len(microphone.read(320)) == 320
    assert microphone.now_s == pytest.approx(0.02)
    clock.sleep(0.5)
    late = microphone.read(320)
    assert late[0] == 320
    assert len(late) == pytest.approx(8000, abs=1), "all that was missed"
    rest = microphone.read(SAMPLE_RATE)
    assert rest[-1] == SAMPLE_RATE - 1
    assert microphone.now_s == pytest.approx(1.0)
    assert len(microphone.read(1)) == 0


def test_a_stream_by_hand() -> None:
    said = spoken(("ASK", 0.8, 1.0), ("NOT", 1.2, 1.5), ("WHY", 3.0, 3.2))
    timing = measure(
        said,
        [
            partial(1.1, "ass"),
            partial(1.4, "Ask"),
            partial(1.7, "ask not,"),
            final(2.6, "Ask not."),
            partial(3.3, "why"),
            final(4.0, "Why?"),
        ],
    )
    assert timing.wer == 0
    assert timing.word_first_ms == pytest.approx([100, 200, 400])
    assert timing.final_ms == pytest.approx([800, 1100])
    assert timing.upwr == pytest.approx(1 / 3), "one word was revised, three are final"
    assert timing.text == "ASK NOT WHY"


def test_words_that_become_final_one_by_one_are_not_revised() -> None:
    said = spoken(("A", 0.0, 0.1), ("B", 0.2, 0.3), ("C", 0.4, 0.5))
    timing = measure(said, [partial(0.6, "a b c"), final(0.9, "a"), partial(0.9, "b c"), final(1.2, "b c")])
    assert timing.upwr == 0
    assert timing.word_first_ms == pytest.approx([100, 300, 500]), "all three were first seen at 0.6 s"
    assert timing.final_ms == pytest.approx([700])


def test_a_word_is_not_seen_before_it_is_said() -> None:
    said = spoken(("THE", 0.0, 0.2), ("CAT", 0.3, 0.5), ("THE", 2.0, 2.2))
    timing = measure(said, [partial(0.4, "the"), partial(0.7, "the cat the"), final(2.5, "the cat the")])
    assert timing.word_first_ms == pytest.approx([200, 200, 300])


def test_only_words_that_are_right_have_a_latency() -> None:
    said = spoken(("ASK", 0.0, 0.2), ("NOT", 0.3, 0.5))
    timing = measure(said, [final(1.0, "ask knot please")])
    assert timing.wer == pytest.approx(100), "a substitution and an insertion"
    assert timing.word_first_ms == pytest.approx([800])
    assert timing.final_ms == pytest.approx([500]), "the last word heard of it, be it wrong"


def test_a_recognizer_that_hears_nothing() -> None:
    timing = measure(spoken(("ASK", 0.0, 0.2)), [partial(0.5, "as"), final(1.0, "")])
    assert (timing.wer, timing.word_first_ms, timing.final_ms, timing.upwr) == (100, (), (), 0)


def test_lines_of_one_moment_are_one_caption() -> None:
    finals, shown = captions([partial(1, "a b"), final(2, "a"), partial(2, "b"), final(3, "b")])
    assert finals == ["A", "B"]
    assert [(caption.settled, caption.rest) for caption in shown] == [(0, ("A", "B")), (1, ("B",)), (2, ())]


def test_matching_counts_what_is_missing() -> None:
    matched = match(["A", "B", "C"], ["A", "C"])
    assert (matched.errors, matched.heard, matched.right) == (1, (0, None, 1), (0, 2))


def test_the_words_of_a_stream_are_those_of_its_recordings() -> None:
    sound = np.ones(SAMPLE_RATE, dtype=np.float32)
    utterance = Utterance(Path("a.flac"), "", "a")
    programme = Programme(np.zeros(40_000, np.float32), tuple(Placed(utterance, sound, at_s) for at_s in (0.0, 2.0)))
    parts = recordings(programme, lambda utterance, samples: spoken((utterance.text.upper(), 0.1, len(samples) / 32e3)))
    assert [part.text for part in parts] == ["A", "A"]
    whole = stream(programme, parts)
    assert whole.words == spoken(("A", 0.1, 0.5), ("A", pytest.approx(2.1), 2.5))
    assert whole.samples is programme.samples


class Speller:
    """A model that is sure of an output in each frame."""

    name = "speller"
    frame_samples = 1600
    labels = Labels(("", " a", "b", " c"), 0)

    def __init__(self, *best: int) -> None:
        self._best = best

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        assert [len(window) for window in windows] == [1600 * len(self._best)]
        return [np.where(np.eye(4, dtype=bool)[list(self._best)], -0.01, -9.0).astype(np.float32)]


@pytest.mark.parametrize(
    ("text", "expected"), [("AB C", (("AB", 0.1, 0.3), ("C", 0.4, 0.5))), ("", ()), ("AB AB AB AB", None)]
)
def test_words_are_where_their_pieces_are(text: str, expected: tuple[tuple[str, float, float], ...] | None) -> None:
    model = Speller(0, 1, 2, 0, 3, 3)
    pieces = {"a": 1, "b": 2, "c": 3}
    alphabet = Alphabet(model.labels, lambda spelt: [pieces[letter] for letter in spelt if letter != " "])
    words = aligned(model, alphabet, np.zeros(9000, dtype=np.float32), text)
    if expected is None:
        assert words is None
        return
    assert words is not None
    for word, (spelt, start_s, end_s) in zip(words, expected, strict=True):
        assert (word.word, word.start_s, word.end_s) == (spelt, pytest.approx(start_s), pytest.approx(end_s))


def test_times_from_the_embedded_model() -> None:
    (recording,) = read_corpus(BUNDLED)
    samples = recording.samples()[: int(1.2 * SAMPLE_RATE)]
    times = by_model()
    good, morning = times(replace(recording, text="Good morning."), samples)
    assert (good.word, morning.word) == ("GOOD", "MORNING")
    assert 0 <= good.start_s < good.end_s <= morning.start_s < morning.end_s <= 1.2
    with pytest.raises(SystemExit, match="too short for its text"):
        times(recording, samples)


def test_times_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.ctm"
    path.write_text(";; a comment\ntalk 1 0.50 0.25 not\ntalk 1 0.10 0.20 Ask, 0.9\nother 1 0 1 else\n")
    times = by_ctm(path)
    samples = np.zeros(16, dtype=np.float32)
    assert times(Utterance(Path("a/talk.flac"), "", "ask not"), samples) == spoken(
        ("ASK", 0.1, pytest.approx(0.3)), ("NOT", 0.5, 0.75)
    )
    with pytest.raises(SystemExit, match="words of talk"):
        times(Utterance(Path("a/talk.flac"), "", "ask"), samples)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings of a fifth of a second, each with a word."""
    lines = ["path\ttext"]
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(3200), SAMPLE_RATE)
        lines.append(f"{name}.wav\t{name}")
    (tmp_path / "manifest.tsv").write_text("\n".join(lines))
    (tmp_path / "words.ctm").write_text("one 1 0.0 0.1 one\ntwo 1 0.0 0.1 two\n")
    return tmp_path


def test_recordings_are_drawn_until_there_is_enough(folder: Path) -> None:
    both = peers.read_corpus(folder)
    assert len(assembled(both, 0.5, seed=1, again=False).places) == 1
    assert sorted(place.name for place in assembled(both, 60, seed=1, again=False).places) == ["one", "two"]


def test_files_go_to_a_process_one_by_one(fake: str) -> None:
    way = Way("fake", "fake", fake, False, {"word": "heard"})
    recordings = [np.zeros(length, dtype=np.float32) for length in (3200, 1600)]
    outcome = drive(Path(sys.executable), way, recordings, threads=1)
    assert [(line.final, line.text) for line in outcome.lines] == [(True, "heard 3200"), (True, "heard 1600")]
    assert outcome.audio_s == pytest.approx(0.3)
    assert outcome.versions["numpy"] == np.__version__
    assert outcome.peak_mib > 1


def test_a_stream_is_heard_in_real_time(fake: str) -> None:
    way = Way("fake", "fake", fake, True, {"word": "heard"})
    outcome = drive(Path(sys.executable), way, [np.zeros(4800, dtype=np.float32)], threads=1)
    *partials, last, rest = outcome.lines
    assert (last.final, last.text, rest.text) == (True, "heard", "and more")
    assert last.at_s == rest.at_s, "one change of what is shown"
    assert last.at_s >= 0.3, "nothing ends before its audio does"
    assert partials[0].at_s >= 0.1
    assert not any(line.final for line in partials)


def test_a_process_that_fails_says_why(fake: str) -> None:
    way = Way("fake", "fake", fake, False, {"no such option": 1})
    with pytest.raises(PeerError, match="no such option"):
        drive(Path(sys.executable), way, [np.zeros(10_000_000, dtype=np.float32)], threads=1)


def test_every_way_has_a_peer_and_an_adapter() -> None:
    for way in WAYS:
        assert way.peer in PEERS
        assert (peers.ENVIRONMENTS.parent / "benchmarks" / (way.module.replace(".", "/") + ".py")).is_file()
    assert len({(way.name, way.live) for way in WAYS}) == len(WAYS)


def test_an_environment_counts_when_it_is_as_pinned(tmp_path: Path) -> None:
    assert interpreter("stream_asr", tmp_path) == Path(sys.executable)
    assert interpreter("moonshine", tmp_path) is None
    (tmp_path / "moonshine").mkdir()
    (tmp_path / "moonshine" / "installed.txt").write_text("moonshine-voice==0.0.1\n")
    assert interpreter("moonshine", tmp_path) is None
    (tmp_path / "moonshine" / "installed.txt").write_text(PEERS["moonshine"].pins)
    found = interpreter("moonshine", tmp_path)
    assert found is not None
    assert found.is_relative_to(tmp_path / "moonshine")


def test_what_is_not_installed_is_left_out_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", str(folder), "--words", str(folder / "words.ctm"), "--json", str(folder / "peers.json")]
    status = peers.compare([*options, "--peers", "moonshine, pocketsphinx", "--environments", str(folder / "none")])
    assert status == 0
    told = capsys.readouterr().err
    assert f"moonshine is not installed (python benchmarks/peers.py setup moonshine --environments {folder}" in told
    written = json.loads((folder / "peers.json").read_text())
    assert written["settings"]["left_out"] == ["moonshine", "pocketsphinx"]
    assert written["results"] == []


def test_a_comparison(
    folder: Path, fake: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = (
        Way("hears", "stream_asr", fake, True, {"word": "one two"}),
        Way("reads", "stream_asr", fake, False, {"word": "one"}),
        Way("fails", "stream_asr", fake, False),
    )
    monkeypatch.setattr(peers, "WAYS", ways)
    outputs = ["--json", str(folder / "out.json"), "--plot", str(folder / "out.svg")]
    options = ["--data", str(folder), "--words", str(folder / "words.ctm"), "--threads", "1", "--peers", "stream_asr"]
    assert peers.compare([*options, *outputs]) == 1, "one of them failed"
    shown = capsys.readouterr()
    assert "hears" in shown.out
    assert "fails failed with status 1" in shown.err
    live, files = json.loads((folder / "out.json").read_text())["results"]
    assert (live["name"], live["words"], live["word_first_ms"]["count"]) == ("hears", 2, 2)
    assert (files["wer_percent"], sorted(files["texts"])) == (50, ["ONE", "ONE"])
    assert "hears" in (folder / "out.svg").read_text()


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        peers.compare(["--peers", "kaldi"])
    assert "no peer kaldi" in capsys.readouterr().err
