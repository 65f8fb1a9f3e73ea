"""Which windows of an utterance the model sees, and which of their frames are kept.

Commit windows lie on a grid fixed by the utterance's own samples: window i covers [iS - L, iS + S + R) of it
and the frames of its middle S samples are kept. They alone decide the text that stays, so that text depends
neither on pacing nor on load. Preview windows reach up to the newest audio in between; their text is shown
and thrown away, so a little left context will do.

Source: the stride trimming of overlapping CTC windows, as in "Making automatic speech recognition work on
large files with Wav2Vec2 in Transformers" (Patry, 2022), on a grid that is independent of chunk sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream_asr.config import SAMPLES_PER_MS, RecognizerConfig, WindowConfig, least_buffer_ms, ms_to_frames


@dataclass(frozen=True, slots=True)
class Window:
    """Absolute sample positions: the model is given [start, stop); frames of [keep_start, keep_stop) are kept.

    Kept frames of a preview are the ones that lie beyond what is committed.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


@dataclass(frozen=True, slots=True)
class WindowGeometry:
    """L, S and R in samples, each a whole number of model frames, as are the L and the interval of previews."""

    left: int
    commit: int
    right: int
    preview_left: int
    preview_interval: int
    grid: int

    @classmethod
    def of(cls, config: WindowConfig, grid_samples: int, longest_samples: int | None = None) -> WindowGeometry:
        """Round up to frames of ``grid_samples``; shorten L where the model takes no more than ``longest_samples``.

        Raises:
            ValueError: the model's longest input has no room for S + R.
        """

        def on_grid(duration_ms: int) -> int:
            return ms_to_frames(duration_ms, grid_samples) * grid_samples

        left, commit, right = map(on_grid, (config.left_context_ms, config.commit_ms, config.right_context_ms))
        right = max(right, grid_samples)  # the convolutions of a frame look a little further than its end
        if longest_samples is not None:
            room = longest_samples - commit - right
            if room < 0:
                raise ValueError(
                    f"commit_ms + right_context_ms exceed the model's longest input of {longest_samples} samples"
                )
            left = min(left, room - room % grid_samples)
        preview_left = min(left, on_grid(config.preview_left_context_ms))
        return cls(left, commit, right, preview_left, on_grid(config.preview_interval_ms), grid_samples)

    def without_left(self) -> WindowGeometry:
        """For a model that keeps what it made of the audio before."""
        return replace(self, left=0, preview_left=0)


class WindowPlan:
    """The windows of one utterance that starts at the absolute sample ``start``."""

    def __init__(self, geometry: WindowGeometry, start: int) -> None:
        self._geometry = geometry
        self._start = start
        self._committed = start

    @property
    def needed_from(self) -> int:
        """Samples before this appear in no window to come."""
        return max(self._start, self._committed - self._geometry.left)

    def commits(self, position: int) -> list[Window]:
        """The commit windows that are full once ``position`` samples were heard and were not handed out yet."""
        geometry, windows = self._geometry, []
        while self._committed + geometry.commit + geometry.right <= position:
            keep_stop = self._committed + geometry.commit
            windows.append(Window(self.needed_from, keep_stop + geometry.right, self._committed, keep_stop))
            self._committed = keep_stop
        return windows

    def preview(self, position: int) -> Window | None:
        """The window up to the newest whole frame before ``position``, or None when it would keep nothing."""
        stop = position - (position - self._start) % self._geometry.grid
        if stop <= self._committed:
            return None
        start = max(self._start, self._committed - self._geometry.preview_left)
        return Window(start, stop, self._committed, stop)

    def last(self, end: int, heard: int) -> Window | None:
        """The window that keeps all that is left of an utterance that ends at ``end``.

        An utterance too short for a commit window is thus recognised in one pass over the whole of it. Where
        the utterance was cut, with ``heard`` samples known by then, what follows serves as right context.
        """
        if end <= self._committed:
            return None
        context = min(self._geometry.right, max(0, heard - end))
        stop = end + context - context % self._geometry.grid
        window = Window(self.needed_from, stop, self._committed, end)
        self._committed = end
        return window


_LONGEST_COMMIT_MS = 30_000
"""Utterances longer than that are not one pass: comparing all frames with each other grows with the square of it."""


def for_whole_utterances(
    config: RecognizerConfig, frame_samples: int, longest_samples: int | None = None
) -> RecognizerConfig:
    """The same settings with commit windows as long as the longest utterance, and a buffer that holds one.

    Args:
        config: with windows that the model takes. Their contexts stay: of the right one is what an utterance that was
            cut for its length is given after its end.
        frame_samples, longest_samples: of the model. Utterances longer than 30 s, or than its longest input less the
            contexts, are heard in windows that keep so much at a time.
    """
    windows, commit_ms = config.windows, min(config.segmenter.max_utterance_ms, _LONGEST_COMMIT_MS)
    assert windows is not None, "the recognizer has chosen them"
    if longest_samples is not None:
        usual = WindowGeometry.of(windows, frame_samples, longest_samples)
        room = longest_samples - usual.left - usual.right
        commit_ms = min(commit_ms, (room - room % frame_samples) // SAMPLES_PER_MS)
    windows = replace(windows, commit_ms=max(windows.commit_ms, commit_ms))
    engine = replace(
        config.engine,
        buffer_ms=max(config.engine.buffer_ms, least_buffer_ms(windows, config.segmenter)),
        # Without partials there is no Overload, but no setting may contradict another.
        overload_lag_ms=max(config.engine.overload_lag_ms, windows.commit_ms + windows.right_context_ms + 1),
    )
    return replace(config, windows=windows, engine=engine)
