"""Replace files atomically."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stream_asr.errors import InputError, StreamASRError


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that replaces it when the block succeeds.

    After a crash at any moment, ``path`` is either the complete old file or the complete new one. Wrap writes in
    `convert_os_errors`.

    Raises:
        InputError: the file cannot be created or replaced.
        StreamASRError: the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    with convert_os_errors(path, InputError):
        file = part.open("wb")
    try:
        try:
            yield file
            with convert_os_errors(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # a failed write was reported already
                file.close()
        with convert_os_errors(path, InputError):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_one_of(path: Path, sources: Iterable[Path]) -> bool:
    """Return whether ``path`` is one of ``sources``, even under another name."""
    return path.exists() and any(source.exists() and path.samefile(source) for source in sources)


@contextmanager
def convert_os_errors(path: Path, error_type: type[StreamASRError] = StreamASRError) -> Iterator[None]:
    """Convert an OSError in the block to an ``error_type`` that names the file."""
    try:
        yield
    except OSError as error:
        raise error_type(f"cannot write {path}: {error.strerror or error}") from error
