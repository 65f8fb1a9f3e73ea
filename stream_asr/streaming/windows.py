"""The windows of an utterance: which samples the model gets in one pass, and which of its frames count.

Commit windows lie on a grid fixed by the utterance's own samples: window i covers the samples [iS - L, iS + S + R) of
the utterance, and the frames of its middle S samples are committed. Commit windows alone decide the final text, which
therefore depends neither on pacing nor on load. Preview windows reach up to the newest audio in between. Their text is
shown and discarded, so they need little left context.

Source: the stride trimming of overlapping CTC windows, as in "Making automatic speech recognition work on large files
with Wav2Vec2 in Transformers" (Patry, 2022), on a grid that does not depend on the size of audio blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream_asr.config import SAMPLES_PER_MS, RecognizerConfig, WindowConfig, min_buffer_ms, ms_to_frames


@dataclass(frozen=True, slots=True)
class Window:
    """A window, in absolute sample positions.

    Attributes:
        start, stop: the model gets the samples [start, stop).
        new_start, new_stop: the part whose frames count; the rest is context. A commit window commits these frames, a
            preview window shows them after the committed ones.
        silence_from: from this sample on, the model gets silence instead of the audio; None for none.
    """

    start: int
    stop: int
    new_start: int
    new_stop: int
    silence_from: int | None = None

    @property
    def new_samples(self) -> int:
        """Length of the part whose frames count."""
        return self.new_stop - self.new_start

    @property
    def audio_end(self) -> int:
        """End of the audio in the window."""
        return self.stop if self.silence_from is None else self.silence_from


@dataclass(frozen=True, slots=True)
class WindowGeometry:
    """Lengths of windows in samples, each a multiple of the frame length.

    Attributes:
        left, commit, right: L, S and R of commit windows.
        preview_left: left context of preview windows.
        preview_right: right context of the audio that previews need not encode again; None to encode all of it again.
        preview_interval: minimum new audio between two preview windows.
        end_silence: silence after the end of an utterance.
        frame: length of a model frame.
    """

    left: int
    commit: int
    right: int
    preview_left: int
    preview_right: int | None
    preview_interval: int
    end_silence: int
    frame: int

    @classmethod
    def from_config(
        cls, config: WindowConfig, frame_samples: int, max_window_samples: int | None = None
    ) -> WindowGeometry:
        """Round the lengths up to whole frames, and shorten the left context to what the model accepts.

        Args:
            config: lengths in milliseconds.
            frame_samples: length of a model frame.
            max_window_samples: longest window that the model accepts; None for no limit.

        Raises:
            ValueError: S + R alone are longer than the longest window.
        """

        def to_samples(duration_ms: int) -> int:
            return ms_to_frames(duration_ms, frame_samples) * frame_samples

        left, commit, right = map(to_samples, (config.left_context_ms, config.commit_ms, config.right_context_ms))
        right = max(right, frame_samples)  # the receptive field of a frame extends a little beyond its end
        end_silence = min(to_samples(config.end_silence_ms), right)
        if max_window_samples is not None:
            room = max_window_samples - commit - right
            if room < 0:
                raise ValueError(
                    f"commit_ms + right_context_ms exceed the model's longest input of {max_window_samples} samples"
                )
            room -= room % frame_samples
            end_silence = min(end_silence, room)
            left = min(left, room - end_silence)
        preview_left = min(left, to_samples(config.preview_left_context_ms))
        preview_right = None
        if config.preview_right_context_ms is not None:
            preview_right = max(to_samples(config.preview_right_context_ms), frame_samples)
        interval = to_samples(config.preview_interval_ms)
        return cls(left, commit, right, preview_left, preview_right, interval, end_silence, frame_samples)

    def without_left_context(self) -> WindowGeometry:
        """Return the geometry for a model that keeps its left context as a state."""
        return replace(self, left=0, preview_left=0)


class WindowPlan:
    """Plans the windows of one utterance.

    Args:
        geometry: lengths of the windows.
        start: absolute sample at which the utterance starts.
    """

    def __init__(self, geometry: WindowGeometry, start: int) -> None:
        self._geometry = geometry
        self._start = start
        self._committed = start

    @property
    def first_needed(self) -> int:
        """The first sample that a later window may need."""
        return max(self._start, self._committed - self._geometry.left)

    def commit_windows(self, position: int) -> list[Window]:
        """Return the commit windows that end at or before ``position`` and were not returned before."""
        geometry, windows = self._geometry, []
        while self._committed + geometry.commit + geometry.right <= position:
            new_stop = self._committed + geometry.commit
            windows.append(Window(self.first_needed, new_stop + geometry.right, self._committed, new_stop))
            self._committed = new_stop
        return windows

    def preview_window(self, position: int) -> Window | None:
        """Return the window up to the last whole frame before ``position``; None if it has no new frames."""
        stop = position - (position - self._start) % self._geometry.frame
        if stop <= self._committed:
            return None
        start = max(self._start, self._committed - self._geometry.preview_left)
        return Window(start, stop, self._committed, stop)

    def last_window(self, end: int, available: int | None) -> Window | None:
        """Return the window that commits the rest of the utterance; None if nothing is left.

        An utterance too short for a commit window is therefore recognized in one pass.

        Args:
            end: absolute sample at which the utterance ends.
            available: end of the audio that was available when the end was decided. After a forced cut, the audio
                after ``end`` serves as right context. None for any other end: then silence follows, in which the model
                finishes the last word.
        """
        if end <= self._committed:
            return None
        geometry = self._geometry
        if available is None:
            stop = end + geometry.end_silence
            window = Window(self.first_needed, stop, self._committed, stop, silence_from=end)
        else:
            context = min(geometry.right, max(0, available - end))
            stop = end + context - context % geometry.frame
            window = Window(self.first_needed, stop, self._committed, end)
        self._committed = end
        return window


def whole_utterance_config(
    config: RecognizerConfig, frame_samples: int, max_window_samples: int | None = None
) -> RecognizerConfig:
    """Return the settings with which each utterance is recognized in one pass.

    Commit windows become as long as the longest utterance, and the buffer large enough for one of them. Longer
    utterances than ``max_whole_window_ms``, or than the model accepts, still take several windows. The context lengths
    stay: after a forced cut, the audio that follows is the right context.

    Args:
        config: settings with ``windows`` that the model accepts.
        frame_samples: length of a model frame.
        max_window_samples: longest window that the model accepts; None for no limit.
    """
    windows = config.windows
    assert windows is not None, "the recognizer sets the windows"
    commit_ms = min(config.segmenter.max_utterance_ms, windows.max_whole_window_ms)
    if max_window_samples is not None:
        geometry = WindowGeometry.from_config(windows, frame_samples, max_window_samples)
        room = max_window_samples - geometry.left - geometry.right - geometry.end_silence
        commit_ms = min(commit_ms, (room - room % frame_samples) // SAMPLES_PER_MS)
    windows = replace(windows, commit_ms=max(windows.commit_ms, commit_ms))
    engine = replace(
        config.engine,
        buffer_ms=max(config.engine.buffer_ms, min_buffer_ms(windows, config.segmenter)),
        # These streams never report Overload, but RecognizerConfig still checks the limit against the windows.
        overload_lag_ms=max(config.engine.overload_lag_ms, windows.commit_ms + windows.right_context_ms + 1),
    )
    return replace(config, windows=windows, engine=engine)
