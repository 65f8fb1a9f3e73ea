"""The second pass over one utterance, from the windows of the first pass to words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from stream_asr.acoustic.base import DecodeOutput, DecodeRequest, SecondPassModel
from stream_asr.array_types import FloatArray
from stream_asr.config import samples_to_s
from stream_asr.decoding.attention import AttentionDecoder, AttentionState
from stream_asr.decoding.biasing import BiasedRequest, Biasing
from stream_asr.events import Word
from stream_asr.streaming.windows import Window

Rewrite: TypeAlias = Callable[[Iterable[Word]], tuple[Word, ...]]
"""Changes how words are written."""


class SecondPass:
    """Decodes an utterance again after each commit window, and after previews if the model is fast enough for that.

    Args:
        decoder: the rules for hypotheses.
        model: the model that makes them.
        start: absolute sample at which the utterance starts, a multiple of the length of a frame.
        rewrite: changes how words are written, and may drop some. What it returns for the first words must not depend
            on later ones, because stable text does not change. None for the words of the model.
        biasing: the hotwords, for a `BiasedSecondPass`; None for none.
    """

    def __init__(
        self,
        decoder: AttentionDecoder,
        model: SecondPassModel,
        start: int,
        rewrite: Rewrite | None = None,
        biasing: Biasing | None = None,
    ) -> None:
        self.uses_audio = model.uses_audio
        self.decodes_previews = not model.uses_audio
        self._decoder = decoder
        self._start = start
        self._model_state = model.initial_state()
        self._rewrite: Rewrite = rewrite or tuple
        self._biasing = biasing
        self._state = decoder.start(start // decoder.frame_samples)
        self._shown = self._state
        self._shown_before: tuple[str, ...] = ()  # the words of the hypothesis before, bare
        self._committed = start
        self._decoded = start
        self._is_complete = False

    @property
    def decoded(self) -> int:
        """Newest sample that the words reflect."""
        return self._decoded

    @property
    def stable(self) -> str:
        """The text that can no longer change."""
        return " ".join(word.word for word in self._stable)

    @property
    def stable_words(self) -> int:
        """Number of words that can no longer change."""
        return len(self._stable)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the newest hypothesis, that of a preview included, as far as they may be shown."""
        return self._rewrite(self._shown.words[: self._count_shown()])

    @property
    def _stable(self) -> tuple[Word, ...]:
        return self._rewrite(self._state.words[: len(self._state.stable)])

    def request(
        self,
        window: Window,
        log_probs: FloatArray,
        encoded: FloatArray | None,
        kept_frames: int,
        samples: FloatArray | None,
        *,
        is_preview: bool = False,
    ) -> DecodeRequest:
        """Return the request to decode the utterance up to the end of a window.

        Args:
            window: the window after the commit window that was decoded last.
            log_probs: output of the first pass for the window, float32, shape (frames, tokens).
            encoded: encoder states for the window, which has no left context; None for a model that uses audio.
            kept_frames: how many of them belong to the committed samples.
            samples: the audio of the utterance up to the end of the window, for a model that uses audio; else None.
            is_preview: whether it is a preview window.
        """
        prefix, limit = self._state.prefix, self._decoder.max_tokens(window.stop - self._start)
        frames = self._frames(window, log_probs)
        has_speech = self._state.has_speech(frames)
        if not has_speech:
            limit = len(prefix)
        # A draft changes the rounding. What is committed must not depend on previews.
        draft = self._shown.draft if is_preview else self._state.draft
        arguments = encoded, kept_frames, samples, self._model_state, prefix, draft, limit
        if self._biasing is None or not has_speech:
            return DecodeRequest(*arguments)
        return BiasedRequest(*arguments, propose=self._biasing.proposer(self._state, frames))

    def update(self, window: Window, log_probs: FloatArray, output: DecodeOutput, *, is_last: bool) -> None:
        """Update the words.

        Args:
            window: the commit window.
            log_probs: output of the first pass for the window, float32, shape (frames, tokens).
            output: the hypothesis.
            is_last: whether the window is the last one of the utterance.
        """
        frames = self._frames(window, log_probs)
        self._state = self._state.update(output, frames, self._count_new_frames(window), final=is_last)
        self._model_state = output.state
        self._committed, self._is_complete = window.new_stop, is_last
        if is_last and window.audio_end > window.new_stop:
            self._state = self._state.before(window.new_stop // self._decoder.frame_samples)
        self._show(self._state, window)

    def preview(self, window: Window, log_probs: FloatArray, output: DecodeOutput) -> None:
        """Show the words of a preview until newer ones arrive.

        Args:
            window: the preview window. It is ignored if it does not follow the commit window that was decoded last.
            log_probs: output of the first pass for the window, float32, shape (frames, tokens).
            output: the hypothesis.
        """
        if window.new_start == self._committed:
            frames = self._frames(window, log_probs)
            self._show(self._state.update(output, frames, len(frames), final=True), window)

    def final_words(self, end: int) -> tuple[Word, ...]:
        """Return the words of the utterance, all windows of which are decoded.

        Args:
            end: absolute sample at which the utterance ends.
        """
        state, end_s = self._state, samples_to_s(end)
        if not self._is_complete:  # cut where the committed frames end
            state = state.before(end // self._decoder.frame_samples)
        return tuple(word.clip(end_s) for word in self._rewrite(state.words))

    def _show(self, state: AttentionState, window: Window) -> None:
        self._shown_before = tuple(word.bare for word in self._shown.stable + self._shown.unstable)
        self._shown, self._decoded = state, window.audio_end

    def _count_shown(self) -> int:
        """Return the number of words before the first unstable one that is probably wrong.

        Such a word is not read by the CTC model and was not in the hypothesis before. The decoder often takes it back,
        and with it what follows.
        """
        words, stable = self._shown.stable + self._shown.unstable, len(self._state.stable)
        if not self.decodes_previews:  # the next hypothesis comes late
            return len(words)
        for place, word in enumerate(words[stable:], start=stable):
            score = word.aligned.score
            is_read = score is not None and score >= self._decoder.config.show_score
            if not is_read and self._shown_before[place : place + 1] != (word.bare,):
                return place
        return len(words)

    def _frames(self, window: Window, log_probs: FloatArray) -> FloatArray:
        """Return the frames without those of the left context; at least as many as are new."""
        frames = log_probs[(window.new_start - window.start) // self._decoder.frame_samples :]
        return self._decoder.labels.pad(frames, self._count_new_frames(window))

    def _count_new_frames(self, window: Window) -> int:
        return -(-window.new_samples // self._decoder.frame_samples)
