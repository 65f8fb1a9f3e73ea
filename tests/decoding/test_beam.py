"""The beam search on frames made up for it."""

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
from stream_asr.decoding import beam as beam_module
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.beam import BeamDecoder
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.decoding.token_graph import TokenGraph
from stream_asr.errors import InputError
from stream_asr.lm.kneser_ney import estimate

FRAME = 320
LABELS = Labels(("", " ", "'", *string.ascii_lowercase), blank=0)
CONFIG = BeamConfig(width=16, preview_width=6, settle_ms=200)
MODEL = estimate([line.split() for line in ["the cat sat on the mat", "the dog sat on the cat"] * 3], order=3)
BY_EAR = BeamDecoder(LABELS, FRAME, TokenGraph(LABELS, CONFIG), CONFIG)
WITH_MODEL = make_decoder(LABELS, FRAME, CONFIG, MODEL)


def frames(text: str, instead: dict[int, tuple[str, float]] | None = None) -> FloatArray:
    """Two frames a letter and one of blank. ``instead`` gives some letters' places an alternative's probability."""
    probabilities = np.full((3 * len(text), len(LABELS.tokens)), 1e-4, dtype=np.float32)
    for place, letter in enumerate(text):
        sounding = slice(3 * place, 3 * place + 2)
        other, share = (instead or {}).get(place, (letter, 0.0))
        probabilities[sounding, LABELS.tokens.index(other)] = 0.98 * share
        probabilities[sounding, LABELS.tokens.index(letter)] = 0.98 * (1 - share)
        probabilities[3 * place + 2, LABELS.blank] = 0.99
    return np.log(probabilities)


def heard(decoder: Decoder, log_probs: FloatArray) -> str:
    return decoder.start(0).commit(log_probs, len(log_probs)).finish().text


@st.composite
def noise(draw: st.DrawFn, outputs: int = len(LABELS.tokens)) -> FloatArray:
    """Frames that could mean almost anything, spaces and blanks more often than the rest."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(0, draw(st.sampled_from([1.0, 3.0])), (draw(st.integers(1, 70)), outputs))
    logits[:, 0] += 2.0
    logits[:, 1] += 1.5
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), dtype=np.float32)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_a_wide_beam_finds_the_likeliest_text(seed: int, length: int) -> None:
    """Against the sum over every path there is."""
    labels = Labels(("", "a", "b"), blank=0)
    probabilities = np.random.default_rng(seed).dirichlet([1, 1, 1], length).astype(np.float32)
    config = BeamConfig(width=1000, preview_width=1)
    decoder = BeamDecoder(labels, FRAME, TokenGraph(labels, config), config)
    texts: dict[str, float] = {}
    for path in product(range(3), repeat=length):
        text = "".join(labels.tokens[output] for output, _ in groupby(path))
        texts[text] = texts.get(text, 0.0) + float(np.prod(probabilities[range(length), path]))
    found = heard(decoder, np.log(np.maximum(probabilities, 1e-2)))
    floored = np.maximum(probabilities, 1e-2) / probabilities.clip(1e-2).sum(axis=1, keepdims=True)
    if np.array_equal(floored, probabilities):
        assert texts[found] == pytest.approx(max(texts.values()), rel=1e-5)
    else:  # unlikely outputs are not followed: no more than what they are worth may be lost
        assert texts[found] >= 0.9 * max(texts.values()) - length * 1e-2


@given(st.text("abc ", max_size=20), st.integers(0, 100))
def test_where_nothing_is_in_doubt_it_is_the_best_path(text: str, start: int) -> None:
    log_probs = frames(text)
    greedy = GreedyDecoder(LABELS, FRAME).start(start).commit(log_probs, start + len(log_probs)).finish()
    found = BY_EAR.start(start).commit(log_probs, start + len(log_probs)).finish()
    assert [(word.word, word.start, word.end) for word in found.words] == [
        (word.word, word.start, word.end) for word in greedy.words
    ]
    assert [word.confidence for word in found.words] == pytest.approx([word.confidence for word in greedy.words])


@settings(max_examples=60)
@given(noise(), st.lists(st.integers(1, 20), min_size=1, max_size=4), st.sampled_from([BY_EAR, WITH_MODEL]))
def test_stable_text_only_grows_and_begins_what_comes(
    log_probs: FloatArray, sizes: list[int], decoder: Decoder
) -> None:
    decoding, stable, at, turn = decoder.start(7), "", 0, 0
    while at < len(log_probs):
        for ahead in (0, 5, 40):
            assert decoding.preview(log_probs[at : at + ahead]).text.startswith(decoding.stable)
        stop = min(len(log_probs), at + sizes[turn % len(sizes)])
        decoding = decoding.commit(log_probs[at:stop], 7 + stop)
        at, turn = stop, turn + 1
        assert f"{decoding.stable} ".startswith(f"{stable} " if stable else "")
        stable = decoding.stable
    assert decoding.stop_frame == 7 + len(log_probs)
    assert f"{decoding.finish().text} ".startswith(f"{stable} " if stable else "")


@settings(max_examples=60)
@given(noise(), st.integers(0, 1000), st.sampled_from([BY_EAR, WITH_MODEL]))
def test_times_lie_in_the_audio_and_do_not_go_back(log_probs: FloatArray, start: int, decoder: Decoder) -> None:
    edge = start * FRAME / 16_000
    for word in decoder.start(start).commit(log_probs, start + len(log_probs)).finish().words:
        assert edge <= word.start < word.end <= (start + len(log_probs)) * FRAME / 16_000
        assert 0 <= word.confidence <= 1
        edge = word.end


@given(noise())
def test_a_preview_leaves_no_trace(log_probs: FloatArray) -> None:
    half = len(log_probs) // 2
    plain = WITH_MODEL.start(0).commit(log_probs[:half], half)
    looked_ahead = WITH_MODEL.start(0).commit(log_probs[:half], half)
    looked_ahead.preview(log_probs[half:])
    expected = plain.commit(log_probs[half:], len(log_probs)).finish()
    assert looked_ahead.commit(log_probs[half:], len(log_probs)).finish() == expected


@settings(max_examples=30)
@given(st.lists(noise(), min_size=2, max_size=4))
def test_what_was_heard_before_changes_nothing(utterances: list[FloatArray]) -> None:
    """The graph is remembered between utterances, and forgotten when it grows too large; neither shows."""
    again = make_decoder(LABELS, FRAME, CONFIG, MODEL)
    alone = [
        make_decoder(LABELS, FRAME, CONFIG, MODEL).start(0).commit(frames_, len(frames_)).finish()
        for frames_ in utterances
    ]
    assert [again.start(0).commit(frames_, len(frames_)).finish() for frames_ in utterances] == alone


def test_the_graph_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam_module, "_REMEMBERED", 20)
    decoder = BeamDecoder(LABELS, FRAME, TokenGraph(LABELS, CONFIG, MODEL), CONFIG)
    first = decoder.start(0).commit(frames("the dog sat on the mat and all that there is"), 132)
    assert len(first.spelling) > 20
    assert len(decoder.start(0).spelling) < 5
    assert first.finish().text == "the dog sat on the mat and all that there is", "who is at it still has it"


def test_a_language_model_chooses_between_what_sounds_alike() -> None:
    log_probs = frames("the kat sat", {4: ("c", 0.3)})
    assert heard(BY_EAR, log_probs) == "the kat sat"
    assert heard(WITH_MODEL, log_probs) == "the cat sat"


def test_a_word_in_no_vocabulary_survives_where_it_is_clear() -> None:
    assert heard(WITH_MODEL, frames("the zebra sat")) == "the zebra sat"


def test_hotwords_with_and_without_a_language_model() -> None:
    log_probs = frames("fisser sat on the mat", {0: ("v", 0.1)})
    assert heard(WITH_MODEL, log_probs) == "fisser sat on the mat"
    for model in (MODEL, None):
        decoder = make_decoder(LABELS, FRAME, CONFIG, model, ["Visser"])
        assert heard(decoder, log_probs) == "visser sat on the mat"
        assert heard(decoder, frames("fissure sat")) == "fissure sat", "its beginning is charged back"
    two = frames("nu york", {1: ("e", 0.45)})
    assert heard(make_decoder(LABELS, FRAME, CONFIG, None, {"ne york": 0.5}), two) == "ne york"


def test_hotwords_of_no_weight_change_nothing() -> None:
    assert isinstance(make_decoder(LABELS, FRAME, CONFIG, None, {"zebra": 0.0}), GreedyDecoder)
    unsure = frames("the cot sat", {5: ("a", 0.1)})
    config = replace(CONFIG, unknown_penalty=20.0)
    without = make_decoder(LABELS, FRAME, config, MODEL).start(0).commit(unsure, len(unsure)).finish()
    zero = make_decoder(LABELS, FRAME, config, MODEL, {"cot": 0.0}).start(0).commit(unsure, len(unsure)).finish()
    assert zero == without
    assert without.text == "the cat sat"


def test_a_question_that_stays_open_is_decided() -> None:
    """Nothing says whether it is the dog that sits or the cat; the words after it need not wait for ever."""
    log_probs = frames("the cat sat", {4: ("d", 0.5), 5: ("o", 0.5), 6: ("g", 0.5)})

    def stable(settle_ms: int) -> str:
        config = replace(CONFIG, settle_ms=settle_ms)
        return make_decoder(LABELS, FRAME, config, MODEL).start(0).commit(log_probs, len(log_probs)).stable

    assert stable(60_000) == "the"
    assert stable(100) in ("the cat", "the dog")


def test_frames_that_a_model_leaves_out_are_blank() -> None:
    log_probs = frames("tt")
    decoding = BY_EAR.start(0).commit(log_probs[:2], 3).commit(log_probs[3:], 6)
    assert (decoding.stop_frame, decoding.finish().text) == (6, "tt")


def test_word_pieces_capitals_and_punctuation() -> None:
    labels = Labels(("", " The", " ca", "t", "d", ".", *"mnogs"), blank=0)
    decoder = make_decoder(labels, FRAME, replace(CONFIG, lm_weight=1.0), MODEL)
    probabilities = np.full((6, len(labels.tokens)), 1e-3, dtype=np.float32)
    for frame, output in enumerate((1, 0, 2, 3, 0, 5)):
        probabilities[frame, output] = 0.9
    probabilities[3, [3, 4]] = 0.4, 0.55
    assert heard(GreedyDecoder(labels, FRAME), np.log(probabilities)) == "The cad."
    assert heard(decoder, np.log(probabilities)) == "The cat.", "known words are known however they are written"


def test_models_that_words_cannot_help() -> None:
    no_spaces = Labels(("", "a", "b"), blank=0)
    with pytest.raises(InputError, match="where words end"):
        make_decoder(no_spaces, FRAME, CONFIG, MODEL)
    russian = Labels(("", " ", *"абвгдежз"), blank=0)
    with pytest.raises(InputError, match="another language"):
        make_decoder(russian, FRAME, CONFIG, MODEL)
    assert isinstance(make_decoder(no_spaces, FRAME, CONFIG), GreedyDecoder)
