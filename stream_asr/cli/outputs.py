"""The files that transcripts go to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stream_asr.cli.formats import SUFFIXES
from stream_asr.errors import InputError
from stream_asr.replacing import is_one_of


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
        paths = [output / (source.stem + SUFFIXES[form]) for source in inputs]
        if len(set(paths)) < len(paths):
            raise InputError(
                f"two of the inputs have one name; their transcripts would overwrite each other in {output}"
            )
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {output}: {error.strerror or error}") from error
    for path in paths:
        if is_one_of(path, inputs):
            raise InputError(f"--output {path} is one of the recordings, which would be overwritten")
        # Found out before the work, so that hours of it are not lost to a wrong path.
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"cannot write {path}: it is a folder, or its folder is not there or not writable")
    return list(paths)
