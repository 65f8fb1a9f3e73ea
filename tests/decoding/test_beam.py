"""Prefix beam search on synthetic frames."""

from __future__ import annotations

import string
from dataclasses import replace
from itertools import groupby, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.config import BeamConfig
from stream_asr.decoding.base import Decoder, Hypothesis
from stream_asr.decoding.beam import BeamDecoder
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.decoding.token_graph import TokenGraph
from stream_asr.lm.kneser_ney import estimate
from stream_asr.lm.ngram import NgramModel

FRAME = 320
LABELS = Labels(("", " ", "'", *string.ascii_lowercase), blank=0)
CONFIG = BeamConfig(width=16, preview_width=6, settle_ms=200)
MODEL = estimate([line.split() for line in ["the cat sat on the mat", "the dog sat on the cat"] * 3], order=3)
WITHOUT_MODEL = BeamDecoder(LABELS, FRAME, TokenGraph(LABELS, CONFIG), CONFIG)
WITH_MODEL = make_decoder(LABELS, FRAME, CONFIG, MODEL)


def make_frames(text: str, alternatives: dict[int, tuple[str, float]] | None = None) -> FloatArray:
    """Return two frames of each letter, and one of the blank after it.

    Args:
        text: the most probable text, unless an alternative is more probable.
        alternatives: by the index of a letter, another letter and its probability.
    """
    probabilities = np.full((3 * len(text), len(LABELS.tokens)), 1e-4, dtype=np.float32)
    for index, letter in enumerate(text):
        spoken = slice(3 * index, 3 * index + 2)
        alternative, probability = (alternatives or {}).get(index, (letter, 0.0))
        probabilities[spoken, LABELS.tokens.index(alternative)] = 0.98 * probability
        probabilities[spoken, LABELS.tokens.index(letter)] = 0.98 * (1 - probability)
        probabilities[3 * index + 2, LABELS.blank] = 0.99
    return np.log(probabilities)


def decode(decoder: Decoder, log_probs: FloatArray, start: int = 0) -> Hypothesis:
    return decoder.start(start).commit(log_probs, start + len(log_probs)).finish()


@st.composite
def noise(draw: st.DrawFn, outputs: int = len(LABELS.tokens)) -> FloatArray:
    """Frames of random tokens, with more blanks and spaces than letters."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(0, draw(st.sampled_from([1.0, 3.0])), (draw(st.integers(1, 70)), outputs))
    logits[:, 0] += 2.0
    logits[:, 1] += 1.5
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), dtype=np.float32)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_wide_beam_finds_the_most_probable_text(seed: int, length: int) -> None:
    """Compares with the sum over all paths."""
    labels = Labels(("", "a", "b"), blank=0)
    probabilities = np.random.default_rng(seed).dirichlet([1, 1, 1], length).astype(np.float32)
    config = BeamConfig(width=1000, preview_width=1)
    decoder = BeamDecoder(labels, FRAME, TokenGraph(labels, config), config)
    texts: dict[str, float] = {}
    for path in product(range(3), repeat=length):
        text = "".join(labels.tokens[token] for token, _ in groupby(path))
        texts[text] = texts.get(text, 0.0) + float(np.prod(probabilities[range(length), path]))
    found = decode(decoder, np.log(np.maximum(probabilities, 1e-2))).text
    floored = np.maximum(probabilities, 1e-2) / probabilities.clip(1e-2).sum(axis=1, keepdims=True)
    if np.array_equal(floored, probabilities):
        assert texts[found] == pytest.approx(max(texts.values()), rel=1e-5)
    else:  # improbable tokens are not considered: no more than their probability may be lost
        assert texts[found] >= 0.9 * max(texts.values()) - length * 1e-2


@given(st.text("abc ", max_size=20), st.integers(0, 100))
def test_unambiguous_frames_give_the_best_path(text: str, start: int) -> None:
    log_probs = make_frames(text)
    expected = decode(GreedyDecoder(LABELS, FRAME), log_probs, start).words
    words = decode(WITHOUT_MODEL, log_probs, start).words
    assert [(word.word, word.start, word.end) for word in words] == [
        (word.word, word.start, word.end) for word in expected
    ]
    assert [word.confidence for word in words] == pytest.approx([word.confidence for word in expected])


@pytest.mark.slow
@settings(max_examples=60)
@given(noise(), st.lists(st.integers(1, 20), min_size=1, max_size=4), st.sampled_from([WITHOUT_MODEL, WITH_MODEL]))
def test_stable_text_only_grows_and_all_hypotheses_begin_with_it(
    log_probs: FloatArray, sizes: list[int], decoder: Decoder
) -> None:
    state, stable, start, step = decoder.start(7), "", 0, 0
    while start < len(log_probs):
        for ahead in (0, 5, 40):
            assert state.preview(log_probs[start : start + ahead]).text.startswith(state.stable)
        stop = min(len(log_probs), start + sizes[step % len(sizes)])
        state = state.commit(log_probs[start:stop], 7 + stop)
        start, step = stop, step + 1
        assert f"{state.stable} ".startswith(f"{stable} " if stable else "")
        stable = state.stable
    assert state.stop_frame == 7 + len(log_probs)
    assert f"{state.finish().text} ".startswith(f"{stable} " if stable else "")


@pytest.mark.slow
@settings(max_examples=60)
@given(noise(), st.integers(0, 1000), st.sampled_from([WITHOUT_MODEL, WITH_MODEL]))
def test_word_times_are_monotonic_and_within_the_audio(log_probs: FloatArray, start: int, decoder: Decoder) -> None:
    earliest = start * FRAME / 16_000
    for word in decode(decoder, log_probs, start).words:
        assert earliest <= word.start < word.end <= (start + len(log_probs)) * FRAME / 16_000
        assert 0 <= word.confidence <= 1
        earliest = word.end


@pytest.mark.slow
@given(noise())
def test_preview_does_not_change_the_state(log_probs: FloatArray) -> None:
    half = len(log_probs) // 2
    state = WITH_MODEL.start(0).commit(log_probs[:half], half)
    previewed = WITH_MODEL.start(0).commit(log_probs[:half], half)
    previewed.preview(log_probs[half:])
    expected = state.commit(log_probs[half:], len(log_probs)).finish()
    assert previewed.commit(log_probs[half:], len(log_probs)).finish() == expected


@pytest.mark.slow
@settings(max_examples=30)
@given(st.lists(noise(), min_size=2, max_size=4))
def test_earlier_utterances_do_not_change_the_text(utterances: list[FloatArray]) -> None:
    """The token graph is kept between utterances."""
    shared = make_decoder(LABELS, FRAME, CONFIG, MODEL)
    expected = [decode(make_decoder(LABELS, FRAME, CONFIG, MODEL), log_probs) for log_probs in utterances]
    assert [decode(shared, log_probs) for log_probs in utterances] == expected


def test_token_graph_is_replaced_when_it_has_grown_too_large() -> None:
    config = replace(CONFIG, max_graph_nodes=20)
    decoder = BeamDecoder(LABELS, FRAME, TokenGraph(LABELS, config, MODEL), config)
    text = "the dog sat on the mat and all that there is"
    state = decoder.start(0).commit(make_frames(text), 3 * len(text))
    assert len(state.graph) > 20
    assert len(decoder.start(0).graph) < 5
    assert state.finish().text == text, "an utterance in progress keeps its graph"


def test_language_model_decides_between_acoustically_similar_words() -> None:
    log_probs = make_frames("the kat sat", {4: ("c", 0.3)})
    assert decode(WITHOUT_MODEL, log_probs).text == "the kat sat"
    assert decode(WITH_MODEL, log_probs).text == "the cat sat"


def test_unambiguous_out_of_vocabulary_word_is_recognized() -> None:
    assert decode(WITH_MODEL, make_frames("the zebra sat")).text == "the zebra sat"


@pytest.mark.parametrize("model", [MODEL, None], ids=["with model", "without model"])
def test_hotword_wins_over_a_more_probable_spelling(model: NgramModel | None) -> None:
    log_probs = make_frames("fisser sat on the mat", {0: ("v", 0.1)})
    assert decode(WITH_MODEL, log_probs).text == "fisser sat on the mat"
    decoder = make_decoder(LABELS, FRAME, CONFIG, model, ["Visser"])
    assert decode(decoder, log_probs).text == "visser sat on the mat"
    assert decode(decoder, make_frames("fissure sat")).text == "fissure sat", "the score of a part is charged back"


def test_hotword_may_be_a_phrase() -> None:
    decoder = make_decoder(LABELS, FRAME, CONFIG, None, {"ne york": 0.5})
    assert decode(decoder, make_frames("nu york", {1: ("e", 0.45)})).text == "ne york"


def test_hotword_of_weight_zero_has_no_effect() -> None:
    ambiguous = make_frames("the cot sat", {5: ("a", 0.1)})
    config = replace(CONFIG, unknown_penalty=20.0)
    expected = decode(make_decoder(LABELS, FRAME, config, MODEL), ambiguous)
    assert expected.text == "the cat sat"
    assert decode(make_decoder(LABELS, FRAME, config, MODEL, {"cot": 0.0}), ambiguous) == expected


def test_disagreement_is_settled_after_a_while() -> None:
    log_probs = make_frames("the cat sat", {4: ("d", 0.5), 5: ("o", 0.5), 6: ("g", 0.5)})

    def stable(settle_ms: int) -> str:
        config = replace(CONFIG, settle_ms=settle_ms)
        return make_decoder(LABELS, FRAME, config, MODEL).start(0).commit(log_probs, len(log_probs)).stable

    assert stable(60_000) == "the"
    assert stable(100) in ("the cat", "the dog")


def test_missing_frames_count_as_blank() -> None:
    log_probs = make_frames("tt")
    state = WITHOUT_MODEL.start(0).commit(log_probs[:2], 3).commit(log_probs[3:], 6)
    assert (state.stop_frame, state.finish().text) == (6, "tt")


def test_words_are_looked_up_without_capitals_and_punctuation() -> None:
    labels = Labels(("", " The", " ca", "t", "d", ".", *"mnogs"), blank=0)
    decoder = make_decoder(labels, FRAME, replace(CONFIG, lm_weight=1.0), MODEL)
    probabilities = np.full((6, len(labels.tokens)), 1e-3, dtype=np.float32)
    for frame, token in enumerate((1, 0, 2, 3, 0, 5)):
        probabilities[frame, token] = 0.9
    probabilities[3, [3, 4]] = 0.4, 0.55
    assert decode(GreedyDecoder(labels, FRAME), np.log(probabilities)).text == "The cad."
    assert decode(decoder, np.log(probabilities)).text == "The cat."


def test_incomplete_word_is_a_fragment_unless_it_is_in_the_vocabulary() -> None:
    assert decode(WITH_MODEL, make_frames("the do")).fragment
    assert not decode(WITH_MODEL, make_frames("the dog")).fragment
    assert not decode(WITHOUT_MODEL, make_frames("the do")).fragment
