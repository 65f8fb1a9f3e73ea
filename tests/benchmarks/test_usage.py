"""Command lines of the scripts."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import options
import pytest

FOLDER = Path(options.__file__).parent
SCRIPTS = (
    "accuracy",
    "backends",
    "false_words",
    "latency",
    "offline",
    "peers",
    "soak",
    "tables",
    "throughput",
    "tune_lm",
    "vad",
)


def run_script(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run a script in this process; return its exit status."""
    path = FOLDER / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_path(str(path), run_name="__main__")
    return exit_info.value.code


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_shows_the_documentation(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_script(name, "--help", monkeypatch=monkeypatch) == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("latency", ["--nonsense"], "unrecognized arguments: --nonsense"),
        ("latency", ["--seconds", "0"], "argument --seconds: must be a number greater than 0, not '0'"),
        ("latency", ["--streams", "x"], "argument --streams: must be an integer of at least 1, not 'x'"),
        ("latency", ["--data", "missing"], "missing is not a folder"),
        ("latency", ["--words", "missing.ctm"], "cannot read missing.ctm: [Errno 2] No such file or directory"),
        ("soak", ["--plot", "plot.xyz"], "argument --plot: must end in .png, .svg, .pdf, not 'plot.xyz'"),
        ("accuracy", ["--plot", "grid.png"], "--plot requires --grid"),
        ("accuracy", ["--grid", "1, 2"], "argument --grid: '1, 2': three lists are needed"),
        ("accuracy", ["--hotwords", "missing.txt"], "missing.txt"),
        ("false_words", ["--sounds", "speech"], "argument --sounds: invalid choice: 'speech'"),
        ("hotwords", ["--weights", "0"], "argument --weights: must be a number greater than 0, not '0'"),
        ("hotwords", ["--names", "missing.txt"], "cannot read the hotwords in missing.txt: No such file or directory"),
        ("vad", ["--sweep", "--plot", "vad.png"], "--plot cannot be used with --sweep"),
        ("backends", ["--model", "."], "has no config.json"),
        ("throughput", ["--most", "0"], "argument --most: must be an integer of at least 1, not '0'"),
        ("peers", ["--peers", "kaldi"], "argument --peers: unknown peer kaldi; choose from stream_asr"),
        ("peers", ["setup", "kaldi"], "unknown peer kaldi; choose from stream_asr"),
        ("tables", ["missing.json"], "cannot read missing.json"),
    ],
)
def test_usage_error_is_one_line_with_status_2(
    name: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_script(name, *arguments, monkeypatch=monkeypatch) == options.USAGE_ERROR
    error = capsys.readouterr().err
    assert error.startswith(f"{name}.py")
    assert message in error
    assert error.count("\n") == 1


def test_script_runs_as_a_process(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("[]")
    result = subprocess.run([sys.executable, FOLDER / "tables.py", path], capture_output=True, text=True)
    assert result.returncode == options.USAGE_ERROR
    assert result.stderr == f"tables.py: error: {path} is not a report of a benchmark\n"
