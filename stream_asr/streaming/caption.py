"""The caption of an utterance as it grows: what is stable, what may change, what is final."""

from __future__ import annotations

from dataclasses import replace

from stream_asr.array_types import FloatArray
from stream_asr.config import samples_to_s
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.ctc import Frames
from stream_asr.events import Final, Partial
from stream_asr.streaming.windows import Window

FRAGMENT_PATIENCE = 3
"""A last word that is none as it stands is held back for so many times as long: it most likely goes on."""


class Caption:
    """Joins the kept frames of an utterance's windows and tells its text.

    The frames of neighbouring windows are joined on the absolute grid and decoded as one. Strings are never
    compared, so a doubled letter at a join is neither lost nor doubled again.

    Args:
        utterance: its number in the stream.
        start: absolute sample at which it starts, on the frame grid.
        decoder: makes words of frames.
        frame_samples: of the model.
        hold_back_samples: the last word of a partial is left out while it may still go on and ended less than
            this before the newest audio.
    """

    def __init__(
        self, utterance: int, start: int, decoder: Decoder, frame_samples: int, hold_back_samples: int = 0
    ) -> None:
        self.utterance = utterance
        self._start = start
        self._frame_samples = frame_samples
        self._hold_back = hold_back_samples
        self._kept = decoder.start(start // frame_samples)
        self._newest = Frames.empty(start // frame_samples)
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
            log_probs: of the whole window, float32, shape (frames, outputs).
        """
        frames = Frames(window.start // self._frame_samples, log_probs)
        # Rounded up: the last frame of a stream may not be full.
        stop_frame = -(-window.keep_stop // self._frame_samples)
        self._kept = self._kept.commit(frames.between(self._kept.stop_frame, stop_frame).log_probs, stop_frame)
        self._stable = self._kept.stable
        self._look(frames, window.stop)

    def preview(self, window: Window, log_probs: FloatArray) -> None:
        """Show the frames of a preview window until newer ones come."""
        self._look(Frames(window.start // self._frame_samples, log_probs), window.stop)

    def partial(self) -> Partial | None:
        """The caption now, or None when it reads as it did last time."""
        heard = self._kept.preview(self._newest.since(self._kept.stop_frame).log_probs)
        shown = heard.words
        if heard.complete < len(shown):
            wait = self._hold_back * (FRAGMENT_PATIENCE if heard.fragment else 1)
            if shown[-1].end > samples_to_s(self._reflected - wait):
                shown = shown[:-1]
        caption = self._stable, " ".join(word.word for word in shown)
        if caption == self._shown:
            return None
        self._shown = caption
        return Partial(self.utterance, samples_to_s(self._start), samples_to_s(self._reflected), *caption, shown)

    def final(self, end: int) -> Final:
        """The caption of the whole utterance, which ends at sample ``end``; every window was committed."""
        whole, end_s = self._kept.finish(), samples_to_s(end)
        # The last frame of a stream may reach beyond its last sample.
        words = tuple(replace(word, end=end_s) if word.end > end_s else word for word in whole.words)
        return Final(self.utterance, samples_to_s(self._start), end_s, whole.text, whole.confidence, words)

    def _look(self, frames: Frames, stop: int) -> None:
        if stop >= self._reflected:
            self._newest, self._reflected = frames.since(self._kept.stop_frame), stop
