"""Language models and hotwords in files. A model is an archive of arrays (NumPy's .npz): loading is reading."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from stream_asr.errors import InputError
from stream_asr.lm.ngram import SPECIAL, Level, NgramModel

_FORMAT = "stream_asr n-gram model 1"
_PARTS = ("words", "costs", "backoffs", "children")


def save(model: NgramModel, file: IO[bytes]) -> None:
    """Write a model; the same model gives the same bytes."""
    header = {"format": _FORMAT, "order": model.order, "about": model.about}
    arrays = {
        f"{part}{length}": getattr(level, part) for length, level in enumerate(model.levels, 1) for part in _PARTS
    }
    np.savez_compressed(
        file,
        header=_bytes(json.dumps(header, ensure_ascii=False)),
        vocabulary=_bytes("\n".join(model.vocabulary)),
        **arrays,
    )


def load(path: str | Path) -> NgramModel:
    """Read what `save` wrote. Arrays that are not needed, such as older files have, are ignored.

    Raises:
        InputError: the file is not there, or is no language model of ours; the message says what would be.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
            vocabulary = tuple(archive["vocabulary"].tobytes().decode().split("\n"))
            levels = tuple(
                Level(*(archive[f"{part}{length}"] for part in _PARTS)) for length in range(1, header["order"] + 1)
            )
            about = header["about"]
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"there is no language model {str(path)!r}") from error
        raise InputError(f"cannot read the language model {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is no language model that `stream-asr lm build` wrote; it makes one from plain text"
        ) from error
    if len(levels[0].words) != SPECIAL + len(vocabulary):
        raise InputError(f"{path} is damaged: its words and its numbers do not match")
    return NgramModel(vocabulary, levels, about)


def _bytes(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
