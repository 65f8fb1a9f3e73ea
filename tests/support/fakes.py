"""A deterministic acoustic model, and sound that it recognizes, for tests of timing, order and errors.

The sound of a text is a staircase: each letter is a few frames of 20 ms with one amplitude. The model turns amplitudes
into letters. Like a real model it needs context: letters near the edges of a window come out garbled, so that frames
from the wrong part of a window show up in the text. Spaces are never garbled.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import numpy as np

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray

FRAME = 320
GARBLED = "#"
_TOKENS = ("", " ", *string.ascii_lowercase, GARBLED)
LABELS = Labels(_TOKENS, blank=0)
_STEP = 1 / 64
_SOUNDING_BLANK = 60
_LETTER_FRAMES, _GAP_FRAMES = 3, 1


def sound(text: str) -> FloatArray:
    """Return the sound of a text: 80 ms per letter, in whole frames."""
    levels: list[int] = []
    for letter in text:
        levels += [_TOKENS.index(letter)] * _LETTER_FRAMES + [_SOUNDING_BLANK] * _GAP_FRAMES
    return np.repeat(np.array(levels, dtype=np.float32) * _STEP, FRAME).astype(np.float32)


def silence(seconds: float) -> FloatArray:
    """Return digital silence, in whole frames."""
    return np.zeros(round(seconds * 16_000 / FRAME) * FRAME, dtype=np.float32)


def conversation(*sentences: str, pause_s: float = 0.8) -> FloatArray:
    """Return the sound of sentences with pauses before, between and after them."""
    parts = [silence(pause_s)]
    for sentence in sentences:
        parts += [sound(sentence), silence(pause_s)]
    return np.concatenate(parts)


class Loud:
    """A `VoiceDetector` for which everything but digital silence is voiced."""

    def __init__(self, frame_ms: int) -> None:
        self.frame_samples = 16 * frame_ms

    def __call__(self, frame: bytes) -> bool:
        assert len(frame) == 2 * self.frame_samples
        return bool(frame.strip(b"\0"))


loud = Loud(20)


class FakeModel:
    """An `AcousticModel` that recognizes `sound`.

    Args:
        before: called with the windows of each batch before it runs; it may advance a clock or raise an error.
        context_frames: number of frames at each edge of a window in which letters are garbled.
        pads: see `AcousticModel`.
        batches_commit_windows: see `AcousticModel`.
        doubtful: give each letter's successor in the alphabet almost the same probability.

    Attributes:
        batches: lengths of the windows of each batch, in samples.
    """

    name = "fake"
    frame_samples = FRAME
    max_window_samples: int | None = None
    parallel_windows: int | None = None
    labels = LABELS

    def __init__(
        self,
        before: Callable[[Sequence[FloatArray]], None] | None = None,
        *,
        context_frames: int = 5,
        pads: bool = False,
        batches_commit_windows: bool = True,
        doubtful: bool = False,
    ) -> None:
        self.batches: list[list[int]] = []
        self.pads, self.batches_commit_windows = pads, batches_commit_windows
        self._before = before
        self._context_frames = context_frames
        self._doubtful = doubtful

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        assert self.pads or len({len(window) for window in windows}) == 1
        self.batches.append([len(window) for window in windows])
        if self._before is not None:
            self._before(windows)
        return [self._recognize(window) for window in windows]

    def _recognize(self, window: FloatArray) -> FloatArray:
        assert len(window) % FRAME == 0
        frames = window.reshape(-1, FRAME)
        ids = np.rint(np.abs(frames).mean(axis=1) / _STEP).astype(int)
        ids[ids >= len(_TOKENS)] = LABELS.blank
        at_edge = np.ones(len(ids), dtype=bool)
        at_edge[self._context_frames : max(self._context_frames, len(ids) - self._context_frames)] = False
        ids[at_edge & (ids > 1)] = len(_TOKENS) - 1
        log_probs = np.full((len(ids), len(_TOKENS)), -10.0, dtype=np.float32)
        if self._doubtful:
            letters = np.flatnonzero((ids > 1) & (ids < len(_TOKENS) - 1))
            log_probs[letters, (ids[letters] - 1) % 26 + 2] = -0.9
        log_probs[np.arange(len(ids)), ids] = -0.6 if self._doubtful else -0.1
        return log_probs
