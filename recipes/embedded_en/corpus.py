"""Recordings as the training processes read them: everything in one array on the disk, and a table of what is said.

Decoding compressed audio again for each epoch would cost as much as training on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recipes.embedded_en.alignment import align
from recipes.embedded_en.segments import Pause
from stream_asr.acoustic.base import AcousticModel
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.clips import read_clip
from stream_asr.training.manifest import Row, read_manifest

ARRAY, INDEX = "array.npy", "index.jsonl"
_SHORTEST_PAUSE_S = 0.12
"""From the last letter of a word to the first of the next, as CTC places them: a cut in between harms neither."""

Samples = npt.NDArray[np.int16]
Array = npt.NDArray[np.int16] | npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Recording:
    """One utterance of a corpus.

    Attributes:
        offset, length: of its part of the array.
        pauses: where it may be cut.
    """

    speaker: str
    text: str
    offset: int
    length: int
    pauses: tuple[Pause, ...] = ()


@dataclass(frozen=True, slots=True)
class Corpus:
    """Recordings, one after the other.

    Attributes:
        array: their samples, int16, shape (samples,); or what the frozen layers of a model make of them, float16,
            shape (frames, width).
        rate: samples or frames a second.
    """

    recordings: Sequence[Recording]
    array: Array
    rate: float = SAMPLE_RATE

    @classmethod
    def load(cls, folder: Path, rate: float = SAMPLE_RATE) -> Corpus:
        """Open a folder that `save` made; the array stays on the disk until it is used."""
        recordings = []
        for line in (folder / INDEX).read_text(encoding="utf-8").splitlines():
            fields = json.loads(line)
            pauses = tuple(Pause(**pause) for pause in fields.pop("pauses"))
            recordings.append(Recording(**fields, pauses=pauses))
        return cls(recordings, np.load(folder / ARRAY, mmap_mode="r"), rate)

    def save(self, folder: Path) -> None:
        """The table last: where it stands, the folder is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / ARRAY, self.array)
        save_index(self.recordings, folder)

    def clip(self, recording: Recording, start: int = 0, stop: int | None = None) -> FloatArray:
        """A part of a recording, float32: samples in [-1, 1], or frames."""
        part = self.array[recording.offset : recording.offset + recording.length][start:stop]
        scale = 1 / 32768 if part.dtype == np.int16 else 1
        clip: FloatArray = part.astype(np.float32) * np.float32(scale)
        return clip

    def of(self, recordings: Sequence[Recording]) -> Corpus:
        """The same array with other recordings of it."""
        return replace(self, recordings=recordings)


def save_index(recordings: Sequence[Recording], folder: Path) -> None:
    lines = [json.dumps(asdict(recording)) for recording in recordings]
    (folder / INDEX).write_text("\n".join(lines) + "\n", encoding="utf-8")


def packed(manifest: Path, working: Callable[[int, int], None]) -> Corpus:
    """Read all recordings of a manifest.

    Args:
        working: called with how many are done, and of how many.

    Raises:
        InputError: a row or a recording cannot be used.
    """
    rows, bad = read_manifest(manifest)
    if bad:
        raise InputError(f"{manifest}, line {bad[0].line}: {bad[0].why}")
    recordings: list[Recording] = []
    parts: list[Samples] = []
    offset = 0
    for done, row in enumerate(rows):
        working(done, len(rows))
        samples = _samples(row)
        recordings.append(Recording(row.speaker, " ".join(row.text.lower().split()), offset, len(samples)))
        parts.append(samples)
        offset += len(samples)
    return Corpus(recordings, np.concatenate(parts))


def with_pauses(
    corpus: Corpus, model: AcousticModel, longer_than_s: float, working: Callable[[int, int], None]
) -> Corpus:
    """The same corpus with the pauses of its long recordings, found by a model that already understands them.

    Args:
        longer_than_s: shorter recordings are never cut, so theirs are not looked for.
    """
    alphabet = Alphabet(model.labels)
    found: list[Recording] = []
    for done, recording in enumerate(corpus.recordings):
        working(done, len(corpus.recordings))
        pauses: Iterable[Pause] = ()
        if recording.length > longer_than_s * SAMPLE_RATE:
            whole = recording.length // model.frame_samples * model.frame_samples
            [log_probs] = model.log_probs([corpus.clip(recording, 0, whole)])
            ids = alphabet.spell(recording.text).ids
            begins = align(log_probs, ids, model.labels.blank)
            pauses = _pauses(begins, recording.text, model.frame_samples) if begins is not None else ()
        found.append(replace(recording, pauses=tuple(pauses)))
    return corpus.of(found)


def _samples(row: Row) -> Samples:
    samples: Samples = (read_clip(row.path, row.start_s, row.end_s) * 32767).round().astype(np.int16)
    return samples


def _pauses(begins: npt.NDArray[np.int64], text: str, frame_samples: int) -> Iterable[Pause]:
    shortest = _SHORTEST_PAUSE_S * SAMPLE_RATE / frame_samples
    spaces = [place for place, character in enumerate(text) if character == " "]
    for word, place in enumerate(spaces, 1):
        before, after = begins[place - 1], begins[place + 1]
        if after - before >= shortest:
            yield Pause(word, int((before + after + 1) * frame_samples // 2))
