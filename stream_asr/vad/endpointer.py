"""The endpointer: where utterances start and end.

A voice detector classifies frames of 10 to 32 ms, and its results flicker. An utterance starts when a window of recent
frames contains enough voiced ones, and ends when a longer window contains almost none. Frames lie on a fixed grid and
no clock is involved, so the boundaries depend on the samples alone, not on the sizes of audio blocks.
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


class EndReason(Enum):
    """Why an utterance ended."""

    ENDPOINT = "endpoint"
    """The speaker paused."""

    MAX_LENGTH = "max_length"
    """The utterance reached its maximum length."""

    FLUSH = "flush"
    """The caller flushed the stream, or the audio ended."""


@dataclass(frozen=True, slots=True)
class UtteranceStart:
    """The start of an utterance.

    Attributes:
        position: absolute sample at which the utterance starts.
        decided_at: end of the audio that was processed when the start was found.
    """

    position: int
    decided_at: int


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """The end of an utterance.

    Attributes:
        position: absolute sample at which the utterance ends.
        decided_at: end of the audio that was processed when the end was found.
        reason: why the utterance ended.
    """

    position: int
    decided_at: int
    reason: EndReason


Boundary: TypeAlias = UtteranceStart | UtteranceEnd


class Endpointer:
    """Divides one stream into utterances.

    Starts and ends alternate. Each lies at a multiple of ``grid_samples``, except for the end of the stream.

    Args:
        config: durations and thresholds.
        grid_samples: length of a model frame, so that the frames of all utterances lie on one absolute grid.
        cut_search_samples: how far back a forced cut may search for a quiet place. It must not exceed the right
            context of commit windows, because earlier frames may be stable text already.
        detector: the voice detector, which determines the length of VAD frames.
    """

    def __init__(
        self, config: SegmenterConfig, grid_samples: int, cut_search_samples: int, detector: VoiceDetector
    ) -> None:
        self._config = config
        self._grid = grid_samples
        self._is_voiced = detector
        self._frame_samples = detector.frame_samples
        self._start_frames = max(1, self._to_frames(config.start_window_ms))
        self._min_voiced = max(1, self._to_frames(config.min_speech_ms))
        self._pre_roll = ms_to_samples(config.pre_roll_ms)
        self._max_utterance = ms_to_samples(config.max_utterance_ms)
        self._energies: deque[float] = deque(maxlen=max(1, cut_search_samples // self._frame_samples))
        # A bit for each recent frame, the newest one lowest, so that counting voiced frames is counting ones.
        self._voiced_bits = 0
        self._bits_mask = (1 << max(self._start_frames, self._to_frames(config.endpoint_ms) + 1)) - 1
        self._incomplete_frame: FloatArray = np.zeros(0, dtype=np.float32)
        self._position = 0
        self._last_voiced = 0
        self._previous_end = 0
        self._start: int | None = None

    @property
    def position(self) -> int:
        """End of the audio processed so far."""
        return self._position

    @property
    def last_voiced(self) -> int:
        """End of the newest voiced frame."""
        return self._last_voiced

    @property
    def earliest_start(self) -> int:
        """Lower bound on the start of the next utterance."""
        lookback = self._start_frames * self._frame_samples + self._pre_roll + self._grid
        return max(self._previous_end, self._position - lookback)

    def push(self, samples: FloatArray) -> list[Boundary]:
        """Process audio and return the boundaries found in it, in order.

        Args:
            samples: float32, shape (samples,), of any length.
        """
        joined = np.concatenate([self._incomplete_frame, samples]) if len(self._incomplete_frame) else samples
        step = self._frame_samples
        whole = len(joined) - len(joined) % step
        self._incomplete_frame = joined[whole:].copy()
        frames = joined[:whole].reshape(-1, step)
        pcm = np.clip(frames * 32768, -32768, 32767).astype("<i2").tobytes()
        boundaries: list[Boundary] = []
        for index, energy in enumerate(np.square(frames).sum(axis=1).tolist()):
            voiced = self._is_voiced(pcm[2 * index * step : 2 * (index + 1) * step])
            self._voiced_bits = (self._voiced_bits << 1 | voiced) & self._bits_mask
            self._energies.append(energy)
            self._position += step
            if voiced:
                self._last_voiced = self._position
            boundaries += self._find_boundaries()
        return boundaries

    def flush(self) -> list[Boundary]:
        """End the current utterance, if there is one, and continue with the stream."""
        return self._end_at(self._position - self._position % self._grid)

    def finish(self) -> list[Boundary]:
        """End the current utterance, if there is one, at the end of the stream."""
        return self._end_at(self._position + len(self._incomplete_frame))

    def _end_at(self, end: int) -> list[Boundary]:
        boundaries: list[Boundary] = []
        # Half of the usual speech starts an utterance here: the audio may end in the middle of its last word.
        if self._start is None and self._count_voiced(self._start_frames) >= max(1, self._min_voiced // 2):
            boundaries.append(self._start_utterance())
        if self._start is not None and end > self._start:
            boundaries.append(UtteranceEnd(end, end, EndReason.FLUSH))
            self._leave_utterance(end)
        return boundaries

    def _find_boundaries(self) -> list[Boundary]:
        """Return the boundaries that the newest frame decides."""
        if self._start is None:
            return [self._start_utterance()] if self._count_voiced(self._start_frames) >= self._min_voiced else []
        if self._has_paused(self._start):
            end = self._position - self._position % self._grid
            self._leave_utterance(end)
            return [UtteranceEnd(end, self._position, EndReason.ENDPOINT)]
        if self._position - self._start >= self._max_utterance:
            cut = self._find_quietest()
            self._previous_end = self._start = cut
            return [UtteranceEnd(cut, self._position, EndReason.MAX_LENGTH), UtteranceStart(cut, self._position)]
        return []

    def _start_utterance(self) -> UtteranceStart:
        recent = self._voiced_bits & ((1 << self._start_frames) - 1)
        onset = self._position - recent.bit_length() * self._frame_samples
        start = max(0, onset - self._pre_roll)
        self._start = max(self._previous_end, start - start % self._grid)
        return UtteranceStart(self._start, self._position)

    def _leave_utterance(self, end: int) -> None:
        self._start = None
        self._previous_end = end
        self._voiced_bits = 0

    def _has_paused(self, start: int) -> bool:
        """Return whether the speaker has been silent for long enough; a long utterance requires less silence."""
        config = self._config
        length = self._position - start
        shrink_from = config.shrink_from_ratio
        shrunk = max(0.0, (length / self._max_utterance - shrink_from) / (1 - shrink_from))
        required_ms = config.endpoint_ms - shrunk * (config.endpoint_ms - config.min_pause_ms)
        required = max(1, round(required_ms * SAMPLES_PER_MS / self._frame_samples))
        # Silence before the utterance does not count.
        if length < required * self._frame_samples:
            return False
        return self._count_voiced(required) <= required * config.endpoint_voiced_ratio

    def _find_quietest(self) -> int:
        """Return the quietest position, on the grid, that no stable text has passed yet."""
        energies = np.array(self._energies)
        kernel = np.ones(2 * self._config.cut_smoothing_frames + 1)
        smooth = np.convolve(energies, kernel, "same") / np.convolve(np.ones(len(energies)), kernel, "same")
        # Of equally quiet places, the last one: it leaves most of the utterance in one piece.
        frames_back = 1 + int(np.argmin(smooth[::-1]))
        earliest = self._position - len(energies) * self._frame_samples
        middle = self._position - frames_back * self._frame_samples + self._frame_samples // 2
        return max(-(-earliest // self._grid) * self._grid, middle - middle % self._grid)

    def _to_frames(self, duration_ms: int) -> int:
        """Convert milliseconds to whole VAD frames, rounded down."""
        return ms_to_samples(duration_ms) // self._frame_samples

    def _count_voiced(self, frames: int) -> int:
        """Return how many of the newest frames are voiced."""
        return (self._voiced_bits & ((1 << frames) - 1)).bit_count()
