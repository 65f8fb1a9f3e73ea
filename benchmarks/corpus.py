"""Recordings to measure with: a folder with a manifest, or LibriSpeech's own layout.

A manifest is ``manifest.tsv`` with a header line that names at least ``path`` and ``text``, ``speaker`` if it
is known; paths are relative to the folder.
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

BUNDLED = Path(__file__).parent / "demo"
"""The recording that comes with the package, half a minute of it."""

PAUSE_S = (0.7, 1.5)
"""Lengths of the silences between the recordings of a programme."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and what is said in it."""

    path: Path
    speaker: str
    text: str

    def samples(self) -> FloatArray:
        """Mono, 16 kHz, float32."""
        samples, rate = soundfile.read(self.path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        resampled = mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)
        return np.asarray(resampled, dtype=np.float32)


def read_corpus(folder: Path, limit: int | None = None) -> list[Utterance]:
    """The utterances of a folder; with ``limit``, that many spread evenly over it.

    Raises:
        SystemExit: it holds neither a manifest nor LibriSpeech's transcripts.
    """
    utterances = _manifest(folder) if (folder / "manifest.tsv").is_file() else _librispeech(folder)
    if not utterances:
        what = "holds neither a manifest.tsv nor LibriSpeech's *.trans.txt" if folder.is_dir() else "is no folder"
        raise SystemExit(f"{folder} {what}")
    if limit is None or limit >= len(utterances):
        return utterances
    return [utterances[round(at)] for at in np.linspace(0, len(utterances) - 1, limit)]


def _manifest(folder: Path) -> list[Utterance]:
    with (folder / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [Utterance(folder / row["path"], row.get("speaker", ""), row["text"]) for row in rows]


def _librispeech(folder: Path) -> list[Utterance]:
    found = []
    for transcripts in sorted(folder.rglob("*.trans.txt")):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            name, text = line.split(" ", 1)
            found.append(Utterance(transcripts.parent / f"{name}.flac", name.split("-")[0], text))
    return found


@dataclass(frozen=True, slots=True)
class Placed:
    """A recording in a longer one, and where it begins there.

    Attributes:
        samples: its own.
    """

    utterance: Utterance
    samples: FloatArray
    start_s: float

    @property
    def name(self) -> str:
        """Of its file, without the ending."""
        return self.utterance.path.stem


@dataclass(frozen=True, slots=True)
class Programme:
    """Recordings one after the other, as one would hear them.

    Attributes:
        samples: of all of them with the pauses between.
        places: in the order of their times.
    """

    samples: FloatArray
    places: tuple[Placed, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def assembled(utterances: Sequence[Utterance], seconds: float, seed: int, *, again: bool = True) -> Programme:
    """Recordings in random order with a pause behind each, until there are that many seconds.

    The last one is heard to its end, so that no word is cut.

    Args:
        again: begin again when all have been heard; otherwise the programme ends there.
    """
    rng = np.random.default_rng(seed)
    parts: list[FloatArray] = []
    places: list[Placed] = []
    length = 0
    while length < seconds * SAMPLE_RATE:
        for at in rng.permutation(len(utterances)):
            places.append(Placed(utterances[at], utterances[at].samples(), length / SAMPLE_RATE))
            pause = np.zeros(int(rng.uniform(*PAUSE_S) * SAMPLE_RATE), dtype=np.float32)
            parts += [places[-1].samples, pause]
            length += sum(map(len, parts[-2:]))
            if length >= seconds * SAMPLE_RATE:
                break
        if not again:
            break
    return Programme(np.concatenate(parts), tuple(places))
