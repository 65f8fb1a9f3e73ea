from __future__ import annotations

from typing import Any

from stream_asr.acoustic.catalog import BUNDLED_LMS
from stream_asr.lm.kneser_ney import estimate
from stream_asr.lm.ngram import END, UNKNOWN
from stream_asr.lm.storage import load
from tests.support.lm import PARAGRAPHS


def test_context_is_the_longest_suffix_that_was_continued() -> None:
    model = estimate(PARAGRAPHS, order=3)
    on, the = model.word_id("on"), model.word_id("the")
    assert model.next_context(model.next_context((), on), the) == (on, the)
    assert model.next_context((), UNKNOWN) == (), "an unknown word carries no information about the next word"


def test_look_ahead_is_the_most_probable_word_with_the_prefix() -> None:
    model = estimate(PARAGRAPHS, order=2, extra_words=["catalogue"])
    cat, catalogue = (model.log_prob((), model.word_id(word)) for word in ("cat", "catalogue"))
    assert model.max_unigram_log_prob("c") == model.max_unigram_log_prob("cat") == cat
    assert model.max_unigram_log_prob("cata") == catalogue < cat
    assert model.max_unigram_log_prob("catz") is None


class EmptiedCache(dict[Any, Any]):
    """A cache that another thread empties after each access."""

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self.clear()
        return found

    def __setitem__(self, key: object, value: object) -> None:
        super().__setitem__(key, value)
        self.clear()


def test_results_do_not_depend_on_the_caches() -> None:
    model, uncached = estimate(PARAGRAPHS, order=3), estimate(PARAGRAPHS, order=3)
    for cache in ("_log_prob_cache", "_context_cache", "_prefix_cache"):
        object.__setattr__(uncached, cache, EmptiedCache())
    cat = model.word_id("cat")
    for _ in range(2):
        assert uncached.next_context((), cat) == model.next_context((), cat)
        assert uncached.log_prob((cat,), END) == model.log_prob((cat,), END)
        assert uncached.max_unigram_log_prob("ca") == model.max_unigram_log_prob("ca")
        assert uncached.max_unigram_log_prob("catz") is None


def test_bundled_model_knows_english() -> None:
    model = load(BUNDLED_LMS["lm-en"])
    assert len(model.vocabulary) > 30_000
    assert BUNDLED_LMS["lm-en"].stat().st_size < 15e6
    context = model.next_context(model.next_context((), model.word_id("one")), model.word_id("of"))
    assert model.log_prob(context, model.word_id("the")) > -1
    assert model.log_prob(context, model.word_id("of")) < -5
