"""Tables, JSON reports, plots and memory figures."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import report
import tables
from tables import report_to_markdown

from stream_asr import InputError

TABLE = report.Table("a title", ("", "WER"), [("live", "3 %"), ("a|b",)])


def test_report_contains_figures_machine_settings_and_tables(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    results = {"wer": np.float64(0.5), "batches": np.array([1, 2])}
    report.write_json(path, "accuracy", {"model": Path("m")}, {"recordings": 1}, results, [TABLE])
    written = json.loads(path.read_text())
    assert list(written) == ["benchmark", "date", "machine", "settings", "data", "results", "tables"]
    assert written["settings"] == {"model": "m"}
    assert written["results"] == {"wer": 0.5, "batches": [1, 2]}
    assert written["tables"][0]["title"] == "a title"
    assert written["machine"]["processor"]
    assert written["machine"]["torch"]


def test_unwritable_report_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        report.write_json(tmp_path / "file" / "report.json", "accuracy", {}, {}, {})


def test_table_is_formatted_as_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "**a title**",
        "",
        "|  | WER |",
        "| --- | ---: |",
        "| live | 3 % |",
        "| a\\|b |  |",
    ]


def test_report_is_converted_to_markdown(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.write_json(path, "accuracy", {"model": "m", "lm": None}, {}, {}, [TABLE])
    text = report_to_markdown(tables.read_report(path))
    assert text.startswith(f"### accuracy\n\n{TABLE.markdown()}\n\n")
    assert text.endswith("model m.")
    assert "lm" not in text.splitlines()[-1]


def test_closed_stdout_is_not_an_error(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.write_json(path, "accuracy", {}, {}, {}, [TABLE] * 2000)
    command = [sys.executable, tables.__file__, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_plot_is_written_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plot.svg"
    with report.plot(path, "Word latency", "time (ms)", "share (%)") as axes:
        axes.plot([1, 2], [3, 4])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (ms)", "share (%)")
    assert "<svg" in path.read_text()


def test_plot_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"\[bench\]"), report.plot(tmp_path / "plot.png", "", "", ""):
        pass


def test_memory_figures_are_in_mebibytes() -> None:
    before_mib = report.memory_mib()
    # Mapped, not allocated: the allocator may reuse memory that earlier tests have freed.
    with mmap.mmap(-1, 64 << 20) as block:
        for offset in range(0, len(block), mmap.PAGESIZE):
            block[offset] = 1
        assert report.memory_mib() - before_mib == pytest.approx(64, abs=16)
        assert report.peak_memory_mib() >= report.memory_mib() - 16
