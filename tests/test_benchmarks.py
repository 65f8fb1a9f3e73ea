"""The parts of the benchmarks that are not measurements: what they read, reckon and write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import report
from corpus import BUNDLED, Utterance, read_corpus


def test_the_bundled_recording_has_a_manifest() -> None:
    (utterance,) = read_corpus(BUNDLED)
    assert len(utterance.samples()) == 472_000
    assert utterance.text.startswith("good morning and welcome")


def test_librispeech_is_read_as_it_comes(tmp_path: Path) -> None:
    chapter = tmp_path / "test-clean" / "61" / "70968"
    chapter.mkdir(parents=True)
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n61-70968-0001 AND ENDED\n")
    found = read_corpus(tmp_path)
    assert found == [
        Utterance(chapter / "61-70968-0000.flac", "61", "HE BEGAN"),
        Utterance(chapter / "61-70968-0001.flac", "61", "AND ENDED"),
    ]
    assert read_corpus(tmp_path, 1) == found[:1]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="neither a manifest"):
        read_corpus(tmp_path)


TABLE = report.Table("a title", ("", "WER"), [("live", "3 %"), ("a|b",)])


def test_a_report_says_what_where_and_when(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    figures = {"wer": np.float64(0.5), "batches": np.array([1, 2])}
    report.write_json(path, "accuracy", {"model": Path("m")}, {"recordings": 1}, figures, [TABLE])
    written = json.loads(path.read_text())
    assert list(written) == ["benchmark", "date", "machine", "settings", "data", "results", "tables"]
    assert written["settings"] == {"model": "m"}
    assert written["results"] == {"wer": 0.5, "batches": [1, 2]}
    assert written["tables"][0]["title"] == "a title"
    assert written["machine"]["processor"]
    assert written["machine"]["torch"]


def test_a_table_in_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "**a title**",
        "",
        "|  | WER |",
        "| --- | ---: |",
        "| live | 3 % |",
        "| a\\|b |  |",
    ]


def test_a_plot_is_a_picture_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plot.svg"
    with report.plot(path, "Words appear", "after their end (ms)", "share (%)") as axes:
        axes.plot([1, 2], [3, 4])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("after their end (ms)", "share (%)")
    assert "<svg" in path.read_text()


def test_without_matplotlib_a_plot_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"\[bench\]"), report.plot(tmp_path / "plot.png", "", "", ""):
        pass


def test_memory_is_in_mebibytes() -> None:
    before = report.memory_mib()
    held = bytearray(b"x" * (64 << 20))
    assert 50 < report.memory_mib() - before < 100
    assert report.peak_memory_mib() >= before + 0.5 * len(held) / (1 << 20)
