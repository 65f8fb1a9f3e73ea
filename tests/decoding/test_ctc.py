from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.acoustic.labels import Labels
from stream_asr.decoding.base import Hypothesis
from stream_asr.decoding.ctc import BestPath, Frames, decode

LABELS = Labels(("", " ", "a", "b", " c", "d e"), blank=0)
FRAME = 320
paths = st.lists(st.integers(0, 5), max_size=60)


def make_path(ids: list[int], start: int = 0) -> BestPath:
    return BestPath(start, np.array(ids, dtype=np.int32), np.full(len(ids), 0.5, dtype=np.float32))


def decode_ids(ids: list[int], start: int = 0) -> Hypothesis:
    return decode(make_path(ids, start), LABELS, FRAME)


@given(paths)
def test_text_is_the_collapsed_path(ids: list[int]) -> None:
    expected = "".join(LABELS.tokens[token] for token, _ in groupby(ids) if token != LABELS.blank)
    assert decode_ids(ids).text == " ".join(expected.split())


@given(paths, st.integers(0, 60))
def test_complete_words_do_not_change_when_frames_follow(ids: list[int], cut: int) -> None:
    beginning, whole = decode_ids(ids[:cut]), decode_ids(ids)
    assert beginning.complete <= len(beginning.words) <= beginning.complete + 1
    assert [word.word for word in whole.words[: beginning.complete]] == beginning.complete_words
    assert len(beginning.complete_words) == beginning.complete


@given(paths, st.integers(0, 60))
def test_appended_paths_decode_as_one(ids: list[int], cut: int) -> None:
    """No letter is lost or doubled at the join."""
    joined = make_path(ids[:cut]).append(make_path(ids[cut:], start=cut))
    assert decode(joined, LABELS, FRAME) == decode_ids(ids)


@given(paths, st.integers(0, 1000))
def test_word_times_are_monotonic_and_within_the_path(ids: list[int], start: int) -> None:
    earliest = start * FRAME / 16_000
    for word in decode_ids(ids, start).words:
        assert earliest <= word.start < word.end <= (start + len(ids)) * FRAME / 16_000
        assert 0 <= word.confidence <= 1
        earliest = word.start


def test_word_has_the_times_of_its_tokens_and_the_mean_of_their_peaks() -> None:
    probabilities = np.array([0.9, 0.6, 0.8, 0.9, 0.4, 0.9], dtype=np.float32)
    path = BestPath(10, np.array([0, 2, 2, 0, 3, 1], dtype=np.int32), probabilities)
    (word,) = decode(path, LABELS, FRAME).words
    assert word.word == "ab"
    assert word.start == pytest.approx(11 * 0.02)
    assert word.end == pytest.approx(15 * 0.02)
    assert word.confidence == pytest.approx((0.8 + 0.4) / 2)


def test_best_path_has_the_most_probable_token_of_each_frame() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
    path = BestPath.from_log_probs(np.log(probabilities), 3)
    assert path.start_frame == 3
    assert path.ids.tolist() == [0, 2]
    np.testing.assert_allclose(path.probabilities, [0.7, 0.8], rtol=1e-6)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 30))
def test_frames_are_selected_on_the_absolute_grid(start: int, length: int, first: int, stop: int) -> None:
    frames = Frames(start, np.arange(start, start + length, dtype=np.float32).reshape(-1, 1))
    part = frames.between(first, stop)
    expected = [frame for frame in range(start, start + length) if first <= frame < stop]
    assert part.log_probs[:, 0].tolist() == expected
    if expected:
        assert part.start_frame == expected[0]
    rest = frames.since(first)
    assert rest.log_probs[:, 0].tolist() == [frame for frame in range(start, start + length) if frame >= first]
    assert not np.shares_memory(rest.log_probs, frames.log_probs), "a view keeps a whole batch of windows in memory"


def test_short_path_is_padded_with_blanks() -> None:
    padded = make_path([2, 3], start=4).pad(9, blank=0)
    assert padded.ids.tolist() == [2, 3, 0, 0, 0]
    assert padded.pad(5, blank=0) is padded
