"""Writing a file so that nothing half-written ever stands in its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stream_asr.errors import InputError, StreamASRError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path`` that takes its place when all went well.

    Whenever the machine stops, a whole file stands there, the old or the new one. Writes belong under `writing`.

    Raises:
        InputError: nothing can be written there.
        StreamASRError: there is no room for it.
    """
    part = path.with_name(f".{path.name}.part")
    with writing(path, InputError):
        file = part.open("wb")
    try:
        try:
            yield file
            with writing(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # what could not be stored was told already
                file.close()
        with writing(path, InputError):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_one_of(path: Path, sources: Iterable[Path]) -> bool:
    """Would writing ``path`` overwrite one of the files that are read? By whatever names they go."""
    return path.exists() and any(source.exists() and path.samefile(source) for source in sources)


@contextmanager
def writing(path: Path, kind: type[StreamASRError] = StreamASRError) -> Iterator[None]:
    """An OSError in here becomes an error of ``kind`` that says which file it was that could not be written."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write {path}: {error.strerror or error}") from error
