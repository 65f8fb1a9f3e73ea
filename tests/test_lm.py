"""Language models: from text to n-grams to files, how words sound, and hotwords."""

from __future__ import annotations

import io
from dataclasses import replace
from math import exp
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_asr.acoustic.catalog import BUNDLED_LMS
from stream_asr.errors import InputError
from stream_asr.lm.building import build
from stream_asr.lm.estimate import estimate
from stream_asr.lm.files import load, read_hotwords, save
from stream_asr.lm.hotwords import Hotwords, compiled
from stream_asr.lm.lexicon import MOST_PHONES, Lexicon, lexicon_of, read_dictionary
from stream_asr.lm.ngram import END, SPECIAL, START, STEPS_PER_NAT, UNKNOWN, NgramModel
from stream_asr.lm.text import paragraphs, spelt, words_of

TEXT = [line.split() for line in ("the cat sat on the mat", "the dog sat on the cat", "a cat and a dog sat")]
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz'")


def test_text_becomes_words_as_they_are_spoken() -> None:
    text = "“Well,” said Mr. O’Neill--the ‘old’ man, _really_;\nin 1945 I paid 1,500 pounds (or 21).\n\nCafé, naïve!"
    assert [" ".join(words) for words in paragraphs(text)] == [
        "well said mister o'neill the old man really in nineteen forty five i paid one thousand five hundred pounds "
        "or twenty one",
        "cafe naive",
    ]
    assert list(paragraphs("Café à 3 Euro", english=False)) == [["café", "à"], ["euro"]]


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("80", "eighty"),
        ("105", "one hundred five"),
        ("1066", "one thousand sixty six"),
        ("1900", "nineteen hundred"),
        ("1905", "nineteen o five"),
        ("2000000", "two million"),
        ("0021", "twenty one"),
        ("999,000,000,000", "nine hundred ninety nine billion"),
        ("12345678901234", "one two three four five six seven eight nine zero one two three four"),
        ("7" * 5000, " ".join(["seven"] * 5000)),
    ],
    ids=lambda text: text[:20],
)
def test_numbers_are_spelt_out(digits: str, words: str) -> None:
    assert spelt(digits) == words


@given(st.text())
def test_words_are_letters_and_apostrophes(text: str) -> None:
    for word in words_of(text):
        assert word == word.lower()
        assert word.replace("'", "").isalpha()


some_text = st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12), min_size=1, max_size=8)


@settings(max_examples=60)
@example([["a"]], 4, 1)  # too short for any n-gram of that order
@given(some_text, st.integers(1, 4), st.integers(1, 3))
def test_what_may_follow_adds_up_to_one(text: list[list[str]], order: int, last_cutoff: int) -> None:
    model = estimate(text, order=order, cutoffs=[1] * (order - 1) + [last_cutoff if order > 1 else 1])
    everything = [UNKNOWN, END, *range(SPECIAL, SPECIAL + len(model.vocabulary))]
    for paragraph in text:
        context = model.after((), START)
        for word in paragraph:
            # Each number is off by half a step at most, and a back-off adds up several.
            total = sum(exp(model.score(context, number)) for number in everything)
            assert total == pytest.approx(1, abs=order * 0.6 / STEPS_PER_NAT)
            context = model.after(context, model.id(word))


def test_what_was_seen_is_likelier_than_what_was_not() -> None:
    model = estimate(TEXT, order=3)
    on = model.id("on")
    after_sat = model.after((), model.id("sat"))
    assert model.score(after_sat, on) > model.score(after_sat, model.id("dog")) > -12
    alone = estimate(TEXT, order=1)
    assert alone.score((), alone.id("the")) > alone.score((), alone.id("mat")) > alone.score((), UNKNOWN)
    assert model.after(model.after((), on), model.id("the")) == (on, model.id("the"))
    assert model.after((), UNKNOWN) == (), "an unknown word tells nothing about the next"


def test_the_likeliest_word_of_a_beginning() -> None:
    model = estimate(TEXT, order=2, extra_words=["catalogue"])
    assert model.likeliest("c") == model.likeliest("cat") == model.score((), model.id("cat"))
    assert model.likeliest("cata") == model.score((), model.id("catalogue")) < model.score((), model.id("cat"))
    assert model.likeliest("catz") is None


class Forgetful(dict[Any, Any]):
    """A memory that another thread empties whenever it was looked at or written to."""

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self.clear()
        return found

    def __setitem__(self, key: object, value: object) -> None:
        super().__setitem__(key, value)
        self.clear()


def test_answers_do_not_depend_on_what_is_remembered() -> None:
    model, other = estimate(TEXT, order=3), estimate(TEXT, order=3)
    for memory in ("_scores", "_contexts", "_prefixes"):
        object.__setattr__(other, memory, Forgetful())
    cat = model.id("cat")
    for _ in range(2):
        assert other.after((), cat) == model.after((), cat)
        assert other.score((cat,), END) == model.score((cat,), END)
        assert other.likeliest("ca") == model.likeliest("ca")
        assert other.likeliest("catz") is None


def test_rare_words_and_n_grams_can_be_left_out() -> None:
    model = estimate(TEXT, order=3, cutoffs=[2, 2, 3])
    assert model.vocabulary == ("a", "cat", "dog", "on", "sat", "the")
    assert len(model.levels[1].words) < len(estimate(TEXT, order=3).levels[1].words)
    assert len(model.levels[2].words) == 0
    assert estimate(TEXT, most_words=2).vocabulary == ("cat", "the")


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"order": 5}, "1 to 4"),
        ({"cutoffs": [2, 1]}, "no smaller"),
        ({"cutoffs": [0]}, "at least 1"),
        ({"most_words": 0}, "1 to"),
        ({"cutoffs": [99]}, "no words"),
    ],
)
def test_settings_out_of_range(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate(TEXT, **settings_)  # type: ignore[arg-type]


def written(model: NgramModel) -> bytes:
    file = io.BytesIO()
    save(model, file)
    return file.getvalue()


def test_a_model_in_a_file_is_the_same_model(tmp_path: Path) -> None:
    model = estimate(TEXT, order=3, about="three lines")
    path = tmp_path / "lines.lm"
    path.write_bytes(written(model))
    again = load(path)
    assert (again.vocabulary, again.about, again.order) == (model.vocabulary, "three lines", 3)
    for ours, theirs in zip(model.levels, again.levels, strict=True):
        for part in ("words", "costs", "backoffs", "children"):
            np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
    assert written(again) == written(model)


def test_files_that_are_no_language_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no language model"):
        load(tmp_path / "none.lm")
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path)
    whole = written(estimate(TEXT))
    path = tmp_path / "broken.lm"
    other = io.BytesIO()
    np.savez(other, words=np.zeros(3))
    for content in (b"", b"\\data\\\nngram 1=3\n", whole[: len(whole) // 2], other.getvalue()):
        path.write_bytes(content)
        with pytest.raises(InputError, match="lm build"):
            load(path)


def test_texts_in_a_folder_make_a_model(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("\ufeffThe cat sat.\n\nThe dog, too.", encoding="utf-8")
    (tmp_path / "names").write_text("Visser\nAnneke\n", encoding="utf-8")
    settings_ = {"order": 2, "cutoffs": "1", "words": [tmp_path / "names"], "english": True}
    build([tmp_path / "texts"], tmp_path / "my.lm", **settings_)  # type: ignore[arg-type]
    assert load(tmp_path / "my.lm").vocabulary == ("anneke", "cat", "dog", "sat", "the", "too", "visser")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.lm", "names", "texts"], "nothing half-written"
    (tmp_path / "latin.txt").write_bytes("Käse".encode("latin-1"))
    for texts, changed, message in (
        ([tmp_path / "nothing.txt"], {}, "cannot read"),
        ([tmp_path / "latin.txt"], {}, "UTF-8"),
        ([tmp_path], {"cutoffs": "1;2"}, "whole numbers"),
        ([tmp_path / "texts"], {"output": tmp_path / "no" / "my.lm"}, "cannot write"),
    ):
        arguments = {"output": tmp_path / "my.lm", **settings_, **changed}
        with pytest.raises(InputError, match=message):
            build(texts, **arguments)  # type: ignore[arg-type]
    (tmp_path / "texts" / "one.txt").unlink()
    with pytest.raises(InputError, match="holds no"):
        build([tmp_path / "texts"], tmp_path / "my.lm", **settings_)  # type: ignore[arg-type]


def test_the_bundled_model_knows_english() -> None:
    model = load(BUNDLED_LMS["lm-en"])
    assert len(model.vocabulary) > 30_000
    assert BUNDLED_LMS["lm-en"].stat().st_size < 15e6
    assert model.lexicon is not None
    assert said(model.lexicon, model.id("tomato")) == ["T AH M AA T OW", "T AH M EY T OW"]
    context = model.after(model.after((), model.id("one")), model.id("of"))
    assert model.score(context, model.id("the")) > -1
    assert model.score(context, model.id("of")) < -5


SOUNDS = """\
;;; a comment
THE  DH AH0
the(2) DH IY1 # another way
the(3) DH IY0
cat K AE1 T
dog D AO1 G

mat M AE1 T
ross R AA1 S
sat S AE1 T # of sit
"""


def lexicon(text: str, *words: str) -> Lexicon:
    return lexicon_of(read_dictionary(text.splitlines(), "sounds.dict"), {word: at for at, word in enumerate(words, 7)})


def said(lexicon: Lexicon, word: int) -> list[str]:
    return [" ".join(lexicon.phones[place] for place in sounds) for sounds in lexicon.of(word)]


def test_words_sound_as_a_pronouncing_dictionary_says() -> None:
    made = lexicon(SOUNDS, "cat", "on", "the")
    assert made.phones == ("AA", "AE", "AH", "AO", "D", "DH", "G", "IY", "K", "M", "R", "S", "T")
    assert [said(made, word) for word in range(6, 11)] == [[], ["K AE T"], [], ["DH AH", "DH IY"], []]
    assert made.of(UNKNOWN) == made.of(-1) == ()
    assert made.words.dtype == np.uint16
    assert (made.spoken, made.words.tolist()) == (2, [9, 9, 7])


def test_words_that_sound_alike_all_stand_there() -> None:
    made = lexicon("two T UW1\nto T AH0\nto(2) T UW1\ntoo T UW1", "to", "too", "two")
    assert made.pronunciations == (b"\1\0", b"\1\2", b"\1\2", b"\1\2")
    assert made.words.tolist() == [7, 7, 8, 9]


def test_an_english_possessive_sounds_like_the_rest_and_a_hiss() -> None:
    sounds = SOUNDS + "his HH IH1 Z\ndog's D AO1 G EH1 S\n"
    made = lexicon(sounds, "cat's", "dog's", "on's", "ross's", "the's")
    expected = [["K AE T S"], ["D AO G EH S"], [], ["R AA S IH Z"], ["DH AH Z", "DH IY Z"]]
    assert [said(made, word) for word in range(7, 12)] == expected
    made = lexicon(SOUNDS, "cat's", "ross's", "the's")
    assert [said(made, word) for word in range(7, 10)] == [["K AE T S"], [], []], "it has no Z"
    ids = {"cat": 7, "cat's": 8}
    made = lexicon_of(read_dictionary(SOUNDS.splitlines(), "sounds.dict"), ids, english=False)
    assert [said(made, word) for word in (7, 8)] == [["K AE T"], []], "that is English"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "sounds.dict has no pronunciations; a line is a word and its sounds"),
        (";;; nothing\n\n# but comments", "has no pronunciations"),
        ("cat K AE1 T\ndog", "sounds.dict, line 2: 'dog' says no pronunciation; a line is a word and its sounds"),
        ("The cat sat on the mat.", "line 1: 'The cat sat on the mat.' says no pronunciation"),
        ("cat K AE3 T", "line 1"),
        ("cat # K AE1 T", "line 1"),
        ("\n".join(f"word {one}{two}" for one in ascii_uppercase for two in "ABCDEFGHIJ"), "260 different sounds"),
        ("hond HH AO N T", "knows none of the language model's words"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_pronouncing_dictionary(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lexicon(text, "cat", "dog")


sounding = st.lists(st.tuples(st.binary(min_size=1, max_size=4), st.integers(SPECIAL, SPECIAL + 6)), max_size=9)


@settings(max_examples=40)
@example([])
@given(sounding)
def test_how_words_sound_comes_back_from_a_file(
    tmp_path_factory: pytest.TempPathFactory, sounding: list[tuple[bytes, int]]
) -> None:
    listed = sorted((bytes(place % MOST_PHONES for place in sounds), word) for sounds, word in sounding)
    words = np.array([word for _, word in listed], dtype=np.uint16)
    phones = tuple(f"P{place:03}" for place in range(MOST_PHONES))
    model = replace(estimate(TEXT), lexicon=Lexicon(phones, tuple(sounds for sounds, _ in listed), words))
    path = tmp_path_factory.mktemp("lexicon") / "my.lm"
    path.write_bytes(written(model))
    again = load(path)
    assert again.lexicon is not None
    assert (again.lexicon.phones, again.lexicon.words.tolist()) == (phones, words.tolist())
    assert again.lexicon.pronunciations == tuple(sounds for sounds, _ in listed)
    assert again.lexicon.spoken == len(set(words.tolist()))
    for word in range(SPECIAL + 8):
        assert again.lexicon.of(word) == tuple(sounds for sounds, other in listed if other == word)
    assert written(again) == written(model)


@pytest.mark.parametrize(
    ("pronunciations", "words"),
    [
        ((b"\0\1", b"\1"), [3]),
        ((b"\1", b"\0"), [3, 4]),
        ((b"\0", b"\2"), [3, 4]),
        ((b"", b"\1"), [3, 4]),
        ((b"\0", b"\1"), [2, 3]),
        ((b"\0", b"\1"), [3, 99]),
    ],
    ids=["too few words", "not in order", "no such sound", "no sounds", "not a word", "no such word"],
)
def test_damaged_pronunciations(tmp_path: Path, pronunciations: tuple[bytes, ...], words: list[int]) -> None:
    damaged = Lexicon(("AA", "K"), pronunciations, np.array(words, dtype=np.uint16))
    (tmp_path / "my.lm").write_bytes(written(replace(estimate(TEXT), lexicon=damaged)))
    with pytest.raises(InputError, match="lm build"):
        load(tmp_path / "my.lm")


def test_a_model_is_built_with_how_its_words_sound(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n\n".join(" ".join(line) for line in TEXT), encoding="utf-8")
    dictionary, output = tmp_path / "sounds.dict", tmp_path / "my.lm"
    dictionary.write_text(SOUNDS, encoding="utf-8")

    def built() -> NgramModel:
        texts = [tmp_path / "text.txt"]
        return build(texts, output, order=2, cutoffs="1", words=[], english=True, pronunciations=dictionary)

    built()
    model = load(output)
    assert model.lexicon is not None
    assert said(model.lexicon, model.id("the")) == ["DH AH", "DH IY"]
    assert said(model.lexicon, model.id("on")) == []
    output.unlink()
    for content, message in ((b"cat", "line 1"), ("Käse K EY1 Z AH0".encode("latin-1"), "UTF-8")):
        dictionary.write_bytes(content)
        with pytest.raises(InputError, match=message):
            built()
    dictionary.unlink()
    with pytest.raises(InputError, match="cannot read"):
        built()
    assert not output.exists()


def test_hotwords_are_paid_letter_by_letter_and_charged_back() -> None:
    hot = Hotwords({"new york": 2.0, "new": 1.0})
    assert [hot.pending("", letters) for letters in ("n", "ne", "new", "next")] == [2, 4, 6, 0]
    phrase, paid = hot.said("", "new")
    assert (phrase, paid) == ("new ", 3.0), "a hotword by itself, and the beginning of another"
    assert hot.pending(phrase, "") == 0 + 6 - 3, "what the phrase is worth beyond the word that was paid"
    assert hot.pending(phrase, "yo") == 10 - 3
    assert hot.said(phrase, "york") == ("", 14 - 3)
    assert hot.still(phrase, "jersey") == ""
    assert hot.said("", "old") == ("", 0.0)


def test_a_phrase_may_begin_with_the_end_of_another() -> None:
    hot = Hotwords({"new york": 1.0, "york minster": 1.0})
    phrase, _ = hot.said("new ", "york")
    assert hot.said(phrase, "minster") == ("", 11.0)


def test_hotwords_in_files(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("# people\nAnneke Visser : 1.5\n\n  Zürich\nO'Neill: 2\n", encoding="utf-8")
    listed = read_hotwords(path)
    assert listed == {"Anneke Visser": 1.5, "Zürich": 1.0, "O'Neill": 2.0}
    hot = compiled(listed, LETTERS, 2.0)
    assert hot.pending("anneke ", "visser") == 12 * 1.5 * 2
    assert hot.pending("", "zurich") == 12, "an accent that the model does not write is taken off"
    path.write_text("Anneke: much\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: 'much' is no weight"):
        read_hotwords(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_hotwords(path)
    with pytest.raises(InputError, match="cannot read"):
        read_hotwords(tmp_path / "nobody.txt")


@pytest.mark.parametrize(
    ("listed", "message"),
    [(["R2D2"], "2 2"), (["Москва"], "does not write"), (["?!"], "no letters"), ({"Anneke": -1.0}, "weight -1")],
)
def test_hotwords_that_cannot_be_heard(listed: list[str] | dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compiled(listed, LETTERS, 1.0)
