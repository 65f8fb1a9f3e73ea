"""Recordings with transcripts, and playlists of them.

A corpus is a folder in LibriSpeech layout, or a folder with a ``manifest.tsv``: a table with a header line and the
columns ``path`` (relative to the folder), ``text`` and, optionally, ``speaker``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError

BUNDLED = Path(__file__).parent / "demo"
"""Corpus of one recording, the 30 s that are part of the package."""

PAUSE_RANGE_S = (0.7, 1.5)
"""Shortest and longest pause between two recordings of a playlist."""

_MANIFEST = "manifest.tsv"
_MANIFEST_COLUMNS = ("path", "text")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A recording and its transcript."""

    path: Path
    speaker: str
    text: str

    def read_samples(self) -> FloatArray:
        """Read the recording.

        Returns:
            Mono samples at 16 kHz, float32, shape (samples,).

        Raises:
            InputError: the file is missing or is not audio.
        """
        try:
            samples, rate = soundfile.read(self.path, dtype="float32", always_2d=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise InputError(f"cannot read {self.path}: {error}") from None
        mono = samples.mean(axis=1)
        resampled = mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)
        return np.asarray(resampled, dtype=np.float32)


def read_corpus(folder: Path, limit: int | None = None) -> list[Utterance]:
    """List the utterances of a folder.

    Args:
        limit: number of utterances to select, spread evenly over the folder; None for all.

    Raises:
        InputError: the folder is missing, or has neither a usable manifest nor LibriSpeech transcripts.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    utterances = _read_manifest(folder) if (folder / _MANIFEST).is_file() else _read_librispeech(folder)
    if not utterances:
        raise InputError(f"{folder} contains neither recordings with a {_MANIFEST} nor LibriSpeech's *.trans.txt")
    if limit is None or limit >= len(utterances):
        return utterances
    return [utterances[round(index)] for index in np.linspace(0, len(utterances) - 1, limit)]


def _read_manifest(folder: Path) -> list[Utterance]:
    with (folder / _MANIFEST).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        if missing := [name for name in _MANIFEST_COLUMNS if name not in (reader.fieldnames or ())]:
            raise InputError(f"{folder / _MANIFEST} has no column {' and no column '.join(missing)}")
        return [Utterance(folder / row["path"], row.get("speaker") or "", row["text"] or "") for row in reader]


def _read_librispeech(folder: Path) -> list[Utterance]:
    utterances = []
    for transcripts in sorted(folder.rglob("*.trans.txt")):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            utterances.append(Utterance(transcripts.parent / f"{name}.flac", name.split("-")[0], text))
    return utterances


@dataclass(frozen=True, slots=True)
class PlaylistItem:
    """A recording of a playlist.

    Attributes:
        samples: samples of the recording, float32, shape (samples,).
        start_s: start of the recording in the playlist, in seconds.
    """

    utterance: Utterance
    samples: FloatArray
    start_s: float

    @property
    def name(self) -> str:
        """File name of the recording without its suffix."""
        return self.utterance.path.stem


@dataclass(frozen=True, slots=True)
class Playlist:
    """Recordings one after another, with pauses between them.

    Attributes:
        samples: all recordings and pauses, 16 kHz, float32, shape (samples,).
        items: recordings in the order in which they are played.
    """

    samples: FloatArray
    items: tuple[PlaylistItem, ...]

    @property
    def duration_s(self) -> float:
        """Duration in seconds, pauses included."""
        return len(self.samples) / SAMPLE_RATE


def make_playlist(
    utterances: Sequence[Utterance], min_duration_s: float, seed: int, *, repeat: bool = True
) -> Playlist:
    """Put recordings in random order, each followed by a pause, until the minimum duration is reached.

    The last recording is not cut, so that no word is truncated.

    Args:
        seed: seed of the order and of the pauses.
        repeat: start again after all recordings have been played; otherwise the playlist ends there.
    """
    rng = np.random.default_rng(seed)
    min_samples = min_duration_s * SAMPLE_RATE
    parts: list[FloatArray] = []
    items: list[PlaylistItem] = []
    length = 0
    while length < min_samples:
        for index in rng.permutation(len(utterances)):
            utterance = utterances[index]
            samples = utterance.read_samples()
            pause = np.zeros(int(rng.uniform(*PAUSE_RANGE_S) * SAMPLE_RATE), dtype=np.float32)
            items.append(PlaylistItem(utterance, samples, length / SAMPLE_RATE))
            parts += [samples, pause]
            length += len(samples) + len(pause)
            if length >= min_samples:
                break
        if not repeat:
            break
    return Playlist(np.concatenate(parts), tuple(items))
