"""The rules of incremental attention decoding, with hypotheses and frames that the tests write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from stream_asr.acoustic.base import DecodeOutput, Vocabulary
from stream_asr.array_types import FloatArray
from stream_asr.config import SecondPassConfig
from stream_asr.decoding.attention import AttentionDecoder, AttentionState, split_words
from stream_asr.events import Word
from tests.support.fakes import FRAME, LABELS, VOCABULARY, FakeModel, encode, silence, sound

CONFIG = SecondPassConfig(
    stable_margin_ms=100, confirmation_score=0.0, veto_score=-4.0, veto_non_blank=0.1, loop_score=-1.5
)
"""Words become stable by agreement only."""

MARGIN = 5


def start(config: SecondPassConfig = CONFIG, frame: int = 0) -> AttentionState:
    return AttentionDecoder(VOCABULARY, LABELS, FRAME, config).start(frame)


def frames(text: str, silent_s: float = 0.0) -> FloatArray:
    """Return the CTC model's frames for the sound of a text and silence, without garbled edges; 4 for each letter."""
    return FakeModel(context_frames=0).log_probs([np.concatenate([sound(text), silence(silent_s)])])[0]


def update(
    state: AttentionState, text: str, log_probs: FloatArray, new_frames: int | None = None, *, final: bool = False
) -> AttentionState:
    """Return the state after a hypothesis; ``text`` is what follows the prefix."""
    tokens = state.prefix + encode(text)
    output = DecodeOutput(tokens, tuple(-0.1 for _ in tokens), None)
    return state.update(output, log_probs, len(log_probs) if new_frames is None else new_frames, final=final)


def stable_text(state: AttentionState) -> str:
    return " ".join(word.word.text for word in state.stable)


def texts(state: AttentionState) -> list[str]:
    return [word.word for word in state.words]


def blanks(count: int) -> FloatArray:
    return LABELS.pad(np.zeros((0, len(LABELS.tokens)), dtype=np.float32), count)


def test_words_begin_with_a_space() -> None:
    vocabulary = Vocabulary((b"", b" he", b"llo", b",", b" w", b"\xc3", b"\xb6"), end=0)
    tokens = [1, 2, 3, 0, 4, 5, 6]
    words = split_words(vocabulary, tokens, [-0.1 * token for token in tokens])
    assert [(word.text, word.tokens) for word in words] == [("hello,", (1, 2, 3, 0)), ("wö", (4, 5, 6))]
    assert words[1].log_probs == pytest.approx((-0.4, -0.5, -0.6))
    assert words[1].confidence == pytest.approx(np.exp(-0.5))


def test_first_word_may_continue_an_earlier_one() -> None:
    words = split_words(VOCABULARY, encode("ing home"), [0.0] * 7)
    assert [word.text for word in words] == ["ing", "home"]
    assert split_words(VOCABULARY, [], []) == []


@pytest.mark.parametrize("agreement", [2, 3, 4])
def test_words_are_stable_when_enough_hypotheses_agree(agreement: int) -> None:
    state = start(replace(CONFIG, agreement=agreement))
    parts = ["see you ", "soon ", "and ", "then "]
    for index in range(agreement):
        assert state.stable == ()
        text = "".join(parts[: index + 1])
        state = update(state, f" {text.strip()}.", frames(parts[index]))
    assert [word.bare for word in state.stable[:2]] == ["see", "you"]


def test_hypotheses_agree_in_spite_of_case_and_punctuation() -> None:
    state = update(start(), " see You.", frames("see you "))
    state = update(state, " See you, soon", frames("soon "))
    assert stable_text(state) == "See you,"


def test_words_that_differ_are_not_stable() -> None:
    state = update(start(), " see you", frames("see you "))
    state = update(state, " see yon soon", frames("soon "))
    assert stable_text(state) == "see"
    state = update(state, " yon soon and", frames("and "))
    assert stable_text(state) == "see yon soon"


def test_words_after_a_stable_word_that_changed_start_from_scratch() -> None:
    """An earlier hypothesis with another beginning says nothing about the words after it."""
    state = start(replace(CONFIG, agreement=3, confirmation_score=-0.2))
    state = update(state, " dee you", frames("see you "))  # "dee" is not confirmed
    assert state.stable == ()
    state = update(state, " see you soon and", frames("soon and "))
    assert stable_text(state) == "see you soon"
    assert state.earlier == ((), ("and",))


def test_last_word_is_never_stable() -> None:
    state = update(start(), " see", frames("see", 1.0))
    state = update(state, " see", frames("", 1.0))
    assert state.stable == ()
    assert texts(state) == ["see"]


def test_word_is_stable_only_if_the_next_one_started_before_the_margin() -> None:
    for silent_frames, expected in ((0, ""), (MARGIN, "see")):
        state = update(start(), " see", frames("see "))
        log_probs = np.concatenate([frames("y"), blanks(silent_frames)])[1:]
        state = update(state, " see y", log_probs)
        assert stable_text(state) == expected


def test_ctc_model_confirms_words_from_a_score_on() -> None:
    confirming = replace(CONFIG, confirmation_score=-0.2)
    assert stable_text(update(start(confirming), " see you soon", frames("see you soon "))) == "see you"
    assert stable_text(update(start(confirming), " sea you soon", frames("see you soon "))) == ""
    lenient = replace(CONFIG, confirmation_score=-3.5)  # one letter of three is wrong: -3.4
    assert stable_text(update(start(lenient), " sea you soon", frames("see you soon "))) == "sea you"


def test_word_without_letters_of_the_ctc_model_is_not_confirmed() -> None:
    vocabulary = Vocabulary((b"", b" see", b" 42", b" soon"), end=0)
    state = AttentionDecoder(vocabulary, LABELS, FRAME, replace(CONFIG, confirmation_score=-0.2)).start(0)
    output = DecodeOutput((1, 2, 3), (-0.1, -0.1, -0.1), None)
    assert stable_text(state.update(output, frames("see you soon "), 1, final=False)) == "see"


def quiet(count: int, letters: float = -6.0) -> FloatArray:
    """Return frames of silence in which letters have a small probability."""
    log_probs = np.full((count, len(LABELS.tokens)), letters, dtype=np.float32)
    log_probs[:, LABELS.blank] = -0.1
    return log_probs


def test_word_in_silence_is_vetoed() -> None:
    log_probs = np.concatenate([frames("see"), quiet(100)])
    assert texts(update(start(), " see you.", log_probs)) == ["see"]
    assert texts(update(start(), " You", quiet(100))) == []
    assert texts(update(start(), " You", blanks(0))) == []


@pytest.mark.parametrize(
    ("veto_score", "veto_non_blank", "expected"), [(-4.0, 0.1, []), (-5.1, 0.1, ["you"]), (-4.0, 0.006, ["you"])]
)
def test_veto_requires_a_bad_score_and_silence(veto_score: float, veto_non_blank: float, expected: list[str]) -> None:
    """Each letter has a score of -5 in each frame, which is a probability of 0.0067."""
    state = start(replace(CONFIG, veto_score=veto_score, veto_non_blank=veto_non_blank))
    assert texts(update(state, " you", quiet(40, -5.0))) == expected


def test_symbol_is_vetoed_although_the_ctc_model_cannot_write_it() -> None:
    vocabulary = Vocabulary((b"", " ♪".encode()), end=0)
    state = AttentionDecoder(vocabulary, LABELS, FRAME, CONFIG).start(0)
    log_probs = frames("see")
    assert state.update(DecodeOutput((1,), (-0.1,), None), log_probs, len(log_probs), final=True).words == ()


def test_punctuation_alone_is_not_vetoed() -> None:
    assert texts(update(start(), " see .", np.concatenate([frames("see"), blanks(50)]))) == ["see", "."]


@pytest.mark.parametrize("loop", [["you"], ["see", "you"], ["now", "see", "you"], ["oh", "now", "see", "you"]])
def test_repetition_at_the_end_is_cut(loop: list[str]) -> None:
    spoken = " ".join(loop)
    text = " ".join(loop * 4)
    assert texts(update(start(), f" well {text}", frames(f"well {spoken} "))) == ["well", *loop]


def test_repetition_that_the_ctc_model_confirms_stays() -> None:
    text = "no no no no no"
    assert texts(update(start(), f" {text}", frames(f"{text} "))) == text.split()


def test_two_copies_are_no_loop() -> None:
    assert texts(update(start(replace(CONFIG, veto_score=-99)), " see you you", frames("see you and "))) == [
        "see",
        "you",
        "you",
    ]


def test_continuation_of_a_stable_word_is_dropped() -> None:
    state = update(start(), " see you", frames("see you "))
    state = update(state, " see you soon", frames("soon "))
    assert stable_text(state) == "see you"
    assert texts(update(state, "rs soon", frames("now "))) == ["see", "you", "soon"]
    assert texts(update(state, "rs", frames("now "))) == ["see", "you"]
    assert texts(update(start(), "see you", frames("see you "))) == ["see", "you"], "nothing is stable"


def test_prefix_and_draft_are_the_stable_and_the_unstable_tokens() -> None:
    state = update(start(), " see, you", frames("see you "))
    state = update(state, " See, you soon", frames("soon "))
    assert (state.prefix, state.draft) == (encode(" See, you"), encode(" soon"))


def test_speech_after_the_stable_words_is_found() -> None:
    state = start(replace(CONFIG, min_blank_log_prob=-0.2))
    assert not state.has_speech(blanks(20))
    assert not state.has_speech(frames("", 1.0)), "the fake model gives silence a score of -0.1"
    assert state.has_speech(frames("a", 1.0))
    assert update(state, " a", frames("a", 0.1)).has_speech(blanks(20)), "earlier frames count as well"


def test_stable_words_are_not_speech_after_them() -> None:
    """The stable words reach into the right context, which is part of the next window."""
    state = start(replace(CONFIG, min_blank_log_prob=-0.2))
    right = np.concatenate([frames("soon"), blanks(40)])
    state = update(state, " see soon .", np.concatenate([frames("see "), right]), 16)
    state = replace(state, earlier=(("see", "soon", ""),))
    state = update(state, " see soon .", right, 0)
    assert stable_text(state) == "see soon"
    assert not state.has_speech(right)


def test_words_keep_their_frames_when_stable_words_reach_into_the_right_context() -> None:
    text, start_frame = "see you soon and then we go home ", 50
    log_probs, config = frames(text), replace(CONFIG, confirmation_score=-0.2)
    expected = [(word.word, word.start, word.end) for word in whole_words(text, start_frame)]
    state = start(config, start_frame)
    commit, right = 20, 30
    for first in range(0, len(log_probs), commit):
        window = log_probs[first : first + commit + right]
        words = text[: (first + len(window)) // 4].split()[len(state.stable) :]
        state = update(state, "".join(f" {word}" for word in words), window, commit)
        assert [(word.word, word.start, word.end) for word in state.words[:-1]] == expected[: len(state.words) - 1]
    assert [word.word for word in state.words] == text.split()


def whole_words(text: str, start_frame: int) -> Sequence[Word]:
    words = "".join(f" {word}" for word in text.split())
    return update(start(CONFIG, start_frame), words, frames(text), final=True).words


def test_final_makes_no_word_stable_and_replaces_the_unstable_ones() -> None:
    state = update(start(), " see you", frames("see you "))
    state = update(state, " see you soon", frames("soon "), final=True)
    assert (state.stable, texts(state)) == ((), ["see", "you", "soon"])


def test_words_behind_a_cut_are_left_out() -> None:
    """ "you" has the frames 16 to 27: it lies before a cut if its middle does."""
    state = update(start(), " see you soon", frames("see you soon "))
    assert texts(state.before(60)) == ["see", "you", "soon"]
    assert texts(state.before(22)) == ["see", "you"]
    assert texts(state.before(21)) == ["see"]
    assert texts(state.before(0)) == []
    stable = update(state, " see you soon and", frames("and "))
    assert texts(stable.before(0)) == ["see", "you", "soon"], "stable words stay"


def test_number_of_tokens_is_limited_by_the_length_of_the_audio() -> None:
    decoder = AttentionDecoder(VOCABULARY, LABELS, FRAME, SecondPassConfig(max_tokens_per_s=6.5, extra_tokens=3))
    assert [decoder.max_tokens(samples) for samples in (0, 16_000, 160_000)] == [3, 9, 68]


def test_more_words_than_frames_are_no_error() -> None:
    assert texts(update(start(), " see you soon", blanks(3))) == []
    assert texts(update(start(), " see", blanks(0))) == []
