"""Captions in sentence case: which models get it, and that it takes nothing back."""

from __future__ import annotations

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
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.casing import CasedDecoder, Casing, capitals, casing_of, first_capital, sentence_case
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.greedy import GreedyDecoder
from tests.support.checkpoints import save_wav2vec2_raw
from tests.support.fakes import FakeModel, conversation, loud

FRAME = 320


def cased(text: str, casing: Casing) -> str:
    return " ".join(casing(word, not place) for place, word in enumerate(text.split()))


@pytest.mark.parametrize(
    ("heard", "written"),
    [
        ("well i think i'm late", "Well I think I'm late"),
        ("i'd say it is what i've said", "I'd say it is what I've said"),
        ("in ice i'll ink", "In ice I'll ink"),
        ("'tis so", "'tis so"),
        ("", ""),
    ],
)
def test_english_has_a_capital_in_front_and_for_i(heard: str, written: str) -> None:
    assert cased(heard, sentence_case) == written


def test_i_is_a_word_like_others_elsewhere() -> None:
    assert cased("änne i jego żona", first_capital) == "Änne i jego żona"


# --- which models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "is_capital", "usual", "raw"),
    [
        (("", " ", *string.ascii_lowercase), False, sentence_case, None),
        (("", " ", *string.ascii_lowercase), True, sentence_case, capitals),
        (("", " ", *string.ascii_lowercase, "ä"), False, first_capital, None),
        (("", " ", *string.ascii_letters), False, None, None),
        (("", " the", " The", "s"), False, None, None),
    ],
    ids=["small letters", "capitals", "another language", "both", "pieces of words in both"],
)
def test_models_of_one_case_get_another(
    pieces: tuple[str, ...], is_capital: bool, usual: Casing | None, raw: Casing | None
) -> None:
    labels = Labels(pieces, 0, is_capital)
    assert casing_of(labels, raw=False) is usual
    assert casing_of(labels, raw=True) is raw


@pytest.fixture(scope="module")
def in_capitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that writes in capitals, as facebook/wav2vec2-base-960h does."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_wav2vec2_raw(folder)
    return folder


def test_a_model_that_writes_in_capitals(in_capitals: Path) -> None:
    labels = load_model(in_capitals, device="cpu").labels
    assert labels.capitals
    assert cased("don't", capitals) == "DON'T"
    for raw, casing in ((False, sentence_case), (True, capitals)):
        with Recognizer.from_pretrained(in_capitals, device="cpu", raw=raw) as recognizer:
            assert isinstance(recognizer.decoder, CasedDecoder)
            assert recognizer.decoder.casing is casing


def test_a_model_of_both_cases_is_left_alone(in_capitals: Path, tmp_path: Path) -> None:
    for file in in_capitals.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(vocabulary.read_text().replace('"E"', '"e"'))
    with Recognizer.from_pretrained(tmp_path, device="cpu") as recognizer:
        assert not isinstance(recognizer.decoder, CasedDecoder)


def test_case_is_all_that_raw_changes(recognizer: Recognizer, demo_path: Path) -> None:
    def heard(raw: bool) -> list[Final]:
        with Recognizer(recognizer.model, casing=casing_of(recognizer.model.labels, raw=raw)) as made:
            return list(made.iter_finals(demo_path))

    usual, raw = heard(False), heard(True)
    assert [final.text for final in usual] == [cased(final.text.lower(), sentence_case) for final in raw]
    assert [[(word.start, word.end) for word in final.words] for final in usual] == [
        [(word.start, word.end) for word in final.words] for final in raw
    ]
    assert all(one.text != other.text for one, other in zip(usual, raw, strict=True))


# --- promises ---------------------------------------------------------------------------------------------

SPOKEN = Labels(("", " ", *"im'"), 0)
"""Little beyond what changes its case."""

DECODERS: dict[str, Decoder] = {
    "greedy": GreedyDecoder(SPOKEN, FRAME),
    "beam": make_decoder(SPOKEN, FRAME, BeamConfig(width=8, preview_width=4), None, ["i'm im"]),
}


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(1, 15), min_size=1, max_size=6),
    casing=st.sampled_from([sentence_case, first_capital, capitals]),
    name=st.sampled_from(sorted(DECODERS)),
)
def test_stable_text_only_grows_and_finals_begin_with_it(seed: int, cuts: list[int], casing: Casing, name: str) -> None:
    rng = np.random.default_rng(seed)
    plain = DECODERS[name].start(0)
    decoding, stable = CasedDecoder(DECODERS[name], casing).start(0), ""
    for frames in cuts:
        log_probs = np.log(rng.dirichlet(np.full(len(SPOKEN.tokens), 0.2), frames) + 1e-6).astype(np.float32)
        preview = decoding.preview(log_probs).text
        assert preview.startswith(decoding.stable)
        stop = decoding.stop_frame + frames
        decoding, plain = decoding.commit(log_probs, stop), plain.commit(log_probs, stop)
        assert decoding.stable.startswith(stable)
        stable = decoding.stable
        assert stable == cased(plain.stable, casing)
    final = decoding.finish()
    assert final.text.startswith(stable)
    assert final.text == cased(plain.finish().text, casing)
    assert final.confidence == plain.finish().confidence


def test_every_utterance_begins_anew() -> None:
    audio = conversation("so i said what i think", "i do", "he does")
    with Recognizer(FakeModel(), detector=lambda: loud, casing=sentence_case) as recognizer:
        finals = [final.text for final in recognizer.iter_finals(audio)]
    assert finals == ["So I said what I think", "I do", "He does"]
