from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.acoustic.labels import Labels
from stream_asr.decoding.ctc import BestPath, Frames, decode

LABELS = Labels(("", " ", "a", "b", " c", "d e"), blank=0)
FRAME = 320


def path(ids: list[int], start: int = 0) -> BestPath:
    return BestPath(start, np.array(ids, dtype=np.int32), np.full(len(ids), 0.5, dtype=np.float32))


ids = st.lists(st.integers(0, 5), max_size=60)


@given(ids)
def test_text_is_that_of_the_textbook_collapse(frames: list[int]) -> None:
    expected = "".join(LABELS.tokens[token] for token, _ in groupby(frames) if token != LABELS.blank)
    assert decode(path(frames), LABELS, FRAME).text == " ".join(expected.split())


@given(ids, st.integers(0, 60))
def test_complete_words_of_a_beginning_stay(frames: list[int], cut: int) -> None:
    whole = decode(path(frames), LABELS, FRAME)
    beginning = decode(path(frames[:cut]), LABELS, FRAME)
    assert beginning.complete <= len(beginning.words) <= beginning.complete + 1
    kept = [word.word for word in beginning.words[: beginning.complete]]
    assert [word.word for word in whole.words[: beginning.complete]] == kept
    assert whole.text.startswith(beginning.complete_text)


@given(ids, st.integers(0, 60))
def test_a_join_neither_loses_nor_doubles_letters(frames: list[int], cut: int) -> None:
    joined = path(frames[:cut]).joined(path(frames[cut:], start=cut))
    assert decode(joined, LABELS, FRAME) == decode(path(frames), LABELS, FRAME)


@given(ids, st.integers(0, 1000))
def test_times_lie_in_the_audio_and_do_not_go_back(frames: list[int], start: int) -> None:
    edge = start * FRAME / 16_000
    for word in decode(path(frames, start), LABELS, FRAME).words:
        assert edge <= word.start < word.end <= (start + len(frames)) * FRAME / 16_000
        assert 0 <= word.confidence <= 1
        edge = word.start


def test_times_and_confidences_of_a_word() -> None:
    probabilities = np.array([0.9, 0.6, 0.8, 0.9, 0.4, 0.9], dtype=np.float32)
    made = BestPath(10, np.array([0, 2, 2, 0, 3, 1], dtype=np.int32), probabilities)
    (word,) = decode(made, LABELS, FRAME).words
    assert word.word == "ab"
    assert word.start == pytest.approx(11 * 0.02)
    assert word.end == pytest.approx(15 * 0.02)
    assert word.confidence == pytest.approx((0.8 + 0.4) / 2), "the peak of each letter, averaged"


def test_best_path_takes_the_likeliest_of_each_frame() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
    best = BestPath.best(np.log(probabilities), 3)
    assert best.start_frame == 3
    assert best.ids.tolist() == [0, 2]
    np.testing.assert_allclose(best.probabilities, [0.7, 0.8], rtol=1e-6)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 30))
def test_frames_are_cut_on_the_absolute_grid(start: int, length: int, first: int, stop: int) -> None:
    frames = Frames(start, np.arange(start, start + length, dtype=np.float32).reshape(-1, 1))
    part = frames.between(first, stop)
    expected = [frame for frame in range(start, start + length) if first <= frame < stop]
    assert part.log_probs[:, 0].tolist() == expected
    if expected:
        assert part.start_frame == expected[0]
    rest = frames.since(first)
    assert rest.log_probs[:, 0].tolist() == [frame for frame in range(start, start + length) if frame >= first]
    assert not np.shares_memory(rest.log_probs, frames.log_probs), "or a whole batch of windows stays in memory"


def test_padding_fills_a_short_path_with_blanks() -> None:
    padded = path([2, 3], start=4).padded(9, blank=0)
    assert padded.ids.tolist() == [2, 3, 0, 0, 0]
    assert padded.padded(5, blank=0) is padded
