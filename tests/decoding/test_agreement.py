from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.decoding.agreement import EMPTY_HISTORY, WordHistory, settle, stable_text

FRAME = 320
texts = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=6)


def history(text: str, stop_frames: list[int] | None = None) -> WordHistory:
    """Words that stop at the given frames; every tenth frame by default."""
    result = EMPTY_HISTORY
    for index, word in enumerate(text.split()):
        stop = stop_frames[index] if stop_frames else 10 * (index + 1)
        result = result.append(word, stop - 5, stop, 0.5)
    return result


@given(st.lists(texts, min_size=1, max_size=5))
def test_stable_text_is_the_longest_common_prefix(hypotheses: list[list[str]]) -> None:
    stable = stable_text(hypotheses).split()
    assert all(words[: len(stable)] == stable for words in hypotheses)
    longer = {tuple(words[: len(stable) + 1]) for words in hypotheses}
    assert len(longer) > 1 or len(stable) in map(len, hypotheses)


def test_stable_text_compares_whole_words() -> None:
    assert stable_text([["the", "cat"], ["the", "catalogue"]]) == "the"


def test_history_keeps_words_in_order_with_their_times() -> None:
    words = history("the cat", [10, 30]).words(FRAME)
    assert [word.word for word in words] == ["the", "cat"]
    assert [word.start for word in words] == pytest.approx([0.1, 0.5])
    assert [word.end for word in words] == pytest.approx([0.2, 0.6])
    assert EMPTY_HISTORY.words(FRAME) == ()


@given(texts, texts)
def test_equal_texts_have_equal_hashes(first: list[str], second: list[str]) -> None:
    one, other = history(" ".join(first)), history(" ".join(second), [7 * (index + 1) for index in range(len(second))])
    assert (one.text_hash == other.text_hash) == (first == second)
    assert EMPTY_HISTORY.hash_after(first) == one.text_hash
    assert one.starts_with(other) == (first[: len(second)] == second)


def test_words_that_ended_by_the_deadline_are_decided_by_the_best_hypothesis() -> None:
    histories = [history("the cat sat"), history("the dog sat"), history("the cat"), history("a cat"), EMPTY_HISTORY]
    assert settle(histories, 9) == [0, 1, 2, 3, 4], "nothing is decided yet"
    assert settle(histories, 10) == [0, 1, 2], "the first word is decided"
    assert settle(histories, 29) == [0, 2], "the second word is decided"
    assert settle(histories, 30) == [0]


def test_hypotheses_that_differ_in_times_only_agree() -> None:
    assert settle([history("the cat"), history("the cat", [12, 35])], 20) == [0, 1]
