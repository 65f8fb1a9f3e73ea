"""Comparison of recognizers: their processes and environments, and the script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import corpus
import numpy as np
import peers
import pytest
import soundfile
from corpus import make_playlist, read_corpus
from recognizers.registry import PEERS, REPOSITORY, SETUPS, Setup, find_interpreter
from recognizers.runner import PeerError, run_peer
from recognizers.worker import SAMPLE_RATE, SimulatedMicrophone

FAKE_ADAPTER = '''
"""Recognizes a fixed word."""

import os

assert os.environ["HF_HUB_OFFLINE"] == "1"


class Fake:
    packages = ("numpy",)

    def __init__(self, word):
        self.word = word

    def transcribe(self, samples):
        print("output of a library")
        return f"{self.word} {len(samples)}"

    def transcribe_live(self, microphone, emit):
        while len(block := microphone.read(1600)):
            emit(partial=self.word)
        emit(final=self.word, partial="and more")


def load(live, threads, word):
    assert threads == 1
    return Fake(word)
'''


@pytest.fixture
def fake_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an adapter module that is importable in the process of a recognizer."""
    (tmp_path / "fake_adapter.py").write_text(FAKE_ADAPTER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "fake_adapter"


class FakeClock:
    """Time that advances only by sleeping."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_microphone_delivers_audio_up_to_the_current_time() -> None:
    clock = FakeClock()
    microphone = SimulatedMicrophone(np.arange(SAMPLE_RATE, dtype=np.float32), clock, clock.sleep)
    assert len(microphone.read(320)) == 320
    assert microphone.now_s == pytest.approx(0.02)
    clock.sleep(0.5)
    late = microphone.read(320)
    assert late[0] == 320
    assert len(late) == pytest.approx(8000, abs=1), "a late reader gets all that it missed"
    rest = microphone.read(SAMPLE_RATE)
    assert rest[-1] == SAMPLE_RATE - 1
    assert microphone.now_s == pytest.approx(1.0)
    assert len(microphone.read(1)) == 0


# --- processes and environments -------------------------------------------------------------------------------


def test_files_are_recognized_one_by_one(fake_adapter: str) -> None:
    setup = Setup("fake", "fake", fake_adapter, False, {"word": "word"})
    recordings = [np.zeros(length, dtype=np.float32) for length in (3200, 1600)]
    run = run_peer(Path(sys.executable), setup, recordings, threads=1)
    assert [(line.final, line.text) for line in run.lines] == [(True, "word 3200"), (True, "word 1600")]
    assert run.audio_s == pytest.approx(0.3)
    assert run.versions["numpy"] == np.__version__
    assert run.peak_mib > 1


def test_live_audio_is_delivered_in_real_time(fake_adapter: str) -> None:
    setup = Setup("fake", "fake", fake_adapter, True, {"word": "word"})
    run = run_peer(Path(sys.executable), setup, [np.zeros(4800, dtype=np.float32)], threads=1)
    *partials, last, rest = run.lines
    assert (last.final, last.text, rest.text) == (True, "word", "and more")
    assert last.at_s == rest.at_s, "one change of the caption"
    assert last.at_s >= 0.3, "not before the end of the audio"
    assert partials[0].at_s >= 0.1
    assert not any(line.final for line in partials)


def test_failed_process_raises_an_error_with_its_stderr(fake_adapter: str) -> None:
    setup = Setup("fake", "fake", fake_adapter, False, {"no such option": 1})
    with pytest.raises(PeerError, match="no such option"):
        run_peer(Path(sys.executable), setup, [np.zeros(10_000_000, dtype=np.float32)], threads=1)


def test_every_setup_has_a_peer_and_an_adapter() -> None:
    for setup in SETUPS:
        assert setup.peer in PEERS
        assert (REPOSITORY / "benchmarks" / (setup.module.replace(".", "/") + ".py")).is_file()
    assert len({(setup.name, setup.live) for setup in SETUPS}) == len(SETUPS)


def test_environment_is_used_only_with_the_current_pins(tmp_path: Path) -> None:
    assert find_interpreter("stream_asr", tmp_path) == Path(sys.executable)
    assert find_interpreter("moonshine", tmp_path) is None
    (tmp_path / "moonshine").mkdir()
    (tmp_path / "moonshine" / "installed.txt").write_text("moonshine-voice==0.0.1\n")
    assert find_interpreter("moonshine", tmp_path) is None
    (tmp_path / "moonshine" / "installed.txt").write_text(PEERS["moonshine"].pins)
    python = find_interpreter("moonshine", tmp_path)
    assert python is not None
    assert python.is_relative_to(tmp_path / "moonshine")


# --- the script -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with two recordings of 0.2 s, each with one word, and their CTM file; playlists have short pauses."""
    monkeypatch.setattr(corpus, "PAUSE_RANGE_S", (0.1, 0.2))
    lines = ["path\ttext"]
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(3200), SAMPLE_RATE)
        lines.append(f"{name}.wav\t{name}")
    (tmp_path / "manifest.tsv").write_text("\n".join(lines))
    (tmp_path / "words.ctm").write_text("one 1 0.0 0.1 one\ntwo 1 0.0 0.1 two\n")
    return tmp_path


def test_recordings_are_selected_until_the_duration_is_reached(folder: Path) -> None:
    utterances = read_corpus(folder)
    assert len(make_playlist(utterances, 0.2, seed=1, repeat=False).items) == 1
    names = [item.name for item in make_playlist(utterances, 60, seed=1, repeat=False).items]
    assert sorted(names) == ["one", "two"]


def test_missing_peers_are_skipped_with_a_message(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(folder), "--words", str(folder / "words.ctm"), "--json", str(folder / "peers.json")]
    environments = ["--environments", str(folder / "none")]
    status = peers.compare([*arguments, "--peers", "moonshine, pocketsphinx", *environments])
    assert status == 0
    command = f"python benchmarks/peers.py setup moonshine --environments {folder}"
    assert f"skipping moonshine: not installed ({command}" in capsys.readouterr().err
    report = json.loads((folder / "peers.json").read_text())
    assert report["settings"]["left_out"] == ["moonshine", "pocketsphinx"]
    assert report["results"] == []


@pytest.mark.slow
def test_comparison_reports_results_and_failures(
    folder: Path, fake_adapter: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setups = (
        Setup("stream setup", "stream_asr", fake_adapter, True, {"word": "one two"}),
        Setup("file setup", "stream_asr", fake_adapter, False, {"word": "one"}),
        Setup("failing setup", "stream_asr", fake_adapter, False),
    )
    monkeypatch.setattr(peers, "SETUPS", setups)
    outputs = ["--json", str(folder / "out.json"), "--plot", str(folder / "out.svg")]
    arguments = ["--data", str(folder), "--words", str(folder / "words.ctm"), "--threads", "1"]
    assert peers.compare([*arguments, "--peers", "stream_asr", *outputs]) == 1, "one of them failed"
    output = capsys.readouterr()
    assert "stream setup" in output.out
    assert "failing setup failed with exit status 1" in output.err
    live, files = json.loads((folder / "out.json").read_text())["results"]
    assert (live["name"], live["words"], live["word_first_ms"]["count"]) == ("stream setup", 2, 2)
    assert files["wer_percent"] == 150, "numbers count as words"
    assert [text.split()[0] for text in files["texts"]] == ["ONE", "ONE"]
    assert "stream setup" in (folder / "out.svg").read_text()
