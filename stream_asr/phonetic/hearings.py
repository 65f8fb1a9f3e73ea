"""What the search by sounds holds: texts, and the words that they may end with."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import inf

import numpy as np

from stream_asr.arrays import DoubleArray, IntArray
from stream_asr.lm.ngram import Context
from stream_asr.phonetic.tree import ROOT
from stream_asr.said import Said, text_after


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """The whole words of a text.

    Attributes:
        said: the words.
        context: what the language model knows of them.
        agreed: how well they agree with what was written.
    """

    said: Said | None
    context: Context
    agreed: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Followed:
    """What the search goes by, of texts, the best first. Arrays have the shape (texts,).

    Attributes:
        texts, contexts: hashes of their whole words and of what the language model knows of these.
        nodes: what was heard of the word after them: a node of the `SoundTree`, or of `Unlisted` if it is negative.
        phones: the last one; -1 for none.
        blank, sounding: log-probabilities, weighted, of their alignments that end in a blank and in that phone.
        worth: of the text, in nats: language model, bonuses, and agreement with what was written.
        scores: of all.
    """

    texts: IntArray
    contexts: IntArray
    nodes: IntArray
    phones: IntArray
    blank: DoubleArray
    sounding: DoubleArray
    worth: DoubleArray
    scores: DoubleArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Hearings(Followed):
    """Texts, the best first.

    Attributes:
        pasts: their whole words.
        first_frames, stop_frames, peaks, peak: of the word being said, as in `stream_asr.beam`.
    """

    pasts: tuple[Past, ...]
    first_frames: IntArray
    stop_frames: IntArray
    peaks: DoubleArray
    peak: DoubleArray

    @classmethod
    def nothing(cls, context: Context, frame: int) -> Hearings:
        """Of nothing, before that frame."""
        zero, first = np.zeros(1), np.array([frame])
        texts, contexts, nodes = np.array([text_after(None)]), np.array([hash(context)]), np.array([ROOT])
        return cls(
            pasts=(Past(None, context, 0.0),),
            texts=texts,
            contexts=contexts,
            nodes=nodes,
            phones=np.array([-1]),
            blank=zero,
            sounding=np.array([-inf]),
            worth=zero,
            first_frames=first,
            stop_frames=first,
            peaks=zero,
            peak=zero,
            scores=zero,
        )

    def __len__(self) -> int:
        return len(self.pasts)

    def at(self, places: list[int]) -> Hearings:
        """Those at some places."""
        arrays = {part.name: getattr(self, part.name)[places] for part in fields(self) if part.name != "pasts"}
        return replace(self, pasts=tuple(self.pasts[place] for place in places), **arrays)


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """A word that a text may end with.

    Attributes:
        hearing: place of the text.
        word: "" for none.
        worth, agreed, context, text: of the text with it; ``text`` is the hash.
        confidence: None for that of its phones.
    """

    hearing: int
    word: str
    worth: float
    agreed: float
    context: Context
    text: int
    confidence: float | None = None
