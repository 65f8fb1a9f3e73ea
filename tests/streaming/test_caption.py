from __future__ import annotations

import numpy as np

from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.streaming.caption import Caption
from stream_asr.streaming.windows import Window
from tests.support.fakes import FRAME, LABELS, FakeModel, sound

GREEDY = GreedyDecoder(LABELS, FRAME)


def said(text: str, start: int = 0) -> tuple[Window, np.ndarray]:
    """A window over the sound of ``text``, all of it kept, and what a model without edge effects makes of it."""
    samples = sound(text)
    window = Window(start, start + len(samples), start, start + len(samples))
    return window, FakeModel(context_frames=0).log_probs([samples])[0]


def test_only_whole_words_of_kept_frames_are_stable() -> None:
    caption = Caption(0, 0, GREEDY, FRAME)
    caption.commit(*said("hello wor"))
    partial = caption.partial()
    assert partial is not None
    assert (partial.stable, partial.text) == ("hello", "hello wor")


def test_a_caption_that_reads_the_same_is_not_said_twice() -> None:
    caption = Caption(0, 0, GREEDY, FRAME)
    caption.preview(*said("hello"))
    assert caption.partial() is not None
    caption.preview(*said("hello"))
    assert caption.partial() is None


def test_a_newer_preview_replaces_an_older_one_but_not_the_other_way_round() -> None:
    caption = Caption(0, 0, GREEDY, FRAME)
    caption.preview(*said("hello world"))
    caption.preview(*said("yellow"))
    partial = caption.partial()
    assert partial is not None
    assert partial.text == "hello world"


def test_kept_frames_and_the_frames_of_a_preview_join_where_the_kept_ones_end() -> None:
    caption = Caption(0, 0, GREEDY, FRAME)
    window, log_probs = said("hello world")
    caption.preview(window, log_probs)
    half = 4 * 4 * FRAME
    caption.commit(Window(0, half, 0, half), log_probs[: half // FRAME])
    partial = caption.partial()
    assert partial is not None
    assert (partial.stable, partial.text) == ("", "hello world")


def test_the_word_being_spoken_is_held_back_until_it_has_ended() -> None:
    hold_back = 8 * FRAME

    def shown(text: str, silent_frames: int) -> str:
        caption = Caption(0, 0, GREEDY, FRAME, hold_back)
        window, log_probs = said(text)
        rest = np.full((silent_frames, log_probs.shape[1]), -10, dtype=np.float32)
        rest[:, LABELS.blank] = -0.1
        stop = window.stop + silent_frames * FRAME
        caption.preview(Window(0, stop, 0, stop), np.concatenate([log_probs, rest]))
        partial = caption.partial()
        return partial.text if partial else ""

    assert shown("hello wor", 0) == "hello"
    assert shown("hello wor", 9) == "hello wor", "nothing followed for long enough"
    assert shown("hello world ", 0) == "hello world", "the space says that the word has ended"


def test_a_model_that_gives_a_frame_less_does_not_shift_the_grid() -> None:
    samples = sound("hello world")
    log_probs = FakeModel(context_frames=0).log_probs([samples])[0]
    caption = Caption(0, 0, GREEDY, FRAME)
    half = 5 * 4 * FRAME
    caption.commit(Window(0, half, 0, half), log_probs[: half // FRAME - 1])
    caption.commit(Window(0, len(samples), half, len(samples)), log_probs)
    final = caption.final(len(samples))
    assert final.text == "hello world"
    assert final.words[1].start == 6 * 4 * FRAME / 16_000


def test_a_final_without_words_has_no_confidence() -> None:
    caption = Caption(3, 640, GREEDY, FRAME)
    final = caption.final(16_000)
    assert (final.utterance, final.text, final.words, final.confidence) == (3, "", (), 0.0)
    assert (final.start, final.end) == (0.04, 1.0)
