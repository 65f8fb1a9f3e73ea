"""Tests of ``stream-asr transcribe``."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import bare_text
from tests.support.command_line import TERMINAL_ENVIRONMENT, RunCommand, read_terminal, start_process


def test_text_has_one_line_per_utterance(run: RunCommand, clip: Path) -> None:
    result = run("transcribe", clip)
    assert result.status == 0
    lines = result.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Good morning")


def test_raw_writes_words_in_the_case_of_the_model(run: RunCommand, clip: Path) -> None:
    raw, cased = run("transcribe", clip, "--raw").out, run("transcribe", clip).out
    assert raw != cased
    assert raw.split() == bare_text(cased).split()


def test_second_pass_can_be_switched_off(run: RunCommand, clip: Path) -> None:
    first_pass = run("transcribe", clip, "--second-pass", "none").out
    assert first_pass.startswith("Good morning and")
    assert bare_text(first_pass) == " ".join(first_pass.lower().split()), "no punctuation"


def test_json_has_words_with_times_and_confidences(run: RunCommand, clip: Path) -> None:
    transcript = json.loads(run("transcribe", clip, "--format", "json").out)
    assert transcript["duration"] == 6.0
    assert transcript["text"].startswith("Good morning")
    utterance = transcript["utterances"][0]
    assert utterance["type"] == "final"
    assert set(utterance["words"][0]) == {"word", "start", "end", "confidence"}


@pytest.mark.parametrize(("format_name", "beginning"), [("srt", "1\n00:00:00,"), ("vtt", "WEBVTT\n\n00:00:00.")])
def test_subtitles_are_written(run: RunCommand, clip: Path, tmp_path: Path, format_name: str, beginning: str) -> None:
    target = tmp_path / f"clip.{format_name}"
    result = run("transcribe", clip, "--format", format_name, "--output", target)
    assert (result.status, result.out) == (0, "")
    assert target.read_text().startswith(beginning)


def test_whole_utterances_are_recognized_in_one_pass(run: RunCommand, clip: Path, recognizer: Recognizer) -> None:
    result = run("transcribe", clip, "--whole-utterances", "--format", "json")
    expected = recognizer.transcribe(clip, whole_utterances=True)
    assert json.loads(result.out) == expected.to_json()
    assert expected != recognizer.transcribe(clip)


def test_vad_option_selects_the_detector(run: RunCommand, clip: Path) -> None:
    assert run("transcribe", clip, "--vad", "silero").out.startswith("Good morning")


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000, 192_000])
def test_common_wav_formats_are_recognized(
    run: RunCommand, tmp_path: Path, speech: FloatArray, rate: int, subtype: str
) -> None:
    path = tmp_path / "clip.wav"
    stereo = np.repeat(soxr.resample(speech[: 3 * 16_000], 16_000, rate)[:, None], 2, axis=1)
    soundfile.write(path, np.clip(stereo, -1, 1), rate, subtype=subtype)
    # A sample rate of 8 kHz removes all frequencies above 4 kHz; only the first word is certain to survive.
    assert run("transcribe", path).out.startswith("Good" if rate == 8_000 else "Good morning")


# --- several files ----------------------------------------------------------------------------------------


@pytest.fixture
def other_clip(clip: Path, tmp_path: Path) -> Path:
    """The clip as a flac file."""
    path = tmp_path / "other.flac"
    soundfile.write(path, soundfile.read(clip)[0], 16_000)
    return path


def test_texts_of_several_files_have_headings(run: RunCommand, clip: Path, other_clip: Path) -> None:
    out = run("transcribe", clip, other_clip).out
    assert [line for line in out.splitlines() if line.startswith("==> ")] == [
        f"==> {clip} <==",
        f"==> {other_clip} <==",
    ]


def test_json_of_several_files_is_one_list(run: RunCommand, clip: Path, other_clip: Path) -> None:
    entries = json.loads(run("transcribe", clip, other_clip, "-f", "json").out)
    assert [entry["file"] for entry in entries] == [str(clip), str(other_clip)]


def test_subtitles_of_several_files_go_to_a_folder(
    run: RunCommand, clip: Path, other_clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert run("transcribe", clip, other_clip, "-f", "srt", "-o", folder).status == 0
    assert sorted(path.name for path in folder.iterdir()) == ["clip.srt", "other.srt"]
    rejected = run("transcribe", clip, other_clip, "-f", "srt")
    assert rejected.status == 2
    assert "name a folder with --output" in rejected.err


def test_two_inputs_with_one_transcript_path_are_rejected(run: RunCommand, clip: Path, tmp_path: Path) -> None:
    result = run("transcribe", clip, clip, "-o", tmp_path / "out")
    assert result.status == 2
    assert "would overwrite each other" in result.err


# --- output paths -----------------------------------------------------------------------------------------


def test_output_that_cannot_be_written_is_rejected_before_the_work(run: RunCommand, clip: Path, tmp_path: Path) -> None:
    result = run("transcribe", clip, "--output", tmp_path / "no" / "such" / "place.txt")
    assert result.status == 2
    assert "cannot write" in result.err


def test_recording_is_not_overwritten(run: RunCommand, clip: Path) -> None:
    before = clip.read_bytes()
    assert run("transcribe", clip, "--output", clip).status == 2
    assert clip.read_bytes() == before


def test_file_that_is_not_a_transcript_is_not_overwritten(run: RunCommand, clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(clip.read_bytes())
    result = run("transcribe", clip, "-o", other)
    assert result.status == 2
    expected = "already exists and does not have the extension of a transcript (.txt, .json, .srt, .vtt)"
    assert expected in result.err
    assert other.read_bytes() == clip.read_bytes()


def test_output_with_trailing_slash_is_a_folder(run: RunCommand, clip: Path, tmp_path: Path) -> None:
    """A pattern such as `*.wav` may match one file or several."""
    folder = tmp_path / "captions"
    for _ in range(2):
        assert run("transcribe", clip, "-f", "vtt", "-o", f"{folder}/").status == 0
        assert [path.name for path in folder.iterdir()] == ["clip.vtt"]


def test_extension_of_the_output_selects_the_format(run: RunCommand, clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "clip.srt"
    assert run("transcribe", clip, "-o", target).status == 0
    assert target.read_text().startswith("1\n00:00:00,")
    assert run("transcribe", clip, "-o", target, "-f", "text").status == 0
    assert target.read_text().startswith("Good morning")


# --- unusable input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [800, 5 * 16_000])
def test_audio_without_speech_is_reported(run: RunCommand, tmp_path: Path, samples: int) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(samples), 16_000)
    result = run("transcribe", path)
    assert (result.status, result.out) == (0, "")
    assert f"no speech in the {samples / 16_000:.2f} s of {path}" in result.err


UNUSABLE_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "text": (lambda path: path.write_text("a text with the extension of an audio file"), "not audio that can be"),
    "empty": (lambda path: path.touch(), "empty (0 bytes)"),
    "no samples": (lambda path: soundfile.write(path, np.zeros(0), 16_000), "contains a header but no audio"),
    "nan": (lambda path: soundfile.write(path, np.full(16_000, np.nan), 16_000, subtype="FLOAT"), "nan at 0.000 s"),
}
"""Name → (function that creates the file, part of the error message)."""


@pytest.mark.parametrize("command", ["transcribe", "stream"])
@pytest.mark.parametrize("kind", UNUSABLE_FILES)
def test_unusable_file_is_rejected(run: RunCommand, tmp_path: Path, command: str, kind: str) -> None:
    create, message = UNUSABLE_FILES[kind]
    path = tmp_path / "input.wav"
    create(path)
    result = run(command, path)
    assert result.status == 2
    assert message in result.err


def test_stdin_is_rejected_with_the_command_to_use(run: RunCommand) -> None:
    result = run("transcribe", "-")
    assert (result.status, result.out) == (2, "")
    assert "stream-asr listen -" in " ".join(result.err.split())


def test_truncated_recording_is_transcribed_up_to_its_end(run: RunCommand, clip: Path, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.wav"
    truncated.write_bytes(clip.read_bytes()[:100_000])
    result = run("transcribe", truncated)
    assert result.status == 2
    assert result.out.startswith("Good")
    assert "truncated.wav is truncated after 3.1 s: its header declares 192000 bytes of samples" in result.err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGINT to another process")
def test_ctrl_c_writes_the_transcript_so_far(tmp_path: Path, speech: FloatArray) -> None:
    import pty

    path, target = tmp_path / "long.wav", tmp_path / "long.txt"
    soundfile.write(path, np.tile(speech, 120), 16_000)
    terminal, child_end = pty.openpty()
    with start_process(
        "transcribe", path, "--output", target, stderr=child_end, environment=TERMINAL_ENVIRONMENT
    ) as process:
        os.close(child_end)
        err = b""
        # Wait for the progress bar to pass 100 s. The stream's buffer is shorter, so some sentences are recognized.
        while not re.search(rb"[1-9]\d\d s of audio", err):
            err += os.read(terminal, 1 << 16)
        process.send_signal(signal.SIGINT)
        err += b"".join(read_terminal(terminal))
    assert process.returncode == 130
    assert b"Traceback" not in err
    message = re.sub(rb"\s", b"", err).decode()  # the terminal breaks lines anywhere
    end = re.search(rf"stopped;{re.escape(str(target))}endsat([\d.]+)sof", message)
    assert end, message
    text = target.read_text()
    assert text.startswith("Good morning")
    repetitions = text.count("Good morning")
    duration_s = len(speech) / 16_000
    assert (repetitions - 1) * duration_s < float(end[1]) <= repetitions * duration_s
