"""Decode recordings and excerpts of recordings for training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.audio.files import AudioFile
from stream_asr.audio.pcm import AudioConverter
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError


def read_clip(path: Path, start_s: float = 0.0, end_s: float | None = None) -> FloatArray:
    """Decode a recording or an excerpt of it.

    Returns:
        float32, shape (samples,), 16 kHz mono.

    Raises:
        InputError: the file cannot be read or decoded; the message contains its path.
    """
    return np.concatenate([np.zeros(0, dtype=np.float32), *_blocks(path, start_s, end_s)])


def measure_duration_s(path: Path) -> float:
    """Return the duration of a recording in seconds.

    The whole file is decoded, because the duration in a file header can be wrong.

    Raises:
        InputError: the file cannot be read or decoded to its end; the message contains its path.
    """
    return sum(map(len, _blocks(path, 0.0, None))) / SAMPLE_RATE


def _blocks(path: Path, start_s: float, end_s: float | None) -> Iterator[FloatArray]:
    with AudioFile(path) as file:
        try:
            converter = AudioConverter(file.sample_rate, file.channels)
            for block in file.read_span(start_s, end_s):
                yield converter.push(block)
            yield converter.finish()
        except InputError as error:
            # Errors about samples do not name the file.
            raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
