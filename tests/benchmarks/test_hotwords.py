"""Recall and false insertions of hotwords, and the bundled recordings with names."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import hotwords
import numpy as np
import options
import pytest
import soundfile
from corpus import read_corpus
from hotwords import BUNDLED_NAMES, NameCounts, count_names, count_phrase
from scoring import normalize

from stream_asr import InputError
from stream_asr.array_types import FloatArray
from stream_asr.decoding.hotwords import read_hotwords

MAX_BYTES = 1_500_000


@pytest.mark.parametrize(
    ("names", "reference", "hypothesis", "expected"),
    [
        (["Zolpidem"], "took zolpidem", "Took Zolpidem.", NameCounts(1, 1, 0)),
        (["Zolpidem"], "took zolpidem", "took soul pidem", NameCounts(1, 0, 0)),
        (["Zolpidem"], "took zolpidem", "took zolpidems", NameCounts(1, 0, 0)),
        (["Zolpidem"], "zolpidem zolpidem", "zolpidem, zolpidem", NameCounts(2, 2, 0)),
        (["Zolpidem"], "zolpidem or not", "zolpidem or zolpidem", NameCounts(1, 1, 1)),
        (["Anneke Visser"], "for anneke visser", "For Anneke-Visser!", NameCounts(1, 1, 0)),
        (["Anneke Visser"], "for anneke visser", "for visser anneke", NameCounts(1, 0, 0)),
        (["Anneke Visser"], "for anneke visser", "for anneke a visser", NameCounts(1, 0, 0)),
        (["Kibana", "Grafana"], "open kibana", "open grafana", NameCounts(1, 0, 1)),
    ],
)
def test_names_are_counted_as_whole_words_in_order(
    names: list[str], reference: str, hypothesis: str, expected: NameCounts
) -> None:
    assert count_names(names, [reference], [hypothesis]) == expected


def test_names_are_compared_within_each_recording() -> None:
    counts = count_names(["Kibana"], ["open kibana", "open it"], ["open it", "open kibana"])
    assert counts == NameCounts(1, 0, 1)
    assert counts.recall == 0


def test_bundled_names_are_in_the_sentences_and_absent_names_are_not() -> None:
    utterances = read_corpus(BUNDLED_NAMES)
    texts = [normalize(utterance.text) for utterance in utterances]
    names = [normalize(name) for name in read_hotwords(BUNDLED_NAMES / "names.txt")]
    absent = [normalize(name) for name in read_hotwords(BUNDLED_NAMES / "absent_names.txt")]
    assert len(texts) == len(set(texts)) == 60
    assert len(absent) == len(set(absent)) == 100
    assert [sum(count_phrase(name, text) for name in names) for text in texts] == [1] * 60
    words = {word for text in texts for word in text.split()}
    assert not words & {word for name in absent for word in name.split()}
    assert len({utterance.speaker for utterance in utterances}) >= 10


def test_bundled_recordings_are_short_speech_with_silence_around() -> None:
    for utterance in read_corpus(BUNDLED_NAMES):
        samples = utterance.read_samples()
        assert 1.5 < len(samples) / 16_000 < 8, utterance.path
        speech = np.flatnonzero(np.abs(samples) > 0.05)
        assert 0.25 < speech[0] / 16_000 < 0.5, utterance.path
        assert 0.25 < (len(samples) - speech[-1]) / 16_000 < 0.8, utterance.path
    assert sum(path.stat().st_size for path in BUNDLED_NAMES.rglob("*.*")) < MAX_BYTES


class FakeRecognizer:
    """Recognizes a recording as its only hotword, and as "nothing" without hotwords."""

    def __init__(self, names: Iterable[str]) -> None:
        self._text = " ".join(names) or "nothing"

    def __enter__(self) -> FakeRecognizer:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def transcribe(self, samples: FloatArray) -> SimpleNamespace:
        return SimpleNamespace(text=self._text)


def write_corpus(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    rows = ["path\ttext"]
    for number, text in enumerate(texts):
        soundfile.write(folder / f"{number}.wav", np.zeros(1600), 16_000)
        rows.append(f"{number}.wav\t{text}")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return folder


def fake_settings(_arguments: argparse.Namespace, _recognizer: FakeRecognizer) -> dict[str, object]:
    return {"model": "fake", "second_pass": None}


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["hotwords.py", *map(str, arguments)])
    monkeypatch.setattr(options, "load_recognizer", lambda _arguments, names=(): FakeRecognizer(names))
    monkeypatch.setattr(options, "model_settings", fake_settings)
    hotwords.main()


def test_report_compares_no_hotwords_with_each_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_corpus(tmp_path / "data", "Zolpidem", "one two")
    (data / "names.txt").write_text("Zolpidem\n")
    absent = write_corpus(tmp_path / "absent", "three")
    (tmp_path / "others.txt").write_text("Kibana\n")
    report = tmp_path / "report.json"
    arguments = ["--data", data, "--weights", "1", "2", "--misses", "--json", report]
    run_main(monkeypatch, *arguments, "--absent", absent, "--absent-names", tmp_path / "others.txt")
    results = json.loads(report.read_text())["results"]
    assert [result["weight"] for result in results["names"]] == [None, 1, 2]
    assert [(result["names"]["found"], result["names"]["inserted"]) for result in results["names"]] == [
        (0, 0),
        (1, 1),
        (1, 1),
    ]
    assert [round(result["score"]["wer"]) for result in results["names"]] == [100, 67, 67]
    assert [result["names"]["inserted"] for result in results["absent"]] == [0, 1, 1]
    printed = capsys.readouterr().out
    assert "Not found, no hotwords" in printed
    assert "0.0 %" in printed
    assert "100.0 %" in printed


def test_absent_names_must_not_be_spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = write_corpus(tmp_path / "absent", "the town of albuquerque")
    with pytest.raises(InputError, match="transcripts with Albuquerque; --absent needs names"):
        run_main(monkeypatch, "--absent", absent)


@pytest.mark.slow
def test_hotwords_raise_the_recall_of_the_bundled_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["hotwords.py", "--limit", "6", "--second-pass", "none", "--json", str(report)])
    hotwords.main()
    without, with_hotwords = json.loads(report.read_text())["results"]["names"]
    assert with_hotwords["names"]["found"] > without["names"]["found"]
    assert "6 recordings" in capsys.readouterr().out
