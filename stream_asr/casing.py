"""Sentence case for models that know but one case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from stream_asr.events import Word

_SELF = frozenset(("i", "i'm", "i'll", "i've", "i'd"))
"""English writes the speaker large. In other languages a lone "i" (Italian's article, Polish's "and") would suffer;
see `sentence_case`."""


def sentence_case(words: Iterable[Word], *, english: bool) -> tuple[Word, ...]:
    """The words with a capital at the front of the first of them, which begins an utterance.

    Each word depends on nothing but itself and whether it is the first: what is stable stays as it is when more words
    come.

    Args:
        english: "I" and what is contracted with it get a capital wherever they stand.
    """
    return tuple(
        replace(word, word=word.word[:1].upper() + word.word[1:])
        if not place or (english and word.word in _SELF)
        else word
        for place, word in enumerate(words)
    )
