"""Captions of one utterance, on the fake model."""

from __future__ import annotations

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.streaming.caption import Caption
from stream_asr.streaming.windows import Window
from tests.support.fakes import FRAME, LABELS, FakeModel, sound

GREEDY = GreedyDecoder(LABELS, FRAME)


def run_model(text: str) -> tuple[Window, FloatArray]:
    """Return a window over the sound of a text, without context, and the output of a model without edge effects."""
    samples = sound(text)
    return Window(0, len(samples), 0, len(samples)), FakeModel(context_frames=0).log_probs([samples])[0]


def test_only_complete_words_of_committed_frames_are_stable() -> None:
    caption = Caption(0, 0, GREEDY, FRAME)
    caption.commit(*run_model("hello wor"))
    partial = caption.partial()
    assert partial is not None
    assert (partial.stable, partial.text) == ("hello", "hello wor")


def test_unchanged_caption_is_not_repeated() -> None:
    caption = Caption(0, 0, GREEDY, FRAME)
    caption.preview(*run_model("hello"))
    assert caption.partial() is not None
    caption.preview(*run_model("hello"))
    assert caption.partial() is None


def test_older_preview_does_not_replace_a_newer_one() -> None:
    caption = Caption(0, 0, GREEDY, FRAME)
    caption.preview(*run_model("hello world"))
    caption.preview(*run_model("yellow"))
    partial = caption.partial()
    assert partial is not None
    assert partial.text == "hello world"


def test_preview_frames_continue_after_the_committed_frames() -> None:
    caption = Caption(0, 0, GREEDY, FRAME)
    window, log_probs = run_model("hello world")
    caption.preview(window, log_probs)
    half = 4 * 4 * FRAME
    caption.commit(Window(0, half, 0, half), log_probs[: half // FRAME])
    partial = caption.partial()
    assert partial is not None
    assert (partial.stable, partial.text) == ("", "hello world")


def test_incomplete_word_is_held_back_until_silence_follows() -> None:
    hold_back = 8 * FRAME

    def shown_text(text: str, silent_frames: int) -> str:
        caption = Caption(0, 0, GREEDY, FRAME, hold_back)
        window, log_probs = run_model(text)
        silence = np.full((silent_frames, log_probs.shape[1]), -10, dtype=np.float32)
        silence[:, LABELS.blank] = -0.1
        stop = window.stop + silent_frames * FRAME
        caption.preview(Window(0, stop, 0, stop), np.concatenate([log_probs, silence]))
        partial = caption.partial()
        return partial.text if partial else ""

    assert shown_text("hello wor", 0) == "hello"
    assert shown_text("hello wor", 9) == "hello wor", "the silence is longer than the hold-back"
    assert shown_text("hello world ", 0) == "hello world", "a space completes the word"


def test_missing_frame_at_the_end_of_a_window_does_not_shift_the_grid() -> None:
    samples = sound("hello world")
    log_probs = FakeModel(context_frames=0).log_probs([samples])[0]
    caption = Caption(0, 0, GREEDY, FRAME)
    half = 5 * 4 * FRAME
    caption.commit(Window(0, half, 0, half), log_probs[: half // FRAME - 1])
    caption.commit(Window(0, len(samples), half, len(samples)), log_probs)
    final = caption.final(len(samples))
    assert final.text == "hello world"
    assert final.words[1].start == 6 * 4 * FRAME / 16_000


def test_final_without_words_has_confidence_zero() -> None:
    caption = Caption(3, 640, GREEDY, FRAME)
    final = caption.final(16_000)
    assert (final.utterance, final.text, final.words, final.confidence) == (3, "", (), 0.0)
    assert (final.start, final.end) == (0.04, 1.0)
