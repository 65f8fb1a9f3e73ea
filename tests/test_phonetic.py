"""Words by their sounds: their tree, agreement with what is written, and the search, on frames made for them."""

from __future__ import annotations

import string
from dataclasses import replace
from itertools import groupby, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr.arrays import FloatArray
from stream_asr.beam import BeamDecoder
from stream_asr.config import BeamConfig, PhoneticConfig
from stream_asr.ctc import Labels
from stream_asr.decoders import make_decoder
from stream_asr.errors import InputError
from stream_asr.lm.estimate import estimate
from stream_asr.lm.lexicon import Lexicon, lexicon_of, read_dictionary
from stream_asr.lm.ngram import SPECIAL, NgramModel
from stream_asr.phonetic.agreement import BytePairs, Written, beginning
from stream_asr.phonetic.decoder import PhoneticDecoder
from stream_asr.phonetic.hearings import Hearings, Past
from stream_asr.phonetic.offers import Offers
from stream_asr.phonetic.tree import ROOT, SoundTree

FRAME = 768
DICTIONARY = """
the  DH AH0
cat  K AE1 T
sat  S AE1 T
on  AA1 N
mat  M AE1 T
a  AH0
a(2)  EY1
knight  N AY1 T
night  N AY1 T
nights  N AY1 T S
two  T UW1
to  T UW1
rode  R OW1 D
road  R OW1 D
"""
TEXT = [
    line.split()
    for line in [
        "the cat sat on the mat",
        "the knight rode to the cat",
        "two cat sat to night",
        "a night on the road",
        "the nights",
        "two abbot sat",
    ]
    * 3
]


def language_model() -> NgramModel:
    model = estimate(TEXT, order=3)
    ids = {word: number for number, word in enumerate(model.vocabulary, SPECIAL)}
    return replace(model, lexicon=lexicon_of(read_dictionary(DICTIONARY.splitlines(), "dictionary"), ids))


MODEL = language_model()
assert MODEL.lexicon is not None
LEXICON = MODEL.lexicon
PIECES = ("", *string.ascii_lowercase, *(f" {letter}" for letter in string.ascii_lowercase))
LABELS = Labels(PIECES, blank=0, phones=LEXICON.phones)
CONFIG = PhoneticConfig(width=24, preview_width=8, settle_ms=600, unknown_penalty=2.0)
DECODER = PhoneticDecoder(LABELS, FRAME, MODEL, LEXICON, CONFIG)
SAID = {word: pronunciation for word, *pronunciation in map(str.split, DICTIONARY.split("\n")[1:-1])}


def frames(written: str, said: str | None = None, doubt: float = 0.02) -> FloatArray:
    """Three frames for each word's letter, of its phone as well; words of ``said`` stand where those written stand.

    Args:
        doubt: probability of everything else together, in each frame.
    """
    rows = []
    for letters, word in zip(written.split(), (said or written).split(), strict=True):
        phones = [LEXICON.phones.index(phone.rstrip("012")) for phone in SAID.get(word, ["S"])]
        length = max(len(letters), len(phones))
        for at in range(length):
            piece = PIECES.index((" " if not at else "") + letters[at]) if at < len(letters) else 0
            phone = 1 + phones[at] if at < len(phones) else 0
            for sounding in (True, True, False):
                rows.append((piece if sounding else 0, phone if sounding else 0))
    pieces, phones_ = (
        np.full((len(rows), outputs), doubt / outputs) for outputs in (len(PIECES), 1 + len(LABELS.phones))
    )
    for at, (piece, phone) in enumerate(rows):
        pieces[at, piece] = phones_[at, phone] = 1 - doubt
    return np.log(np.concatenate([pieces, phones_], axis=1)).astype(np.float32)


def heard(log_probs: FloatArray, step: int = 8, decoder: PhoneticDecoder = DECODER) -> str:
    decoding = decoder.start(0)
    for at in range(0, len(log_probs), step):
        piece = log_probs[at : at + step]
        decoding = decoding.keep(piece, at + len(piece))
    return decoding.finish().text


@pytest.mark.parametrize("step", [1, 8, 1000])
def test_what_is_said_and_written_is_heard(step: int) -> None:
    assert heard(frames("the cat sat on the mat"), step) == "the cat sat on the mat"


def test_a_word_that_is_written_wrong_is_found_by_its_sound() -> None:
    strict = PhoneticDecoder(LABELS, FRAME, MODEL, LEXICON, replace(CONFIG, unknown_penalty=20.0))
    assert heard(frames("the qat sat on the mat", "the cat sat on the mat"), decoder=strict) == "the cat sat on the mat"


def test_words_that_sound_alike_are_told_apart_by_what_is_written() -> None:
    unread = PhoneticDecoder(LABELS, FRAME, MODEL, LEXICON, replace(CONFIG, lm_weight=0.2))
    assert heard(frames("a knight on the road", "a night on the road"), decoder=unread) == "a knight on the road"
    assert heard(frames("a night on the road"), decoder=unread) == "a night on the road"
    assert heard(frames("the knight rode to the cat")) == "the knight rode to the cat"


def test_words_that_sound_alike_are_told_apart_by_their_context() -> None:
    deaf = PhoneticDecoder(LABELS, FRAME, MODEL, LEXICON, replace(CONFIG, piece_weight=0.0))
    assert heard(frames("the night rode to the cat"), decoder=deaf) == "the knight rode to the cat"
    assert heard(frames("a knight on the rode"), decoder=deaf) == "a night on the road"


def test_a_lexicon_may_have_fewer_sounds_than_the_model_hears() -> None:
    phones = tuple(sorted({*LEXICON.phones, "AB", "ZZ"}))
    more = replace(LABELS, phones=phones)
    log_probs = frames("the knight rode to the cat")
    wider = np.full((len(log_probs), sum(more.sizes)), -20.0, dtype=np.float32)
    wider[:, : len(PIECES) + 1] = log_probs[:, : len(PIECES) + 1]
    for at, phone in enumerate(LEXICON.phones):
        wider[:, len(PIECES) + 1 + phones.index(phone)] = log_probs[:, len(PIECES) + 1 + at]
    decoder = PhoneticDecoder(more, FRAME, MODEL, LEXICON, CONFIG)
    assert heard(wider, decoder=decoder) == "the knight rode to the cat"


def test_a_word_in_no_lexicon_is_spelt_as_it_is_written() -> None:
    assert heard(frames("the zyx sat on the mat", "the zyx sat on the mat")) == "the zyx sat on the mat"
    assert heard(frames("two abbot sat")) == "two abbot sat"  # a known word, of which nobody knows how it sounds


def test_words_have_times_and_confidences() -> None:
    log_probs = frames("the cat")
    words = DECODER.start(10).keep(log_probs, 10 + len(log_probs)).finish().words
    assert [word.word for word in words] == ["the", "cat"]
    first, second = words
    assert (first.start, second.start) == (10 * FRAME / 16_000, 19 * FRAME / 16_000)
    assert first.start < first.end <= second.start < second.end
    assert all(0.97 < word.confidence <= 1 for word in words)


def test_a_word_that_has_only_begun_is_a_fragment() -> None:
    log_probs = frames("the nights")
    strict = PhoneticDecoder(LABELS, FRAME, MODEL, LEXICON, replace(CONFIG, unknown_penalty=20.0))
    begun = strict.start(0).glimpse(log_probs[:12])  # DH AH N
    assert begun.fragment
    assert begun.complete == 1
    assert begun.text in ("the night", "the knight", "the nights")
    whole = strict.start(0).glimpse(log_probs[:18])  # DH AH N AY T
    assert not whole.fragment
    assert whole.text in ("the night", "the knight")


def test_nothing_new_is_nothing_more() -> None:
    decoding = DECODER.start(0).keep(frames("the cat"), 18)
    assert decoding.glimpse(np.zeros((0, 0), dtype=np.float32)).text == "the cat"


def test_frames_that_are_missing_are_silent() -> None:
    log_probs = frames("the cat")
    decoding = DECODER.start(0).keep(log_probs, len(log_probs) + 5)
    assert decoding.stop_frame == len(log_probs) + 5
    assert decoding.keep(frames("sat"), len(log_probs) + 5 + 9).finish().text == "the cat sat"


@st.composite
def noise(draw: st.DrawFn) -> FloatArray:
    """Frames that could mean almost anything, blanks more often than the rest."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    length, strength = draw(st.integers(1, 80)), draw(st.sampled_from([1.0, 3.0]))
    kinds = []
    for outputs in (len(PIECES), 1 + len(LABELS.phones)):
        logits = rng.normal(0, strength, (length, outputs))
        logits[:, 0] += 2.0
        kinds.append(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    return np.concatenate(kinds, axis=1).astype(np.float32)


@settings(max_examples=25)
@given(noise(), st.integers(1, 12), st.integers(0, 12))
def test_stable_text_stays_whatever_comes(log_probs: FloatArray, step: int, ahead: int) -> None:
    decoding, stable = DECODER.start(0), ""
    for at in range(0, len(log_probs), step):
        stop = min(len(log_probs), at + step)
        before = decoding
        decoding = decoding.keep(log_probs[at:stop], stop)
        assert (decoding.stable + " ").startswith(stable + " " * bool(stable))
        stable = decoding.stable
        for hypothesis in (decoding.glimpse(log_probs[stop : stop + ahead]), decoding.finish()):
            assert (hypothesis.text + " ").startswith(stable + " " * bool(stable))
            edges = [edge for word in hypothesis.words for edge in (word.start, word.end)]
            assert edges == sorted(edges)
            assert all(word.start < word.end and 0 <= word.confidence <= 1 for word in hypothesis.words)
        assert before.keep(log_probs[at:stop], stop).finish() == decoding.finish()  # looking changed nothing


def paths(outputs: tuple[int, ...], length: int) -> list[tuple[int, ...]]:
    """All alignments of some outputs to so many frames."""
    found = []
    for path in product(sorted({0, *outputs}), repeat=length):
        if tuple(output for output, _ in groupby(path) if output) == outputs:
            found.append(path)
    return found


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), st.integers(1, 6))
def test_agreement_is_that_of_the_best_alignment(seed: int, outputs: tuple[int, ...], length: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 1.5, (length, 4))
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    trail = Written(5, log_probs, 0).with_word(beginning(5), outputs, 5 + length)
    likely = log_probs - log_probs.max(axis=1, keepdims=True)
    best = max(
        (sum(likely[at, output] for at, output in enumerate(path)) for path in paths(outputs, length)), default=-5
    )
    assert trail.scores[-1] == pytest.approx(max(best, -5), abs=1e-4)


def test_a_word_more_goes_on_where_the_one_before_may_end() -> None:
    log_probs = frames("the cat")[:, : len(PIECES)]
    written, spelt = Written(0, log_probs, 0), BytePairs(LABELS)
    trail = written.with_word(beginning(0), spelt("the"), 9)
    right, wrong = (written.with_word(trail, spelt(word), len(log_probs)) for word in ("cat", "mat"))
    assert right.by(len(log_probs)) == pytest.approx(0, abs=1e-6)
    assert wrong.by(len(log_probs)) < -4
    anything = written.with_word(trail, (), len(log_probs))
    assert anything.by(len(log_probs)) == pytest.approx(0, abs=1e-6)


def test_words_are_divided_as_byte_pairs_were_learnt() -> None:
    labels = Labels(("", " ", *"abct", "at", " c", " cat", " a"), blank=0)
    spelt = BytePairs(labels)
    assert [labels.pieces[output] for output in spelt("cat")] == [" cat"]
    assert [labels.pieces[output] for output in spelt("batt")] == [" ", "b", "at", "t"]
    assert spelt("dog") == ()


@given(
    st.dictionaries(
        st.text("abcd", min_size=1, max_size=3),
        st.lists(st.sampled_from(["AA", "B", "K"]), min_size=1, max_size=4),
        min_size=1,
        max_size=12,
    )
)
def test_the_tree_has_every_pronunciation_and_no_other(dictionary: dict[str, list[str]]) -> None:
    model = estimate([list(dictionary)], order=1)
    ids = {word: number for number, word in enumerate(model.vocabulary, SPECIAL)}
    lexicon = lexicon_of({word: (tuple(phones),) for word, phones in dictionary.items()}, ids)
    tree, found = SoundTree(lexicon, model, lexicon.phones), set()

    def walk(node: int, phones: tuple[str, ...]) -> None:
        below = [word for word, said in dictionary.items() if tuple(said[: len(phones)]) == phones]
        assert tree.phones[node] == len(phones)
        assert tree.likeliest[node] == max(model.score((), ids[word]) for word in below)
        assert model.word(tree.best_word(node)) in below
        assert tree.ends[node] == bool(tree.words(node))
        found.update((model.word(number), phones) for number in tree.words(node))
        for phone, onward in enumerate(tree.further[node].tolist()):
            if onward != ROOT:
                walk(onward, (*phones, lexicon.phones[phone]))

    walk(ROOT, ())
    assert found == {(word, tuple(phones)) for word, phones in dictionary.items()}


def chosen(ways: list[tuple[int, int, float, float, float]], width: int = 9, worst: float = 99.0) -> list[float]:
    """Scores of the best of some ways to a text: its hash, its node, and its blank, sounding and worth."""
    texts, nodes, blank, sounding, worth = map(np.array, zip(*ways, strict=True))
    same = replace(
        Hearings.nothing((), 0),
        texts=texts,
        nodes=nodes,
        worth=worth,
        pasts=len(ways) * (Past(None, (), 0.0),),
        contexts=np.zeros(len(ways), dtype=np.int64),
        phones=np.full(len(ways), -1),
    )
    offers = Offers()
    offers.stay(same, blank, sounding)
    return offers.best(width, worst).scores.tolist()


def test_ways_to_the_same_text_add_up_and_of_two_texts_the_better_stays() -> None:
    half = np.log(0.5)
    assert chosen([(1, 5, half, -np.inf, 0.0), (1, 5, half, -np.inf, 0.0)]) == [pytest.approx(0)]
    assert chosen([(1, 5, half, half, 0.0)]) == [pytest.approx(0)], "a blank and a sound at its end"
    assert chosen([(1, 5, -1.0, -np.inf, -1.0), (2, 5, -4.0, -np.inf, 0.5)]) == [pytest.approx(-2)]
    assert chosen([(1, 5, -1.0, -np.inf, 0.0), (1, 6, -2.0, -np.inf, 0.0)]) == [-1.0, -2.0], "with other sounds to come"
    assert chosen([(1, 5, -1.0, -np.inf, 0.0), (1, 6, -2.0, -np.inf, 0.0)], width=1) == [-1.0]
    assert chosen([(1, 5, -1.0, -np.inf, 0.0), (1, 6, -9.5, -np.inf, 0.0)], worst=8.0) == [-1.0]


def test_the_search_by_sounds_is_chosen() -> None:
    assert isinstance(make_decoder(LABELS, FRAME, BeamConfig(), MODEL), BeamDecoder)
    assert isinstance(make_decoder(LABELS, FRAME, BeamConfig(), MODEL, phonetic=CONFIG), PhoneticDecoder)


@pytest.mark.parametrize(
    ("labels", "model", "hotwords", "why"),
    [
        (replace(LABELS, phones=()), MODEL, (), "hears no phones"),
        (LABELS, None, (), "needs a language model"),
        (LABELS, replace(MODEL, lexicon=None), (), "--pronunciations"),
        (LABELS, replace(MODEL, lexicon=Lexicon((), (), np.zeros(0, dtype=np.uint16))), (), "--pronunciations"),
        (replace(LABELS, phones=LEXICON.phones[1:]), MODEL, (), f"does not know: {LEXICON.phones[0]};"),
        (LABELS, MODEL, ("zyx",), "nobody knows how hotwords sound"),
    ],
)
def test_the_search_by_sounds_needs_phones_and_pronunciations(
    labels: Labels, model: NgramModel | None, hotwords: tuple[str, ...], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        make_decoder(labels, FRAME, BeamConfig(), model, hotwords, CONFIG)
