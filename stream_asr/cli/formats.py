"""Transcripts as text, JSON and subtitles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from stream_asr.subtitles import srt, vtt

if TYPE_CHECKING:
    from stream_asr.events import Transcript

SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}


def render(transcript: Transcript, form: str) -> str:
    """A transcript as text, json, srt or vtt, with the newline at its end."""
    if form == "json":
        return json.dumps(transcript.to_json(), ensure_ascii=False, indent=2) + "\n"
    if form == "text":
        return "".join(f"{final.text}\n" for final in transcript.utterances)
    return srt(transcript.utterances) if form == "srt" else vtt(transcript.utterances)


def form_of(output: str | None) -> str:
    """The format that the ending of an output asks for; text for none or another one."""
    suffix = None if output is None else Path(output).suffix.lower()
    return next((form for form, ending in SUFFIXES.items() if ending == suffix), "text")
