"""Where utterances start and end: voice activity with hysteresis, counted in samples.

A voice detector judges frames of 10 to 32 ms, and its verdicts flicker. An utterance starts when a ring of
recent frames holds enough voiced ones, and ends when another, longer one holds almost none. Frames lie on a
fixed grid and nothing here knows a clock, so the boundaries depend on the samples alone, not on how they were
cut into blocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLES_PER_MS, SegmenterConfig, ms_to_samples
from stream_asr.vad.detector import VoiceDetector

_SHORTENING = 0.75
"""Share of the longest utterance after which ever shorter pauses end it."""

_SMOOTHING_FRAMES = 3
"""Frames on either side that count towards how quiet a place is: the closure of a "t" is not a pause."""


class End(Enum):
    """Why an utterance ended."""

    ENDPOINT = "endpoint"
    """The speaker paused."""

    LONGEST = "longest"
    """It reached the longest length allowed."""

    FLUSH = "flush"
    """The caller asked for it, or the stream ended."""


@dataclass(frozen=True, slots=True)
class UtteranceStart:
    """Speech was found; the utterance begins at ``position``, which lies before ``decided_at``."""

    position: int
    decided_at: int


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """The utterance covers samples up to ``position``; that was known once ``decided_at`` samples were heard."""

    position: int
    decided_at: int
    reason: End


Boundary: TypeAlias = UtteranceStart | UtteranceEnd


class Endpointer:
    """Feed samples, get boundaries: starts and ends in turn, each at a multiple of ``grid_samples``.

    Args:
        config: durations and thresholds.
        grid_samples: the model's frame length, so that every utterance's frames lie on one absolute grid.
        cut_search_ms: how far back a forced cut may look for a quiet place. It must not exceed the right
            context of the windows: frames further back may have become stable text already.
        detector: what calls a frame voiced. It says how long frames are.
    """

    def __init__(self, config: SegmenterConfig, grid_samples: int, cut_search_ms: int, detector: VoiceDetector) -> None:
        self._config = config
        self._grid = grid_samples
        self._is_voiced = detector
        self._frame_samples = detector.frame_samples
        self._start_frames = max(1, self._frames(config.start_window_ms))
        self._min_voiced = max(1, self._frames(config.min_speech_ms))
        self._pre_roll = ms_to_samples(config.pre_roll_ms)
        self._longest = ms_to_samples(config.max_utterance_ms)
        self._energies: deque[float] = deque(maxlen=max(1, self._frames(cut_search_ms)))
        # Newest verdict in the lowest bit: counting voiced frames is then counting ones.
        self._voiced = 0
        self._remembered = (1 << max(self._start_frames, self._frames(config.endpoint_ms) + 1)) - 1
        self._rest: FloatArray = np.zeros(0, dtype=np.float32)
        self._position = 0
        self._last_voiced = 0
        self._floor = 0
        self._start: int | None = None

    @property
    def position(self) -> int:
        """Samples judged so far."""
        return self._position

    @property
    def last_voiced(self) -> int:
        """Position after the newest frame that was called voiced."""
        return self._last_voiced

    @property
    def earliest_start(self) -> int:
        """No utterance that is yet to be announced begins before this sample."""
        lookback = self._start_frames * self._frame_samples + self._pre_roll + self._grid
        return max(self._floor, self._position - lookback)

    def push(self, samples: FloatArray) -> list[Boundary]:
        """Judge ``samples``, float32 of shape (samples,), and return the boundaries they decide, in order."""
        joined = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        step = self._frame_samples
        whole = len(joined) - len(joined) % step
        self._rest = joined[whole:].copy()
        frames = joined[:whole].reshape(-1, step)
        pcm = np.clip(frames * 32768, -32768, 32767).astype("<i2").tobytes()
        boundaries: list[Boundary] = []
        for index, energy in enumerate(np.square(frames).sum(axis=1).tolist()):
            voiced = self._is_voiced(pcm[2 * index * step : 2 * (index + 1) * step])
            self._voiced = (self._voiced << 1 | voiced) & self._remembered
            self._energies.append(energy)
            self._position += step
            if voiced:
                self._last_voiced = self._position
            boundaries += self._judge()
        return boundaries

    def flush(self) -> list[Boundary]:
        """End the utterance now, if there is one; the stream goes on."""
        return self._end_at(self._position - self._position % self._grid)

    def finish(self) -> list[Boundary]:
        """There is no more audio: end the utterance with the very last sample."""
        return self._end_at(self._position + len(self._rest))

    def _end_at(self, end: int) -> list[Boundary]:
        boundaries: list[Boundary] = []
        # Speech too short to have been announced is announced here if it was half long enough: audio may
        # end in the middle of its last word.
        if self._start is None and self._voiced_in(self._start_frames) >= max(1, self._min_voiced // 2):
            boundaries.append(self._begin())
        if self._start is not None and end > self._start:
            boundaries.append(UtteranceEnd(end, end, End.FLUSH))
            self._leave(end)
        return boundaries

    def _judge(self) -> list[Boundary]:
        if self._start is None:
            return [self._begin()] if self._voiced_in(self._start_frames) >= self._min_voiced else []
        if self._paused():
            end = self._position - self._position % self._grid
            self._leave(end)
            return [UtteranceEnd(end, self._position, End.ENDPOINT)]
        if self._position - self._start >= self._longest:
            cut = self._quietest()
            self._floor = self._start = cut
            return [UtteranceEnd(cut, self._position, End.LONGEST), UtteranceStart(cut, self._position)]
        return []

    def _begin(self) -> UtteranceStart:
        recent = self._voiced & ((1 << self._start_frames) - 1)
        onset = self._position - recent.bit_length() * self._frame_samples
        start = max(0, onset - self._pre_roll)
        self._start = max(self._floor, start - start % self._grid)
        return UtteranceStart(self._start, self._position)

    def _leave(self, end: int) -> None:
        self._start = None
        self._floor = end
        self._voiced = 0

    def _paused(self) -> bool:
        assert self._start is not None
        config = self._config
        length = self._position - self._start
        pressure = max(0.0, (length / self._longest - _SHORTENING) / (1 - _SHORTENING))
        needed_ms = config.endpoint_ms - pressure * (config.endpoint_ms - config.min_pause_ms)
        needed = max(1, round(needed_ms * SAMPLES_PER_MS / self._frame_samples))
        # Verdicts from before the utterance are not its pauses.
        if length < needed * self._frame_samples:
            return False
        return self._voiced_in(needed) <= needed * config.endpoint_voiced_ratio

    def _quietest(self) -> int:
        """The quietest place that no stable text has passed yet, on the grid."""
        energies = np.array(self._energies)
        kernel = np.ones(2 * _SMOOTHING_FRAMES + 1)
        smooth = np.convolve(energies, kernel, "same") / np.convolve(np.ones(len(energies)), kernel, "same")
        # Of equally quiet places the latest, which leaves the most of the utterance in one piece.
        frames_back = 1 + int(np.argmin(smooth[::-1]))
        earliest = self._position - len(energies) * self._frame_samples
        middle = self._position - frames_back * self._frame_samples + self._frame_samples // 2
        return max(-(-earliest // self._grid) * self._grid, middle - middle % self._grid)

    def _frames(self, duration_ms: int) -> int:
        """Whole frames in a duration."""
        return ms_to_samples(duration_ms) // self._frame_samples

    def _voiced_in(self, frames: int) -> int:
        return (self._voiced & ((1 << frames) - 1)).bit_count()
