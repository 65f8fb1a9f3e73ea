"""Language models: from text to n-grams to files, and hotwords."""

from __future__ import annotations

import io
import json
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_asr.acoustic.catalog import BUNDLED_LMS
from stream_asr.decoding.hotwords import Hotwords, compiled, read_hotwords
from stream_asr.errors import InputError
from stream_asr.lm.building import build
from stream_asr.lm.kneser_ney import estimate
from stream_asr.lm.ngram import END, SPECIAL, START, STEPS_PER_NAT, UNKNOWN, NgramModel
from stream_asr.lm.storage import load, save
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


def test_pronunciations_in_an_older_file_are_ignored(tmp_path: Path) -> None:
    model = estimate(TEXT)
    with np.load(io.BytesIO(written(model))) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(arrays["header"].tobytes()) | {"phones": ["AA", "K"]}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    arrays |= {"pronunciations": np.zeros(3, dtype=np.uint8), "pronounced": np.zeros(2, dtype=np.uint16)}
    with open(tmp_path / "older.lm", "wb") as file:
        np.savez_compressed(file, **arrays)
    assert written(load(tmp_path / "older.lm")) == written(model)


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
    context = model.after(model.after((), model.id("one")), model.id("of"))
    assert model.score(context, model.id("the")) > -1
    assert model.score(context, model.id("of")) < -5


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
