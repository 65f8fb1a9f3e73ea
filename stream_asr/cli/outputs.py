"""Transcript files of ``stream-asr transcribe``: their formats and their paths."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stream_asr.atomic_files import is_one_of
from stream_asr.errors import InputError
from stream_asr.subtitles import format_srt, format_vtt

if TYPE_CHECKING:
    from stream_asr.events import Transcript

EXTENSIONS = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
"""Format → extension of its files."""


def format_transcript(transcript: Transcript, format_name: str) -> str:
    """Return a transcript as text, json, srt or vtt, with a newline at the end."""
    if format_name == "json":
        return json.dumps(transcript.to_json(), ensure_ascii=False, indent=2) + "\n"
    if format_name == "text":
        return "".join(f"{final.text}\n" for final in transcript.utterances)
    return format_srt(transcript.utterances) if format_name == "srt" else format_vtt(transcript.utterances)


def infer_format(output: str | None) -> str:
    """Return the format that the extension of ``--output`` stands for; text if it stands for none."""
    extension = None if output is None else Path(output).suffix.lower()
    return next((name for name, known in EXTENSIONS.items() if known == extension), "text")


def resolve_output_paths(inputs: Sequence[Path], output: str | None, format_name: str) -> list[Path | None]:
    """Return the path of each input's transcript; None stands for stdout.

    All checks are done here, before the work, so that a wrong path does not cost hours of transcription.

    Args:
        inputs: the recordings.
        output: a file or a folder. It is a folder if it exists as one, ends in a slash, or there are several inputs.
        format_name: text, json, srt or vtt.

    Raises:
        InputError: one file is named for several inputs, two inputs have the same transcript path, several subtitle
            files would go to stdout, an input or another file that is not a transcript would be overwritten, or a path
            cannot be written.
    """
    if output is None:
        if len(inputs) > 1 and format_name in ("srt", "vtt"):
            raise InputError(f"several files in {format_name}: name a folder with --output to get one file each")
        return [None] * len(inputs)
    target = Path(output)
    if len(inputs) == 1 and not output.endswith(("/", os.sep)) and not target.is_dir():
        paths = [target]
    else:
        paths = _paths_in_folder(target, inputs, format_name)
    for path in paths:
        _check_target(path, inputs)
    return list(paths)


def _paths_in_folder(folder: Path, inputs: Sequence[Path], format_name: str) -> list[Path]:
    """Create the folder, and return a path in it for each input."""
    if not folder.is_dir() and (folder.exists() or folder.suffix in EXTENSIONS.values()):
        raise InputError(f"{folder} is a file; for several inputs --output must be a folder")
    paths = [folder / (source.stem + EXTENSIONS[format_name]) for source in inputs]
    if len(set(paths)) < len(paths):
        raise InputError(f"two inputs have the same name; their transcripts would overwrite each other in {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror or error}") from error
    return paths


def _check_target(path: Path, inputs: Sequence[Path]) -> None:
    if is_one_of(path, inputs):
        raise InputError(f"--output {path} is one of the recordings, which would be overwritten")
    if path.is_file() and path.suffix and path.suffix.lower() not in EXTENSIONS.values():
        extensions = ", ".join(EXTENSIONS.values())
        raise InputError(
            f"{path} already exists and does not have the extension of a transcript ({extensions}); name another file"
        )
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: the folder {path.parent} is not writable")
