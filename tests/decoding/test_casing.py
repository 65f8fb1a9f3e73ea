from __future__ import annotations

import shutil
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr import Final, Recognizer
from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.loading import load_model
from stream_asr.config import BeamConfig
from stream_asr.decoding.base import Decoder, Hypothesis
from stream_asr.decoding.casing import (
    CasedDecoder,
    Casing,
    capitalize_first,
    choose_casing,
    raw_hypothesis,
    raw_text,
    raw_words,
    sentence_case,
    upper_case,
)
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.events import Word
from tests.support.checkpoints import save_wav2vec2_raw
from tests.support.fakes import FakeModel, conversation, loud

FRAME = 320
LABELS = Labels(("", " ", *"im'"), 0)
"""The letters of words whose case changes."""

DECODERS: dict[str, Decoder] = {
    "greedy": GreedyDecoder(LABELS, FRAME),
    "beam": make_decoder(LABELS, FRAME, BeamConfig(width=8, preview_width=4), None, ["i'm im"]),
}


def apply(casing: Casing, text: str) -> str:
    return " ".join(casing(word, index == 0) for index, word in enumerate(text.split()))


@pytest.fixture(scope="module")
def uppercase_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that writes in capitals, as facebook/wav2vec2-base-960h does."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_wav2vec2_raw(folder)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("well i think i'm late", "Well I think I'm late"),
        ("i'd say it is what i've said", "I'd say it is what I've said"),
        ("in ice i'll ink", "In ice I'll ink"),
        ("'tis so", "'tis so"),
        ("", ""),
    ],
)
def test_sentence_case_capitalizes_the_first_word_and_the_pronoun_i(text: str, expected: str) -> None:
    assert apply(sentence_case, text) == expected


def test_pronoun_i_is_not_capitalized_in_other_languages() -> None:
    assert apply(capitalize_first, "änne i jego żona") == "Änne i jego żona"


@pytest.mark.parametrize(
    ("tokens", "uppercase", "default", "raw"),
    [
        (("", " ", *string.ascii_lowercase), False, sentence_case, None),
        (("", " ", *string.ascii_lowercase), True, sentence_case, upper_case),
        (("", " ", *string.ascii_lowercase, "ä"), False, capitalize_first, None),
        (("", " ", *string.ascii_letters), False, None, None),
        (("", " the", " The", "s"), False, None, None),
    ],
    ids=["small letters", "capitals", "another language", "both cases", "word pieces in both cases"],
)
def test_models_of_one_case_get_a_casing(
    tokens: tuple[str, ...], uppercase: bool, default: Casing | None, raw: Casing | None
) -> None:
    labels = Labels(tokens, 0, uppercase)
    assert choose_casing(labels, raw=False) is default
    assert choose_casing(labels, raw=True) is raw


@pytest.mark.parametrize(("raw", "casing"), [(False, sentence_case), (True, upper_case)])
def test_uppercase_model_writes_capitals_in_raw_mode_only(
    uppercase_checkpoint: Path, raw: bool, casing: Casing
) -> None:
    assert load_model(uppercase_checkpoint, device="cpu").labels.uppercase
    assert apply(upper_case, "don't") == "DON'T"
    with Recognizer.from_pretrained(uppercase_checkpoint, device="cpu", raw=raw) as recognizer:
        assert isinstance(recognizer.decoder, CasedDecoder)
        assert recognizer.decoder.casing is casing


def test_model_of_both_cases_keeps_its_casing(uppercase_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(uppercase_checkpoint, tmp_path / "both"))
    vocabulary = checkpoint / "vocab.json"
    vocabulary.write_text(vocabulary.read_text().replace('"E"', '"e"'))
    with Recognizer.from_pretrained(checkpoint, device="cpu") as recognizer:
        assert not isinstance(recognizer.decoder, CasedDecoder)


def test_raw_mode_changes_the_case_only(recognizer: Recognizer, demo_path: Path) -> None:
    def transcribe(raw: bool) -> list[Final]:
        with Recognizer(recognizer.model, casing=choose_casing(recognizer.model.labels, raw=raw)) as cased_recognizer:
            return list(cased_recognizer.iter_finals(demo_path))

    cased, raw = transcribe(False), transcribe(True)
    assert [final.text for final in cased] == [apply(sentence_case, final.text.lower()) for final in raw]
    assert [[(word.start, word.end) for word in final.words] for final in cased] == [
        [(word.start, word.end) for word in final.words] for final in raw
    ]
    assert all(one.text != other.text for one, other in zip(cased, raw, strict=True))


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.lists(st.integers(1, 15), min_size=1, max_size=6),
    casing=st.sampled_from([sentence_case, capitalize_first, upper_case]),
    name=st.sampled_from(sorted(DECODERS)),
)
def test_stable_text_only_grows_and_all_hypotheses_begin_with_it(
    seed: int, steps: list[int], casing: Casing, name: str
) -> None:
    rng = np.random.default_rng(seed)
    uncased = DECODERS[name].start(0)
    cased, stable = CasedDecoder(DECODERS[name], casing).start(0), ""
    for frames in steps:
        log_probs = np.log(rng.dirichlet(np.full(len(LABELS.tokens), 0.2), frames) + 1e-6).astype(np.float32)
        assert cased.preview(log_probs).text.startswith(cased.stable)
        stop = cased.stop_frame + frames
        cased, uncased = cased.commit(log_probs, stop), uncased.commit(log_probs, stop)
        assert cased.stable.startswith(stable)
        stable = cased.stable
        assert stable == apply(casing, uncased.stable)
    final = cased.finish()
    assert final.text.startswith(stable)
    assert final.text == apply(casing, uncased.finish().text)
    assert final.confidence == uncased.finish().confidence


def test_each_utterance_begins_with_a_capital() -> None:
    audio = conversation("so i said what i think", "i do", "he does")
    with Recognizer(FakeModel(), detector=lambda: loud, casing=sentence_case) as recognizer:
        finals = [final.text for final in recognizer.iter_finals(audio)]
    assert finals == ["So I said what I think", "I do", "He does"]


# --- raw mode of models that write punctuation ----------------------------------------------------------------


def make_words(text: str) -> tuple[Word, ...]:
    return tuple(Word(word, float(index), index + 0.5, 0.9) for index, word in enumerate(text.split()))


def test_raw_text_has_no_punctuation_and_one_case() -> None:
    text = "“Titian — Holbein,” he said; it’s well-known."
    assert raw_text(text) == "titian holbein he said it's well-known"
    assert raw_text(text, uppercase=True) == "TITIAN HOLBEIN HE SAID IT'S WELL-KNOWN"


def test_raw_words_keep_their_times() -> None:
    assert raw_words(make_words("Titian, — Holbein,")) == (
        Word("titian", 0.0, 0.5, 0.9),
        Word("holbein", 2.0, 2.5, 0.9),
    )


@given(st.lists(st.sampled_from(["Yes,", "—", "I", "...", "do."])), st.integers(0, 9), st.booleans())
def test_raw_hypothesis_counts_its_complete_words(words: list[str], complete: int, uppercase: bool) -> None:
    hypothesis = Hypothesis(make_words(" ".join(words)), min(complete, len(words)), fragment=True)
    raw = raw_hypothesis(hypothesis, uppercase=uppercase)
    assert raw.text == raw_text(hypothesis.text, uppercase=uppercase)
    assert " ".join(raw.complete_words) == raw_text(" ".join(hypothesis.complete_words), uppercase=uppercase)
    assert raw.fragment
