"""The caption of an utterance as it grows: what is stable, what may change, what is final."""

from __future__ import annotations

from dataclasses import replace

from stream_asr.arrays import FloatArray
from stream_asr.config import samples_to_s
from stream_asr.ctc import Labels, Path, decode
from stream_asr.events import Final, Partial
from stream_asr.windows import Window


class Caption:
    """Joins the kept frames of an utterance's windows and tells its text.

    The frames of neighbouring windows are joined on the absolute grid and collapsed once. Strings are never
    compared, so a doubled letter at a join is neither lost nor doubled again.

    Args:
        utterance: its number in the stream.
        start: absolute sample at which it starts, on the frame grid.
        labels, frame_samples: of the model.
        hold_back_samples: the last word of a partial is left out while it may still go on and ended less than
            this before the newest audio.
    """

    def __init__(
        self, utterance: int, start: int, labels: Labels, frame_samples: int, hold_back_samples: int = 0
    ) -> None:
        self.utterance = utterance
        self._start = start
        self._labels = labels
        self._frame_samples = frame_samples
        self._hold_back = hold_back_samples
        self._kept = Path.empty(start // frame_samples)
        self._newest = Path.empty(start // frame_samples)
        self._reflected = start
        self._stable = ""
        self._shown: tuple[str, str] = ("", "")

    @property
    def reflected(self) -> int:
        """Newest sample that the text reflects."""
        return self._reflected

    def commit(self, window: Window, log_probs: FloatArray) -> None:
        """Keep the middle frames of a commit window for good; the frames of its right context serve as a preview.

        Args:
            window: the next one of the utterance, in order.
            log_probs: of the whole window, float32, shape (frames, vocabulary).
        """
        path = self._path(window, log_probs)
        self._kept = self._kept.joined(self._frames(path, window.keep_start, window.keep_stop))
        self._stable = decode(self._kept, self._labels, self._frame_samples).complete_text
        self._look(path, window.stop)

    def preview(self, window: Window, log_probs: FloatArray) -> None:
        """Show the frames of a preview window until newer ones come."""
        self._look(self._path(window, log_probs), window.stop)

    def partial(self) -> Partial | None:
        """The caption now, or None when it reads as it did last time."""
        tail = self._newest.frames(self._kept.stop_frame, self._newest.stop_frame)
        heard = decode(self._kept.joined(tail), self._labels, self._frame_samples)
        shown = heard.words
        if heard.complete < len(shown) and shown[-1].end > samples_to_s(self._reflected - self._hold_back):
            shown = shown[:-1]
        caption = self._stable, " ".join(word.word for word in shown)
        if caption == self._shown:
            return None
        self._shown = caption
        return Partial(self.utterance, samples_to_s(self._start), samples_to_s(self._reflected), *caption, shown)

    def final(self, end: int) -> Final:
        """The caption of the whole utterance, which ends at sample ``end``; every window was committed."""
        whole, end_s = decode(self._kept, self._labels, self._frame_samples), samples_to_s(end)
        # The last frame of a stream may reach beyond its last sample.
        words = tuple(replace(word, end=end_s) if word.end > end_s else word for word in whole.words)
        return Final(self.utterance, samples_to_s(self._start), end_s, whole.text, whole.confidence, words)

    def _path(self, window: Window, log_probs: FloatArray) -> Path:
        return Path.best(log_probs, window.start // self._frame_samples)

    def _frames(self, path: Path, start: int, stop: int) -> Path:
        # Rounded up: the last frame of a stream may not be full. Padded: a model whose receptive field exceeds
        # its stride gives a frame less than the window is long, and the grid must not slip by it.
        stop_frame = -(-stop // self._frame_samples)
        return path.frames(start // self._frame_samples, stop_frame).padded(stop_frame, self._labels.blank)

    def _look(self, path: Path, stop: int) -> None:
        if stop >= self._reflected:
            self._newest, self._reflected = path, stop
