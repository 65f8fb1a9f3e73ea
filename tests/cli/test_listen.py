"""Tests of ``stream-asr listen``: raw PCM from stdin, ``--save``, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from stream_asr.array_types import FloatArray
from tests.support.command_line import RunCommand, save_options, start_process, to_pcm
from tests.support.disk import limit_file_size
from tests.support.portaudio import fail_import_of_sounddevice

TEXT_COLUMN = 9
"""Captions start at this column, after the time."""


def captions(out: str) -> list[str]:
    return [line[TEXT_COLUMN:] for line in out.splitlines()]


def test_raw_pcm_from_stdin_is_captioned(run: RunCommand, speech: FloatArray) -> None:
    result = run("listen", "-", stdin=to_pcm(speech[: 3 * 16_000]))
    assert result.status == 0
    assert captions(result.out)[0].startswith("Good morning")


def test_save_writes_audio_and_captions(run: RunCommand, speech: FloatArray, tmp_path: Path) -> None:
    wav, srt, txt, jsonl, vtt = (
        tmp_path / f"talk{extension}" for extension in (".wav", ".srt", ".txt", ".jsonl", ".vtt")
    )
    result = run("listen", "-", *save_options(wav, srt, txt, jsonl, vtt), stdin=to_pcm(speech[: 6 * 16_000]))
    assert result.status == 0
    assert len(soundfile.read(wav)[0]) == 6 * 16_000
    assert srt.read_text().startswith("1\n00:00:00,")
    assert txt.read_text().splitlines() == captions(result.out)
    assert json.loads(jsonl.read_text().splitlines()[0])["type"] == "final"
    assert vtt.read_text().startswith("WEBVTT")


def test_format_of_raw_pcm_can_be_given(run: RunCommand, speech: FloatArray) -> None:
    mono = soxr.resample(speech[: 3 * 16_000], 16_000, 48_000)
    stereo = np.repeat(mono[:, None], 2, axis=1).astype("<f4")
    options = ("--sample-rate", 48_000, "--channels", 2, "--encoding", "pcm_f32le")
    assert "Good morning" in run("listen", "-", *options, stdin=stereo.tobytes()).out


def test_incomplete_last_sample_is_reported(run: RunCommand, speech: FloatArray) -> None:
    result = run("listen", "-", stdin=to_pcm(speech[: 3 * 16_000]) + b"\0")
    assert result.status == 0
    assert "Good morning" in result.out
    assert "the last 1 byte(s) are not a complete sample of pcm_s16le" in result.err


def test_empty_stdin_is_reported(run: RunCommand) -> None:
    result = run("listen", "-")
    assert (result.status, result.out) == (0, "")
    assert "no speech in 0.00 s" in result.err


def test_audio_file_on_stdin_is_rejected(run: RunCommand, clip: Path) -> None:
    result = run("listen", "-", stdin=clip.read_bytes())
    assert result.status == 2
    assert "header of an audio file" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("talk.wav",), "stream-asr stream talk.wav"),
        (("--sample-rate", "8000"), "describe raw PCM"),
        (("-", "--input-device", "1"), "--input-device selects a microphone"),
        (("-", "--sample-rate", "10"), "4000 to 384000 Hz"),
        (("-", "--channels", "0"), "1 to 64"),
        (("-", "--encoding", "opus"), "pcm_s16le"),
        (("-", "--save", "captions.docx"), "its extension must be one of"),
        (("-", "--save", "/no/such/place.srt"), "cannot write"),
        (("-", "--save", "/no/such/place.wav"), "cannot write"),
    ],
)
def test_wrong_arguments_are_rejected(run: RunCommand, arguments: tuple[str, ...], message: str) -> None:
    result = run("listen", *arguments)
    assert result.status == 2
    assert message in " ".join(result.err.split())


def test_save_does_not_overwrite_a_file(run: RunCommand, tmp_path: Path) -> None:
    existing = tmp_path / "yesterday.srt"
    existing.write_text("precious")
    result = run("listen", "-", "--save", existing)
    assert result.status == 2
    assert "already exists" in result.err
    assert existing.read_text() == "precious"


def test_save_leaves_no_empty_file(run: RunCommand, tmp_path: Path) -> None:
    run("listen", "-", *save_options(tmp_path / "a.wav", tmp_path / "a.srt"))
    assert list(tmp_path.iterdir()) == []


def test_captions_continue_when_a_saved_file_cannot_be_written(
    run: RunCommand, speech: FloatArray, tmp_path: Path
) -> None:
    wav, txt = tmp_path / "talk.wav", tmp_path / "talk.txt"
    with limit_file_size(50_000):
        result = run("listen", "-", *save_options(wav, txt), stdin=to_pcm(speech[: 6 * 16_000]))
    assert result.status == 1
    warning_and_error = result.err.splitlines()
    assert len(warning_and_error) == 2
    assert all(line.startswith(f"stream-asr: cannot write {wav}: ") for line in warning_and_error)
    assert len(captions(result.out)) == 2
    assert txt.read_text().splitlines() == captions(result.out)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGINT to another process")
def test_ctrl_c_finishes_the_last_caption(speech: FloatArray) -> None:
    with start_process("listen", "-", "--format", "jsonl", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Ends in the middle of the third sentence. The pipe stays open.
        process.stdin.write(to_pcm(speech[: 8 * 16_000]))
        process.stdin.flush()
        events = map(json.loads, process.stdout)
        partial = next(event for event in events if event["type"] == "partial" and event["utterance"] == 2)
        process.send_signal(signal.SIGINT)
        finals = [event for event in events if event["type"] == "final"]
        assert process.wait(30) == 0
    assert partial["text"].startswith("Every")
    assert finals[-1]["utterance"] == 2
    assert finals[-1]["text"].startswith("Every")


@pytest.mark.parametrize("command", ["devices", "listen"])
def test_missing_portaudio_names_the_package_to_install(
    run: RunCommand, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    fail_import_of_sounddevice(monkeypatch, OSError("PortAudio library not found"))
    result = run(command)
    assert result.status == 1
    assert "libportaudio2" in result.err
