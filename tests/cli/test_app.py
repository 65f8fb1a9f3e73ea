"""Tests of what all commands share: help, version, exit statuses, errors of the operating system."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_asr.cli.app import app
from tests.support.command_line import RunCommand, start_process


@pytest.mark.parametrize("command", ["demo", "transcribe", "listen", "stream", "devices", "models"])
def test_every_command_has_help(run: RunCommand, command: str) -> None:
    result = run(command, "--help")
    assert result.status == 0
    assert "Usage" in result.out


def test_help_paragraphs_wrap_at_the_width_of_the_terminal() -> None:
    help_texts = [command.help or "" for command in app.registered_commands]
    assert all(help_texts)
    paragraphs = [paragraph for text in help_texts for paragraph in text.split("\n\n")]
    assert not [paragraph for paragraph in paragraphs if "\n" in paragraph and not paragraph.startswith(" ")]


def test_version(run: RunCommand) -> None:
    assert run("--version").out.strip().count(".") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format", "docx"),
        ("--threads", "0"),
        ("--aggressiveness", "4"),
        ("--vad", "psychic"),
        ("--vad", "silero", "--aggressiveness", "2"),
        ("--endpoint-ms", "0"),
        ("--max-utterance-ms", "5"),
        ("--device", "toaster"),
        ("--no-such-option",),
        ("--second-pass",),
    ],
)
def test_wrong_usage_exits_with_status_2(run: RunCommand, clip: Path, arguments: tuple[str, ...]) -> None:
    result = run("transcribe", clip, *arguments)
    assert result.status == 2
    assert result.err


def test_unknown_model_exits_with_status_2(run: RunCommand, clip: Path) -> None:
    result = run("transcribe", clip, "--model", "./no-such-folder", load_model=True)
    assert result.status == 2
    assert "embedded-en" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--second-pass", "./no-such-folder"), "there is no folder './no-such-folder'; 'none' switches"),
        (("--language", "de"), "the language 'de' has no effect"),
        (("--second-pass", "none", "--language", "de"), "the language 'de' has no effect"),
    ],
)
def test_wrong_second_pass_exits_with_status_2(
    run: RunCommand, clip: Path, options: tuple[str, ...], message: str
) -> None:
    result = run("transcribe", clip, *options, load_model=True)
    assert result.status == 2
    assert result.err.startswith(f"stream-asr: {message}")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("command", ["demo", "transcribe", "listen", "stream", "serve"])
def test_commands_that_recognize_speech_take_a_second_pass(run: RunCommand, command: str) -> None:
    help_text = run(command, "--help").out
    assert "--second-pass" in help_text
    assert "--language" in help_text


@pytest.mark.slow
def test_full_disk_exits_with_status_1_and_without_traceback(clip: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has /dev/full")
    with open("/dev/full", "wb") as full, start_process("stream", clip, "--pace", "max", stdout=full) as process:
        _, err = process.communicate()
    assert process.returncode == 1
    assert err.decode().strip() == "stream-asr: input or output failed: No space left on device"


@pytest.mark.slow
def test_closed_stdout_ends_the_process_without_traceback(clip: Path) -> None:
    with start_process("stream", clip, "--pace", "max") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert b"Traceback" not in err
    assert b"Exception" not in err
