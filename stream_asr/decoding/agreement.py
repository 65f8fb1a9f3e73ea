"""The whole words of a hypothesis: a list that hypotheses share the beginnings of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_asr.events import Word


@dataclass(frozen=True, slots=True, eq=False)
class WordHistory:
    """A whole word and, by way of ``before``, all words before it.

    Attributes:
        first_frame, stop_frame: in which the word was spelt, on the stream's absolute grid.
        confidence: 0 to 1.
        count: words up to here.
        text: a hash of them; equal texts have equal ones.
    """

    before: WordHistory | None
    word: str
    first_frame: int
    stop_frame: int
    confidence: float
    count: int
    text: int


def text_after(said: WordHistory | None, words: Iterable[str] = ()) -> int:
    """The hash of the words said and some more."""
    text = said.text if said is not None else 0
    for word in words:
        text = hash((text, word))
    return text


def extended(said: WordHistory | None, word: str, first_frame: int, stop_frame: int, confidence: float) -> WordHistory:
    """One word more."""
    count = said.count if said is not None else 0
    return WordHistory(said, word, first_frame, stop_frame, confidence, count + 1, text_after(said, (word,)))


def in_order(said: WordHistory | None) -> list[WordHistory]:
    """The words, first to last."""
    words = []
    while said is not None:
        words.append(said)
        said = said.before
    return words[::-1]


def first_words(said: WordHistory | None, count: int) -> WordHistory | None:
    """The first ``count`` words."""
    while said is not None and said.count > count:
        said = said.before
    return said


def ended_by(said: WordHistory | None, frame: int) -> WordHistory | None:
    """The words that ended by ``frame``."""
    while said is not None and said.stop_frame > frame:
        said = said.before
    return said


def common(texts: Iterable[WordHistory | None]) -> WordHistory | None:
    """The words that all of them begin with."""
    said = list(texts)
    fewest = min(words.count if words is not None else 0 for words in said)
    said = [first_words(words, fewest) for words in said]
    while len({text_after(words) for words in said}) > 1:
        said = [words.before if words is not None else None for words in said]
    return said[0]


def stable_text(texts: Iterable[WordHistory | None]) -> str:
    """The words that all of them begin with, as they are shown."""
    return " ".join(said.word for said in in_order(common(texts)))


def settled(texts: Sequence[WordHistory | None], frame: int) -> list[int]:
    """Places of the texts that begin as the first of them does with the words that ended by ``frame``.

    A question that was left open for that long is decided, so that stable text does not wait for its answer.
    """
    decided = ended_by(texts[0], frame)
    if decided is None:
        return list(range(len(texts)))
    beginnings = (text_after(first_words(said, decided.count)) for said in texts)
    return [place for place, text in enumerate(beginnings) if text == decided.text]


def timed(said: WordHistory | None, frame_samples: int) -> tuple[Word, ...]:
    """The words with their times, for frames of that length at 16 kHz."""
    return tuple(
        Word.in_frames(word.word, word.first_frame, word.stop_frame, word.confidence, frame_samples)
        for word in in_order(said)
    )
