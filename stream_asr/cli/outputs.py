"""The files that transcripts go to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stream_asr.atomic_files import is_one_of
from stream_asr.cli.formats import SUFFIXES
from stream_asr.errors import InputError


def output_paths(inputs: Sequence[Path], named: str | None, form: str) -> list[Path | None]:
    """Where each transcript goes; None is stdout. Several subtitles cannot share one place.

    Args:
        named: a file, or a folder: one that is there, or any name that ends in a slash, or for several inputs.

    Raises:
        InputError: several inputs for one file, two inputs that would write the same file, an output that is
            one of the inputs or another file that is no transcript, or a place that cannot be written.
    """
    output = None if named is None else Path(named)
    folder = named is not None and named.endswith(("/", os.sep))
    if output is None:
        if len(inputs) > 1 and form in ("srt", "vtt"):
            raise InputError(f"several files in {form}: name a folder with --output to get one file each")
        return [None] * len(inputs)
    if len(inputs) == 1 and not folder and not output.is_dir():
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
        if path.is_file() and path.suffix and path.suffix.lower() not in SUFFIXES.values():
            endings = ", ".join(SUFFIXES.values())
            raise InputError(f"{path} is there already and does not end like a transcript ({endings}); name another")
        # Found out before the work, so that hours of it are not lost to a wrong path.
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder")
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path}: there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"cannot write {path}: the folder {path.parent} is not writable")
    return list(paths)
