"""The caption of one utterance, from frames and hypotheses to `Partial` and `Final`."""

from __future__ import annotations

from dataclasses import replace

from stream_asr.array_types import FloatArray
from stream_asr.config import samples_to_s
from stream_asr.decoding.base import Decoder, Hypothesis
from stream_asr.decoding.casing import Casing
from stream_asr.decoding.ctc import Frames
from stream_asr.events import Final, Partial, Word, ends_sentence
from stream_asr.streaming.second_pass import SecondPass
from stream_asr.streaming.windows import Window

_TERMINATORS = ".,;:?!"


class Caption:
    """Decodes the frames of an utterance's windows.

    The frames of neighboring windows are joined on the absolute grid and decoded as one sequence. Strings are never
    compared, so a letter at a join is neither lost nor doubled.

    Stable text is what the decoder reports as stable after the committed frames, by the rules of
    `stream_asr.decoding.agreement`. Previews add only text after it.

    Args:
        utterance: number of the utterance in the stream.
        start: absolute sample at which the utterance starts, a multiple of ``frame_samples``.
        decoder: the decoder.
        frame_samples: length of a model frame.
        hold_back_samples: the last word of a partial is hidden while it is incomplete and ended less than this before
            the newest audio.
        fragment_hold_back_samples: the same for an incomplete word that is out of vocabulary.
        second_pass: decodes the utterance again; None for none. Its words replace those of the decoder, which only
            continue them.
        casing: how words of the decoder are capitalized after words of the second pass.
    """

    def __init__(
        self,
        utterance: int,
        start: int,
        decoder: Decoder,
        frame_samples: int,
        hold_back_samples: int = 0,
        fragment_hold_back_samples: int = 0,
        second_pass: SecondPass | None = None,
        casing: Casing | None = None,
    ) -> None:
        self.utterance = utterance
        self._start = start
        self._frame_samples = frame_samples
        self._hold_back = hold_back_samples
        self._fragment_hold_back = fragment_hold_back_samples
        self._second_pass = second_pass
        self._shows_first_pass = second_pass is None or not second_pass.decodes_previews
        self._casing = casing
        self._committed = decoder.start(start // frame_samples)
        self._stable = ""
        self._uncommitted = Frames.empty(start // frame_samples)
        self._reflected = start
        self._last_shown = ("", "")

    @property
    def reflected(self) -> int:
        """Newest sample that the text reflects."""
        if self._second_pass is not None and not self._shows_first_pass:
            return self._second_pass.decoded
        return self._reflected

    def commit(self, window: Window, log_probs: FloatArray) -> None:
        """Commit the new frames of a commit window. The frames of its right context serve as a preview.

        Args:
            window: the next commit window of the utterance, in order.
            log_probs: output for the whole window, float32, shape (frames, tokens).
        """
        if not self._shows_first_pass:
            return
        frames = Frames(window.start // self._frame_samples, log_probs)
        # Rounded up: the last frame of a stream may be incomplete.
        stop_frame = -(-window.new_stop // self._frame_samples)
        new_frames = frames.between(self._committed.stop_frame, stop_frame)
        self._committed = self._committed.commit(new_frames.log_probs, stop_frame)
        if self._second_pass is None:
            self._stable = self._committed.stable
        self._show(frames, window.audio_end)

    def preview(self, window: Window, log_probs: FloatArray) -> None:
        """Show the frames of a preview window until newer frames arrive.

        Args:
            window: the preview window.
            log_probs: output for the whole window, float32, shape (frames, tokens).
        """
        if self._shows_first_pass:
            self._show(Frames(window.start // self._frame_samples, log_probs), window.audio_end)

    def partial(self) -> Partial | None:
        """Return the caption so far; None if its text has not changed since the last call."""
        words = self._first_pass_words() if self._shows_first_pass else ()
        if self._second_pass is not None:
            self._stable, words = self._second_pass.stable, self._continue(self._second_pass, words)
        shown = self._stable, " ".join(word.word for word in words)
        if shown == self._last_shown:
            return None
        self._last_shown = shown
        return Partial(self.utterance, samples_to_s(self._start), samples_to_s(self.reflected), *shown, words)

    def final(self, end: int) -> Final:
        """Return the final of the utterance once all of its windows are committed and decoded.

        Args:
            end: absolute sample at which the utterance ends.
        """
        end_s = samples_to_s(end)
        if self._second_pass is not None:
            words = self._second_pass.final_words(end)
        else:
            # The last frame of a stream may extend beyond its last sample.
            words = tuple(word.clip(end_s) for word in self._committed.finish().words)
        hypothesis = Hypothesis(words, len(words))
        return Final(self.utterance, samples_to_s(self._start), end_s, hypothesis.text, hypothesis.confidence, words)

    def _first_pass_words(self) -> tuple[Word, ...]:
        """Return the words of the first pass, without an incomplete last word."""
        hypothesis = self._committed.preview(self._uncommitted.since(self._committed.stop_frame).log_probs)
        words = hypothesis.words
        if hypothesis.complete < len(words):
            hold_back = self._fragment_hold_back if hypothesis.fragment else self._hold_back
            if words[-1].end > samples_to_s(self._reflected - hold_back):
                words = words[:-1]
        return words

    def _continue(self, second_pass: SecondPass, first_words: tuple[Word, ...]) -> tuple[Word, ...]:
        """Return the words of the second pass, followed by those of the first pass that are later.

        Args:
            second_pass: the second pass.
            first_words: all words of the first pass.
        """
        words, stable = list(second_pass.words), second_pass.stable_words
        # The last word may be incomplete.
        if len(words) > stable and words[-1].end > samples_to_s(second_pass.decoded - self._hold_back):
            words.pop()
        if len(words) > stable:
            # A decoder ends every hypothesis with a period, as if the speaker had stopped.
            words[-1] = replace(words[-1], word=words[-1].word.rstrip(_TERMINATORS) or words[-1].word)
        end_s = words[-1].end if words else 0.0
        later = [word for word in first_words if word.start + word.end > 2 * end_s]
        if words and later and 2 * later[0].start < words[-1].start + words[-1].end:
            # The same word, of which the second pass has seen the beginning only.
            if len(words) > stable:
                words.pop()
            else:
                later.pop(0)
        for word in later:
            first = not words or ends_sentence(words[-1].word)
            text = word.word if self._casing is None else self._casing(word.word, first)
            words.append(replace(word, word=text))
        return tuple(words)

    def _show(self, frames: Frames, stop: int) -> None:
        if stop >= self._reflected:
            self._uncommitted, self._reflected = frames.since(self._committed.stop_frame), stop
