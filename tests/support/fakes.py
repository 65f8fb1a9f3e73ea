"""A deterministic acoustic model and sound that it understands, for tests of timing, order and faults.

The sound of a text is a staircase: each letter is some 20 ms frames of one amplitude. The model reads the
amplitudes back. Like a real one it needs context: letters near the edges of its window come out garbled (spaces
do not), so frames kept from the wrong part of a window show up in the text.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import numpy as np

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray

FRAME = 320
GARBLED = "#"
_PIECES = ("", " ", *string.ascii_lowercase, GARBLED)
LABELS = Labels(_PIECES, blank=0)
_STEP = 1 / 64
_SOUNDING_BLANK = 60
_LETTER_FRAMES, _REST_FRAMES = 3, 1


def sound(text: str) -> FloatArray:
    """A text as audio: 80 ms a letter, in whole frames."""
    levels: list[int] = []
    for letter in text:
        levels += [_PIECES.index(letter)] * _LETTER_FRAMES + [_SOUNDING_BLANK] * _REST_FRAMES
    return np.repeat(np.array(levels, dtype=np.float32) * _STEP, FRAME).astype(np.float32)


def silence(seconds: float) -> FloatArray:
    return np.zeros(round(seconds * 16_000 / FRAME) * FRAME, dtype=np.float32)


def conversation(*sentences: str, pause_s: float = 0.8) -> FloatArray:
    """The sentences with pauses before, between and after them."""
    parts = [silence(pause_s)]
    for sentence in sentences:
        parts += [sound(sentence), silence(pause_s)]
    return np.concatenate(parts)


class Loud:
    """A voice detector: all that is not digital silence is voice."""

    def __init__(self, frame_ms: int) -> None:
        self.frame_samples = 16 * frame_ms

    def __call__(self, frame: bytes) -> bool:
        assert len(frame) == 2 * self.frame_samples
        return bool(frame.strip(b"\0"))


loud = Loud(20)


class FakeModel:
    """See the module.

    Args:
        before: is called with the windows of each batch, and may advance a clock or raise.
        doubtful: every letter might as well be the next one of the alphabet.
    """

    name = "fake"
    frame_samples = FRAME
    longest_samples: int | None = None
    most_windows: int | None = None
    labels = LABELS

    def __init__(
        self,
        before: Callable[[Sequence[FloatArray]], None] | None = None,
        *,
        context_frames: int = 5,
        pads: bool = False,
        batches_kept_windows: bool = True,
        doubtful: bool = False,
    ) -> None:
        self.batches: list[list[int]] = []
        self.pads, self.batches_kept_windows = pads, batches_kept_windows
        self._before = before
        self._context = context_frames
        self._doubtful = doubtful

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        assert self.pads or len({len(window) for window in windows}) == 1
        self.batches.append([len(window) for window in windows])
        if self._before is not None:
            self._before(windows)
        return [self._read(window) for window in windows]

    def _read(self, window: FloatArray) -> FloatArray:
        assert len(window) % FRAME == 0
        frames = window.reshape(-1, FRAME)
        ids = np.rint(np.abs(frames).mean(axis=1) / _STEP).astype(int)
        ids[ids >= len(_PIECES)] = LABELS.blank
        edge = np.ones(len(ids), dtype=bool)
        edge[self._context : max(self._context, len(ids) - self._context)] = False
        ids[edge & (ids > 1)] = len(_PIECES) - 1
        log_probs = np.full((len(ids), len(_PIECES)), -10.0, dtype=np.float32)
        if self._doubtful:
            letters = np.flatnonzero((ids > 1) & (ids < len(_PIECES) - 1))
            log_probs[letters, (ids[letters] - 1) % 26 + 2] = -0.9
        log_probs[np.arange(len(ids)), ids] = -0.6 if self._doubtful else -0.1
        return log_probs
