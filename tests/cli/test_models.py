"""Test of ``stream-asr models``."""

from __future__ import annotations

from tests.support.command_line import RunCommand


def test_bundled_and_recommended_models_are_listed(run: RunCommand) -> None:
    result = run("models")
    assert "embedded-en" in result.out
    assert "facebook/wav2vec2-base-960h" in result.out


def test_second_passes_are_listed(run: RunCommand) -> None:
    lines = [line for line in run("models").out.splitlines() if line.startswith("--second-pass")]
    assert "embedded-en" in lines[0]
    assert any("openai/whisper-small " in line for line in lines)
