"""Read and write language models. A file is a compressed archive of NumPy arrays (.npz)."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from stream_asr.errors import InputError
from stream_asr.lm.ngram import FIRST_WORD_ID, Level, NgramModel

_FORMAT = "stream_asr n-gram model 1"
_LEVEL_ARRAYS = ("words", "costs", "backoffs", "children")
"""Attributes of `Level`. In a file, the order of the n-grams follows each name."""


def save(model: NgramModel, file: IO[bytes]) -> None:
    """Write a model. Equal models give equal bytes."""
    header = {"format": _FORMAT, "order": model.order, "about": model.about}
    arrays = {
        f"{name}{order}": getattr(level, name) for order, level in enumerate(model.levels, 1) for name in _LEVEL_ARRAYS
    }
    np.savez_compressed(
        file,
        header=_to_bytes(json.dumps(header, ensure_ascii=False)),
        vocabulary=_to_bytes("\n".join(model.vocabulary)),
        **arrays,
    )


def load(path: str | Path) -> NgramModel:
    """Read a model that `save` wrote. Additional arrays are ignored.

    Raises:
        InputError: the file does not exist, cannot be read, or is not a language model.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
            vocabulary = tuple(archive["vocabulary"].tobytes().decode().split("\n"))
            levels = tuple(
                Level(*(archive[f"{name}{order}"] for name in _LEVEL_ARRAYS)) for order in range(1, header["order"] + 1)
            )
            about = header["about"]
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"there is no language model {str(path)!r}") from error
        raise InputError(f"cannot read the language model {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is not a language model that `stream-asr lm build` wrote; the command makes one from plain text"
        ) from error
    if len(levels[0].words) != FIRST_WORD_ID + len(vocabulary):
        raise InputError(f"{path} is damaged: its vocabulary and its unigrams do not match")
    return NgramModel(vocabulary, levels, about)


def _to_bytes(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
