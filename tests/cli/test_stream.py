"""Tests of ``stream-asr stream``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import soundfile

from stream_asr.array_types import FloatArray
from tests.support.command_line import RunCommand


def test_each_event_is_a_line_of_json_and_finals_have_the_text_of_transcribe(run: RunCommand, clip: Path) -> None:
    result = run("stream", clip, "--pace", "max")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert events[0] == {"type": "speech_started", "utterance": 0, "start": events[0]["start"]}
    finals = [event["text"] for event in events if event["type"] == "final"]
    assert finals == run("transcribe", clip).out.splitlines()


def test_realtime_pace_takes_real_time_and_shows_partials(run: RunCommand, speech: FloatArray, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, speech[: round(2.5 * 16_000)], 16_000)
    start_s = time.monotonic()
    result = run("stream", path)
    assert time.monotonic() - start_s >= 2.5
    partials = [event for event in map(json.loads, result.out.splitlines()) if event["type"] == "partial"]
    assert len(partials) > 2
    assert all(partial["text"].startswith(partial["stable"]) for partial in partials)


def test_text_format_prints_captions_with_times(run: RunCommand, clip: Path) -> None:
    assert run("stream", clip, "--pace", "max", "--format", "text").out.startswith("   0:00  Good morning")
