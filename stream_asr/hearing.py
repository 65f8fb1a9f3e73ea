"""What the search by sound holds: texts, and the words that they may end with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from stream_asr.lm.ngram import Context
from stream_asr.lm.sounds import Sound
from stream_asr.said import Said


@dataclass(frozen=True, slots=True)
class Unknown:
    """A word that is in no lexicon is being said: the one whose first piece was written in that frame."""

    first_frame: int


@dataclass(slots=True, eq=False)
class Hearing:
    """One text.

    Attributes:
        context: what the language model knows of its words.
        sound: what was heard of the word after them; the root of the tree before the first word.
        phone: the last one.
        blank, sounding: log-probabilities, weighted, of its alignments that end in a blank and in ``phone``.
        worth: of the text, in nats: language model, bonuses, and agreement with what was written.
        agreed: that agreement, before its weight.
        said: its whole words.
        first_frame, stop_frame, peaks, peak, phones: of the word being said, as in `stream_asr.beam`.
        score: of all.
    """

    context: Context
    sound: Sound | Unknown
    phone: int
    blank: float
    sounding: float
    worth: float
    agreed: float
    said: Said | None
    first_frame: int
    stop_frame: int
    peaks: float
    peak: float
    phones: int
    score: float


Key: TypeAlias = tuple[Context, Sound | Unknown, int]


@dataclass(slots=True, eq=False)
class Ended:
    """A word that a hypothesis may end with.

    Attributes:
        worth, agreed, context, text: of the hypothesis with it; ``text`` is the hash.
        confidence: None for that of its phones.
    """

    word: str
    worth: float
    agreed: float
    context: Context
    text: int
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Spelt:
    """A word as the model wrote it, in no lexicon."""

    letters: str
    stop_frame: int
    confidence: float
