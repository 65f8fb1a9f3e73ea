from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import groupby, pairwise, product
from math import exp, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr import Recognizer
from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.alignment import AlignedWord, ForcedAligner
from stream_asr.decoding.alignment_lattice import WILDCARD_PENALTY
from stream_asr.decoding.base import Hypothesis
from stream_asr.decoding.ctc import BestPath, decode

LETTERS = Labels(("", " ", "a", "b"), blank=0)
SUBWORDS = Labels((" a", "a", "b", "ab", " b", ""), blank=5)
SPACES_ANYWHERE = Labels(("", "a", "b", " ", "b a", "a "), blank=0)
NO_SPACES = Labels(("a", "", "b", "ba"), blank=1)
VOCABULARIES = (LETTERS, SUBWORDS, SPACES_ANYWHERE, NO_SPACES)

ENGLISH = Labels(("", " ", "'", *"abcdefghijklmnopqrstuvwxyz"), blank=0)
PUNCTUATED = Labels(("", " ", *"abcdefgABCDEFG,-"), blank=0)

words_of_two_letters = st.lists(st.text("ab", min_size=1, max_size=3), max_size=3)


def random_log_probs(labels: Labels, frames: int, seed: int) -> FloatArray:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(labels.tokens)), frames)
    return np.log(probabilities).astype(np.float32)


def certain(labels: Labels, path: str, probability: float = 0.99) -> FloatArray:
    """Return frames with one probable token each: a character of ``path``, "_" for the blank."""
    others = (1 - probability) / (len(labels.tokens) - 1)
    log_probs = np.full((len(path), len(labels.tokens)), np.log(others), dtype=np.float32)
    tokens = [labels.blank if character == "_" else labels.tokens.index(character) for character in path]
    log_probs[np.arange(len(path)), tokens] = np.log(probability)
    return log_probs


def spans(words: tuple[AlignedWord, ...]) -> list[tuple[int, int]]:
    return [(word.first_frame, word.stop_frame) for word in words]


def align_certain(path: str, *words: str, labels: Labels = ENGLISH, free_end: bool = False) -> list[tuple[int, int]]:
    return spans(ForcedAligner(labels).align(certain(labels, path), words, free_end=free_end).words)


@cache
def paths_by_text(labels: Labels, frames: int) -> dict[tuple[str, ...], list[tuple[int, ...]]]:
    """Return all paths, by the words that they spell."""
    paths = defaultdict(list)
    for path in product(range(len(labels.tokens)), repeat=frames):
        text = "".join(labels.tokens[token] for token, _ in groupby(path))
        paths[tuple(text.split())].append(path)
    return paths


def best_score(labels: Labels, log_probs: FloatArray, words: list[str]) -> float:
    """Return the score of the best of all paths that spell some words."""
    text = tuple(words) if " " in "".join(labels.tokens) else ("".join(words),)
    paths = paths_by_text(labels, len(log_probs)).get(text)
    return float(log_probs[np.arange(len(log_probs)), np.array(paths)].sum(axis=1).max()) if paths else -inf


# --- the best path ------------------------------------------------------------------------------------------


@given(st.sampled_from(VOCABULARIES), words_of_two_letters.filter(bool), st.integers(1, 5), st.integers(0, 999))
def test_path_is_the_best_of_all_paths_that_spell_the_text(
    labels: Labels, words: list[str], frames: int, seed: int
) -> None:
    log_probs = random_log_probs(labels, frames, seed)
    alignment = ForcedAligner(labels).align(log_probs, words)
    assert alignment.log_prob == pytest.approx(best_score(labels, log_probs, words), abs=1e-4)


@given(st.sampled_from(VOCABULARIES), words_of_two_letters.filter(bool), st.integers(1, 5), st.integers(0, 999))
def test_any_tokens_may_follow_a_text_with_a_free_end(labels: Labels, words: list[str], frames: int, seed: int) -> None:
    log_probs = random_log_probs(labels, frames, seed)
    alignment = ForcedAligner(labels).align(log_probs, words, free_end=True)
    best = log_probs.max(axis=1)
    scores = [best_score(labels, log_probs[:stop], words) + best[stop:].sum() for stop in range(1, frames + 1)]
    assert alignment.log_prob == pytest.approx(max(scores), abs=1e-4)


@given(st.sampled_from((LETTERS, SUBWORDS)), st.integers(1, 40), st.integers(0, 999), st.booleans())
def test_best_path_is_aligned_with_its_own_text(labels: Labels, frames: int, seed: int, free_end: bool) -> None:
    log_probs = random_log_probs(labels, frames, seed)
    decoded = decode(BestPath.from_log_probs(log_probs, 0), labels, 16_000)
    alignment = ForcedAligner(labels).align(log_probs, [word.word for word in decoded.words], free_end=free_end)
    assert spans(alignment.words) == [(word.start, word.end) for word in decoded.words]
    if decoded.words:
        assert alignment.log_prob == pytest.approx(log_probs.max(axis=1).sum(), abs=1e-3)


@given(
    st.sampled_from(VOCABULARIES),
    st.lists(st.text("ab1é'-, ", max_size=4), max_size=6),
    st.integers(0, 30),
    st.integers(0, 999),
    st.booleans(),
)
def test_words_are_in_order_and_within_the_frames(
    labels: Labels, words: list[str], frames: int, seed: int, free_end: bool
) -> None:
    log_probs = random_log_probs(labels, frames, seed)
    alignment = ForcedAligner(labels).align(log_probs, words, free_end=free_end)
    assert len(alignment.words) == len(words)
    for word in alignment.words:
        assert 0 <= word.first_frame <= word.last_token_frame <= max(word.first_frame, word.stop_frame - 1)
        assert word.stop_frame <= frames
        assert 0 <= word.non_blank <= 1
        assert word.score is None or word.score <= 0
    for word, following in pairwise(alignment.words):
        assert word.stop_frame <= following.first_frame


def test_token_needs_a_blank_after_an_equal_one() -> None:
    assert align_certain("_l_l_", "ll") == [(1, 4)]
    assert ForcedAligner(ENGLISH).align(certain(ENGLISH, "lll"), ["ll"]).log_prob < -4
    assert ForcedAligner(ENGLISH).align(certain(ENGLISH, "ll"), ["ll"]).log_prob == -inf


def test_tokens_without_spaces_join_words() -> None:
    assert align_certain("_a_b_b", "ab", "b", labels=NO_SPACES) == [(1, 4), (5, 6)]


def test_frames_of_a_token_that_spans_words_belong_to_the_first_word() -> None:
    labels = Labels(("", "a", "b", " ", "c d"), blank=0)
    log_probs = np.full((4, 5), -9, dtype=np.float32)
    log_probs[np.arange(4), [1, 4, 0, 2]] = -0.1
    alignment = ForcedAligner(Labels((*labels.tokens, "c", "d"), 0)).align(
        np.pad(log_probs, ((0, 0), (0, 2)), constant_values=-9), ["ac", "db"]
    )
    assert spans(alignment.words) == [(0, 2), (2, 4)]


# --- spelling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("Titian,", "titian"),
        ("it's", "it's"),
        ("it’s", "it's"),
        ("‘tis", "tis"),
        ("dogs'", "dogs'"),
        ("naïve", "naive"),
        ("ﬁnd", "find"),
        ("well-known", "wel_l known"),
        ("well-known", "wel_lknown"),
        ("“(hello)…”", "hel_lo"),
        ("so\u00adfa", "sofa"),
    ],
)
def test_words_are_compared_as_the_model_writes_them(word: str, path: str) -> None:
    alignment = ForcedAligner(ENGLISH).align(certain(ENGLISH, f"_a {path}_ a_"), ["a", word, "a"])
    assert spans(alignment.words)[1] == (3, 3 + len(path))
    assert alignment.words[1].score == pytest.approx(np.log(0.99))


def test_accents_are_compared_if_the_model_writes_them() -> None:
    labels = Labels(("", " ", "e", "é"), blank=0)
    aligner = ForcedAligner(labels)
    scores = [aligner.align(certain(labels, "_é_"), [word]).words[0].score for word in ("é", "E\u0301", "e")]
    assert scores == pytest.approx([np.log(0.99), np.log(0.99), np.log(0.01 / 3)])


def test_punctuation_and_case_of_the_model_are_optional() -> None:
    for path in ("_Bad,_A", "_bad_a", "_bad, a"):
        words = ForcedAligner(PUNCTUATED).align(certain(PUNCTUATED, path.replace("_A", " A")), ["Bad,", "A"]).words
        assert words[0].score is not None
        assert words[0].first_frame == 1
        assert words[0].score > -0.1


def test_word_of_punctuation_has_no_frames() -> None:
    assert align_certain("_a_ _b_", "“", "a", "—", "b", "!") == [(1, 1), (1, 2), (2, 2), (5, 6), (6, 6)]
    alignment = ForcedAligner(ENGLISH).align(certain(ENGLISH, "___"), ["—"])
    assert alignment.words == (AlignedWord(0, 0, 0, None, 0.0),)
    assert alignment.log_prob == pytest.approx(3 * np.log(0.99))


# --- wildcards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["1990", "£5", "5%", "日本", "4th", "\ufffd", "&"])
def test_word_that_the_model_cannot_write_gets_the_frames_between_its_neighbors(word: str) -> None:
    path = "__in_ ninet_e_en_ninety__ the_"
    log_probs = certain(ENGLISH, path)
    alignment = ForcedAligner(ENGLISH).align(log_probs, ["in", word, "the"])
    before, wildcard, after = alignment.words
    assert spans((before, after)) == [(2, 4), (26, 29)]
    assert (wildcard.first_frame, wildcard.stop_frame) == (6, 23)
    assert wildcard.last_token_frame == 22
    assert wildcard.score is None
    assert wildcard.non_blank == pytest.approx(0.99)
    assert alignment.log_prob == pytest.approx(log_probs.max(axis=1).sum() - 17 * WILDCARD_PENALTY, abs=1e-3)


def test_part_of_a_word_can_be_a_wildcard() -> None:
    alignment = ForcedAligner(ENGLISH).align(certain(ENGLISH, "_twenty year old_"), ["20-year-old,"])
    (word,) = alignment.words
    assert (word.first_frame, word.stop_frame) == (1, 16)
    assert word.score == pytest.approx(np.log(0.99))


def test_consecutive_wildcards_share_their_frames() -> None:
    assert align_certain("_a five six _b", "a", "5", "—", "6", "b") == [(1, 2), (3, 7), (7, 7), (7, 11), (13, 14)]


def test_word_that_no_tokens_spell_is_a_wildcard() -> None:
    labels = Labels(("", " ab", "b", "c"), blank=0)
    (word,) = ForcedAligner(labels).align(random_log_probs(labels, 5, 0), ["ac"]).words
    assert word.score is None


# --- scores ---------------------------------------------------------------------------------------------------


def test_score_is_the_mean_peak_of_the_tokens() -> None:
    log_probs = np.log([[0.6, 0.1, 0.2, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.8, 0.1], [0.1, 0.3, 0.1, 0.5]])
    (word,) = ForcedAligner(LETTERS).align(log_probs.astype(np.float32), ["ab"]).words
    assert (word.first_frame, word.stop_frame, word.last_token_frame) == (1, 4, 3)
    assert word.score == pytest.approx(np.log([0.8, 0.5]).mean())
    assert word.non_blank == pytest.approx(0.8)


def test_word_over_blanks_has_a_low_posterior() -> None:
    first, last = ForcedAligner(ENGLISH).align(certain(ENGLISH, "_hi_________"), ["hi", "you"]).words
    assert first.non_blank == pytest.approx(0.99)
    assert last.non_blank < 0.01
    assert last.score is not None
    assert exp(last.score) < 0.01


@pytest.mark.parametrize("free_end", [False, True])
def test_words_share_the_frames_if_there_are_fewer_frames_than_tokens(free_end: bool) -> None:
    log_probs = random_log_probs(ENGLISH, 6, 0)
    alignment = ForcedAligner(ENGLISH).align(log_probs, ["many", "—", "words", "5"], free_end=free_end)
    assert alignment.log_prob == -inf
    assert spans(alignment.words) == [(0, 2), (2, 2), (2, 4), (4, 6)]
    assert [word.score for word in alignment.words] == [-inf, None, -inf, None]


def test_no_frames_and_no_words() -> None:
    aligner = ForcedAligner(LETTERS)
    (word,) = aligner.align(np.zeros((0, 4), dtype=np.float32), ["a"]).words
    assert word == AlignedWord(0, 0, 0, -inf, 0.0)
    assert aligner.align(random_log_probs(LETTERS, 3, 0), []).words == ()
    assert aligner.align(np.zeros((0, 4), dtype=np.float32), [], free_end=True).words == ()


# --- the end of the audio -------------------------------------------------------------------------------------


def test_text_may_lag_behind_the_audio() -> None:
    assert align_certain("_the_ cat_ sat_down", "the", "cat", free_end=True) == [(1, 4), (6, 9)]


def test_last_token_keeps_its_frames_before_a_free_end() -> None:
    assert align_certain("_aaa_b", "a", free_end=True) == [(1, 4)]


# --- speech ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_log_probs(recognizer: Recognizer, speech: FloatArray) -> FloatArray:
    frame_samples = recognizer.model.frame_samples
    [log_probs] = recognizer.model.log_probs([speech[: len(speech) // frame_samples * frame_samples]])
    return log_probs


@pytest.fixture(scope="module")
def demo(recognizer: Recognizer, demo_log_probs: FloatArray) -> Hypothesis:
    """The best path of the recording; its times are in frames."""
    return decode(BestPath.from_log_probs(demo_log_probs, 0), recognizer.model.labels, 16_000)


@pytest.fixture(scope="module")
def aligner(recognizer: Recognizer) -> ForcedAligner:
    return ForcedAligner(recognizer.model.labels)


def test_speech_is_aligned_with_its_own_transcript(
    aligner: ForcedAligner, demo_log_probs: FloatArray, demo: Hypothesis
) -> None:
    words = [f"{word.word.title()}," for word in demo.words]
    assert len(words) > 10
    alignment = aligner.align(demo_log_probs, words)
    assert spans(alignment.words) == [(word.start, word.end) for word in demo.words]


def test_word_that_was_not_said_has_a_bad_score(
    aligner: ForcedAligner, demo_log_probs: FloatArray, demo: Hypothesis
) -> None:
    words = [word.word for word in demo.words]
    expected = [word.score for word in aligner.align(demo_log_probs, words).words]
    for index in range(0, len(words) + 1, 4):
        aligned = list(aligner.align(demo_log_probs, [*words[:index], "umbrella", *words[index:]]).words)
        umbrella = aligned.pop(index)
        assert umbrella.score is not None
        assert umbrella.score < -6
        scores = [word.score for word in aligned]
        near = slice(max(0, index - 2), index + 2)
        scores[near] = expected[near]
        assert scores == expected, "only the two words on either side may change"


def test_beginning_of_a_transcript_is_aligned_with_a_free_end(
    aligner: ForcedAligner, demo_log_probs: FloatArray, demo: Hypothesis
) -> None:
    words = [word.word for word in demo.words]
    whole = spans(aligner.align(demo_log_probs, words).words)
    for count in range(1, len(words), 3):
        alignment = aligner.align(demo_log_probs, words[:count], free_end=True)
        assert spans(alignment.words) == whole[:count]
