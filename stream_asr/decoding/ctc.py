"""What a CTC model says of frames; greedily, from frames to tokens, words, times and confidences.

Source: best-path decoding, Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented
Sequence Data with Recurrent Neural Networks", 2006, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.base import Hypothesis
from stream_asr.events import Word


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """What a model said of a run of frames.

    Attributes:
        start_frame: place of the first of them on the stream's absolute grid.
        log_probs: natural logarithms, float32, shape (frames, pieces).
    """

    start_frame: int
    log_probs: FloatArray

    @classmethod
    def empty(cls, start_frame: int) -> Frames:
        return cls(start_frame, np.zeros((0, 0), dtype=np.float32))

    def between(self, start: int, stop: int) -> Frames:
        """The part of it that lies in [start, stop) of the absolute grid."""
        first = max(start, self.start_frame)
        return Frames(first, self.log_probs[first - self.start_frame : max(first, stop) - self.start_frame])

    def since(self, start: int) -> Frames:
        """The part of it from ``start`` on, as a copy: a slice would keep a whole batch of windows alive."""
        part = self.between(start, self.start_frame + len(self.log_probs))
        return Frames(part.start_frame, part.log_probs.copy())


@dataclass(frozen=True, slots=True)
class BestPath:
    """The most probable output of each of a run of frames: all that greedy decoding needs of log-probabilities.

    Attributes:
        start_frame: place of the first frame on the stream's absolute grid.
        ids: int32, shape (frames,).
        probabilities: posterior of each of them, float32, shape (frames,).
    """

    start_frame: int
    ids: npt.NDArray[np.int32]
    probabilities: FloatArray

    @property
    def stop_frame(self) -> int:
        return self.start_frame + len(self.ids)

    @classmethod
    def best(cls, log_probs: FloatArray, start_frame: int) -> BestPath:
        """The best path through ``log_probs``, natural logarithms, float32, shape (frames, pieces)."""
        if not len(log_probs):
            return cls.empty(start_frame)
        ids = log_probs.argmax(axis=1).astype(np.int32)
        return cls(start_frame, ids, np.exp(log_probs.max(axis=1)))

    @classmethod
    def empty(cls, start_frame: int) -> BestPath:
        return cls(start_frame, np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))

    def padded(self, stop_frame: int, blank: int) -> BestPath:
        """The same path with blanks up to ``stop_frame``, if it does not reach that far."""
        missing = max(0, stop_frame - self.stop_frame)
        blanks = BestPath(self.stop_frame, np.full(missing, blank, dtype=np.int32), np.ones(missing, dtype=np.float32))
        return self.joined(blanks) if missing else self

    def joined(self, other: BestPath) -> BestPath:
        """This path and, after it on the grid, ``other``."""
        return BestPath(
            self.start_frame,
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.probabilities, other.probabilities]),
        )


def decode(path: BestPath, labels: Labels, frame_samples: int) -> Hypothesis:
    """The words of a path, with their times: collapse repeats, drop blanks, join pieces into words.

    A token's confidence is the highest posterior among its frames (CTC is sure of a token in one frame and
    blank around it), a word's is the mean over its tokens.

    Args:
        path: frames of one utterance without holes.
        labels: what the ids spell.
        frame_samples: length of a frame in samples at 16 kHz.
    """
    words: list[Word] = []
    letters: list[str] = []
    confidences: list[float] = []
    first_frame = last_frame = 0

    def close_word() -> None:
        if letters:
            words.append(
                Word.in_frames(
                    "".join(letters),
                    path.start_frame + first_frame,
                    path.start_frame + last_frame,
                    sum(confidences) / len(confidences),
                    frame_samples,
                )
            )
            letters.clear()
            confidences.clear()

    complete = 0
    for token, first, stop, confidence in _runs(path):
        if token == labels.blank:
            continue
        # A piece may hold a space anywhere, though only at its front in the vocabularies we know of.
        head, *further = labels.tokens[token].split(" ")
        for starts_word, part in ((False, head), *((True, part) for part in further)):
            if starts_word:
                close_word()
                complete = len(words)
            if part:
                if not letters:
                    first_frame = first
                letters.append(part)
                confidences.append(confidence)
                last_frame = stop
    close_word()
    return Hypothesis(tuple(words), complete)


def _runs(path: BestPath) -> list[tuple[int, int, int, float]]:
    """Runs of one id: (id, first frame, frame after the last, peak posterior); frames count from the path's start."""
    if not len(path.ids):
        return []
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(path.ids)) + 1])
    stops = np.concatenate([firsts[1:], [len(path.ids)]])
    peaks = np.maximum.reduceat(path.probabilities, firsts)
    return list(zip(path.ids[firsts].tolist(), firsts.tolist(), stops.tolist(), peaks.tolist(), strict=True))
