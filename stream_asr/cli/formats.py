"""Transcripts as text, JSON and subtitles, and the files that they go to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from stream_asr.errors import InputError

if TYPE_CHECKING:
    from stream_asr.recognizer import Transcript

SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}


def render(transcript: Transcript, form: str) -> str:
    """A transcript as text, json, srt or vtt, with the newline at its end."""
    from stream_asr import subtitles

    if form == "json":
        return json.dumps(transcript.to_json(), ensure_ascii=False, indent=2) + "\n"
    if form == "text":
        return "".join(f"{final.text}\n" for final in transcript.utterances)
    return subtitles.srt(transcript.utterances) if form == "srt" else subtitles.vtt(transcript.utterances)


def open_for_writing(path: Path) -> TextIO:
    """Open a new file, or an old one that is to be replaced.

    Raises:
        InputError: the path cannot be written.
    """
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file beside ``path`` that takes its place when all went well, so that nothing half-written ever stands there.

    Raises:
        InputError: the path cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with open_for_writing(part) as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def form_of(output: Path | None) -> str:
    """The format that the ending of an output asks for; text for none or another one."""
    suffix = None if output is None else output.suffix.lower()
    return next((form for form, ending in SUFFIXES.items() if ending == suffix), "text")


def output_paths(inputs: Sequence[Path], output: Path | None, form: str) -> list[Path | None]:
    """Where each transcript goes; None is stdout. Several subtitles cannot share one place.

    Raises:
        InputError: several inputs for one file, two inputs that would write the same file, an output that is
            one of the inputs, or a place that cannot be written.
    """
    if output is None:
        if len(inputs) > 1 and form in ("srt", "vtt"):
            raise InputError(f"several files in {form}: name a folder with --output to get one file each")
        return [None] * len(inputs)
    if len(inputs) == 1 and not output.is_dir():
        paths = [output]
    elif not output.is_dir() and (output.exists() or output.suffix in SUFFIXES.values()):
        raise InputError(f"{output} is a file; for several inputs --output must be a folder")
    else:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {output}: {error.strerror or error}") from error
        paths = [output / (source.stem + SUFFIXES[form]) for source in inputs]
    if len(set(paths)) < len(paths):
        raise InputError(f"two of the inputs have one name; their transcripts would overwrite each other in {output}")
    for path in paths:
        if any(path.exists() and source.exists() and path.samefile(source) for source in inputs):
            raise InputError(f"--output {path} is one of the recordings, which would be overwritten")
        # Found out before the work, so that hours of it are not lost to a wrong path.
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"cannot write {path}: it is a folder, or its folder is not there or not writable")
    return list(paths)
