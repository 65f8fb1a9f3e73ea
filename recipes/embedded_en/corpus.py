"""Packed recordings: all samples in one array on disk, with a table of texts.

Decoding compressed audio in each epoch would take as long as training on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recipes.embedded_en.segments import Pause
from recipes.embedded_en.settings import MIN_PAUSE_S
from stream_asr.acoustic.base import AcousticModel
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.decoding.alignment import AlignedWord, ForcedAligner
from stream_asr.errors import InputError
from stream_asr.training.clips import read_clip
from stream_asr.training.manifest import Row, read_manifest

ARRAY, INDEX = "array.npy", "index.jsonl"

Samples = npt.NDArray[np.int16]
Array = npt.NDArray[np.int16] | npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Recording:
    """An utterance of a corpus.

    Attributes:
        speaker: name of the speaker.
        text: its words in lower case.
        offset: start of the recording in the array.
        length: length of the recording in the array.
        pauses: where it may be cut.
    """

    speaker: str
    text: str
    offset: int
    length: int
    pauses: tuple[Pause, ...] = ()


@dataclass(frozen=True, slots=True)
class Corpus:
    """A list of recordings that share one array.

    Attributes:
        recordings: the recordings.
        array: samples, int16, shape (samples,); or states, i.e. outputs of the frozen layers, float16, shape
            (frames, width).
        rate: samples or frames per second.
    """

    recordings: Sequence[Recording]
    array: Array
    rate: float = SAMPLE_RATE

    @classmethod
    def load(cls, folder: Path, rate: float = SAMPLE_RATE) -> Corpus:
        """Open a folder that `save` wrote. The array is memory-mapped."""
        recordings = []
        for line in (folder / INDEX).read_text(encoding="utf-8").splitlines():
            fields = json.loads(line)
            pauses = tuple(Pause(**pause) for pause in fields.pop("pauses"))
            recordings.append(Recording(**fields, pauses=pauses))
        return cls(recordings, np.load(folder / ARRAY, mmap_mode="r"), rate)

    def save(self, folder: Path) -> None:
        """Write the corpus. The table is written last: a folder with a table is complete."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / ARRAY, self.array)
        save_index(self.recordings, folder)

    def clip(self, recording: Recording, start: int = 0, stop: int | None = None) -> FloatArray:
        """Return a part of a recording as float32: samples in [-1, 1], or states."""
        part = self.array[recording.offset : recording.offset + recording.length][start:stop]
        scale = 1 / 32768 if part.dtype == np.int16 else 1
        clip: FloatArray = part.astype(np.float32) * np.float32(scale)
        return clip

    def with_recordings(self, recordings: Sequence[Recording]) -> Corpus:
        """Return a corpus with the same array and other recordings."""
        return replace(self, recordings=recordings)

    def split_speakers(self, speakers: Sequence[str]) -> tuple[Corpus, Corpus]:
        """Return the corpus without the given speakers, and the corpus with only these."""
        others = [recording for recording in self.recordings if recording.speaker not in speakers]
        selected = [recording for recording in self.recordings if recording.speaker in speakers]
        return self.with_recordings(others), self.with_recordings(selected)


def save_index(recordings: Sequence[Recording], folder: Path) -> None:
    """Write the table of a corpus."""
    lines = [json.dumps(asdict(recording)) for recording in recordings]
    (folder / INDEX).write_text("\n".join(lines) + "\n", encoding="utf-8")


def pack_recordings(manifest: Path, on_progress: Callable[[int, int], None]) -> Corpus:
    """Decode all recordings of a manifest.

    Args:
        manifest: path of the manifest.
        on_progress: called with the number of decoded recordings and the total number.

    Raises:
        InputError: a row or a recording is unusable.
    """
    rows, bad_rows = read_manifest(manifest)
    if bad_rows:
        raise InputError(f"{manifest}, line {bad_rows[0].line}: {bad_rows[0].reason}")
    recordings: list[Recording] = []
    parts: list[Samples] = []
    offset = 0
    for done, row in enumerate(rows):
        on_progress(done, len(rows))
        samples = _read_samples(row)
        recordings.append(Recording(row.speaker, " ".join(row.text.lower().split()), offset, len(samples)))
        parts.append(samples)
        offset += len(samples)
    return Corpus(recordings, np.concatenate(parts))


def find_pauses(
    corpus: Corpus, model: AcousticModel, longer_than_s: float, on_progress: Callable[[int, int], None]
) -> Corpus:
    """Find the pauses of long recordings by forced alignment.

    Args:
        corpus: recordings as samples.
        model: a CTC model of English.
        longer_than_s: shorter recordings are never cut, so they are skipped.
        on_progress: called with the number of aligned recordings and the total number.

    Returns:
        The same corpus with pauses.
    """
    aligner = ForcedAligner(model.labels)
    recordings: list[Recording] = []
    for done, recording in enumerate(corpus.recordings):
        on_progress(done, len(corpus.recordings))
        pauses: Iterable[Pause] = ()
        if recording.length > longer_than_s * SAMPLE_RATE:
            whole_frames = recording.length // model.frame_samples * model.frame_samples
            [log_probs] = model.log_probs([corpus.clip(recording, 0, whole_frames)])
            alignment = aligner.align(log_probs, recording.text.split())
            pauses = _pauses(alignment.words, model.frame_samples) if alignment.log_prob > -inf else ()
        recordings.append(replace(recording, pauses=tuple(pauses)))
    return corpus.with_recordings(recordings)


def _read_samples(row: Row) -> Samples:
    samples: Samples = (read_clip(row.path, row.start_s, row.end_s) * 32767).round().astype(np.int16)
    return samples


def _pauses(words: Sequence[AlignedWord], frame_samples: int) -> Iterable[Pause]:
    min_frames = MIN_PAUSE_S * SAMPLE_RATE / frame_samples
    for index, (word, following) in enumerate(pairwise(words), 1):
        before, after = word.last_token_frame, following.first_frame
        if after - before >= min_frames:
            yield Pause(index, (before + after + 1) * frame_samples // 2)
