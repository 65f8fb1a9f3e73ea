"""Frames of a CTC model, and best-path decoding: from frames to tokens, words, times and confidences.

Source: Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent
Neural Networks", 2006, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_asr.acoustic.labels import Labels, split_token
from stream_asr.array_types import FloatArray
from stream_asr.decoding.base import Hypothesis
from stream_asr.events import Word


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The log-probabilities of consecutive frames.

    Attributes:
        start_frame: index of the first frame on the stream's absolute grid.
        log_probs: natural logarithms, float32, shape (frames, tokens).
    """

    start_frame: int
    log_probs: FloatArray

    @classmethod
    def empty(cls, start_frame: int) -> Frames:
        """Return no frames, at a place on the grid."""
        return cls(start_frame, np.zeros((0, 0), dtype=np.float32))

    def between(self, start: int, stop: int) -> Frames:
        """Return the frames in [start, stop) of the absolute grid."""
        first = max(start, self.start_frame)
        return Frames(first, self.log_probs[first - self.start_frame : max(first, stop) - self.start_frame])

    def since(self, start: int) -> Frames:
        """Return a copy of the frames from ``start`` on; a view would keep a whole batch of windows in memory."""
        part = self.between(start, self.start_frame + len(self.log_probs))
        return Frames(part.start_frame, part.log_probs.copy())


@dataclass(frozen=True, slots=True)
class BestPath:
    """The most probable token of each of some consecutive frames.

    Attributes:
        start_frame: index of the first frame on the stream's absolute grid.
        ids: the token of each frame, int32, shape (frames,).
        probabilities: the posterior of each of these tokens, float32, shape (frames,).
    """

    start_frame: int
    ids: npt.NDArray[np.int32]
    probabilities: FloatArray

    @property
    def stop_frame(self) -> int:
        """Index of the frame after the last one."""
        return self.start_frame + len(self.ids)

    @classmethod
    def from_log_probs(cls, log_probs: FloatArray, start_frame: int) -> BestPath:
        """Return the best path through ``log_probs``, natural logarithms, float32, shape (frames, tokens)."""
        if not len(log_probs):
            return cls.empty(start_frame)
        ids = log_probs.argmax(axis=1).astype(np.int32)
        return cls(start_frame, ids, np.exp(log_probs.max(axis=1)))

    @classmethod
    def empty(cls, start_frame: int) -> BestPath:
        """Return a path without frames, at a place on the grid."""
        return cls(start_frame, np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))

    def pad(self, stop_frame: int, blank: int) -> BestPath:
        """Return the path with blanks appended until it reaches ``stop_frame``."""
        missing = max(0, stop_frame - self.stop_frame)
        blanks = BestPath(self.stop_frame, np.full(missing, blank, dtype=np.int32), np.ones(missing, dtype=np.float32))
        return self.append(blanks) if missing else self

    def append(self, other: BestPath) -> BestPath:
        """Return the path followed by ``other``, which begins where the path stops."""
        return BestPath(
            self.start_frame,
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.probabilities, other.probabilities]),
        )


def decode(path: BestPath, labels: Labels, frame_samples: int) -> Hypothesis:
    """Collapse a path to words: merge repeated tokens, drop blanks, join tokens to words.

    The confidence of a token is the highest posterior of its frames, because a CTC model predicts a token with
    certainty in one frame, with blanks around it. The confidence of a word is the mean of its tokens' confidences.

    Args:
        path: consecutive frames of one utterance.
        labels: the model's tokens.
        frame_samples: length of a frame in samples at 16 kHz.
    """
    words: list[Word] = []
    letters: list[str] = []
    confidences: list[float] = []
    first_frame = stop_frame = complete = 0

    def complete_word() -> None:
        if letters:
            confidence = sum(confidences) / len(confidences)
            words.append(Word.in_frames("".join(letters), first_frame, stop_frame, confidence, frame_samples))
            letters.clear()
            confidences.clear()

    for token, start, stop, peak in _runs(path):
        if token == labels.blank:
            continue
        for starts_word, part in split_token(labels.tokens[token]):
            if starts_word:
                complete_word()
                complete = len(words)
            if part:
                if not letters:
                    first_frame = path.start_frame + start
                letters.append(part)
                confidences.append(peak)
                stop_frame = path.start_frame + stop
    complete_word()
    return Hypothesis(tuple(words), complete)


def _runs(path: BestPath) -> list[tuple[int, int, int, float]]:
    """Return the runs of equal tokens.

    Returns:
        The token, its first frame, the frame after its last one, both counted from the start of the path, and the
        highest posterior.
    """
    if not len(path.ids):
        return []
    starts = np.concatenate([[0], np.flatnonzero(np.diff(path.ids)) + 1])
    stops = np.concatenate([starts[1:], [len(path.ids)]])
    peaks = np.maximum.reduceat(path.probabilities, starts)
    return list(zip(path.ids[starts].tolist(), starts.tolist(), stops.tolist(), peaks.tolist(), strict=True))
