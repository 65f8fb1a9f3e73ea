"""What may become a text of the search by sounds: ways to it, added up where they spell the same.

Source: Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent
DNNs", 2014, for the sums over alignments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
import numpy.typing as npt

from stream_asr.arrays import DoubleArray, IntArray
from stream_asr.phonetic.hearings import Ended, Followed, Hearings


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Chosen(Followed):
    """The best of the offers, best first; all arrays have the shape (offers,).

    Attributes:
        origins: places of the texts that they come of.
        endings: places of the words that these end with; -1 for none.
    """

    origins: IntArray
    endings: IntArray


@dataclass(slots=True)
class Offers:
    """Those of one frame. Arrays with two axes are of the shape (texts, phones)."""

    _whole: list[Sequence[IntArray]] = field(default_factory=list)
    _real: list[Sequence[DoubleArray]] = field(default_factory=list)

    def stay(self, hearings: Hearings, blank: DoubleArray, sounding: DoubleArray) -> None:
        """All texts as they are."""
        places = np.arange(len(hearings))
        self._whole.append(
            (places, np.full(len(hearings), -1), hearings.texts, hearings.contexts, hearings.nodes, hearings.phones)
        )
        self._real.append((blank, sounding, hearings.worth))

    def go_on(
        self,
        hearings: Hearings,
        onward: npt.NDArray[np.int32],
        phones: IntArray,
        reached: DoubleArray,
        worth: DoubleArray,
        which: npt.NDArray[np.bool_],
    ) -> None:
        """Some texts with one phone more of their word.

        Args:
            onward: nodes that phones lead to.
            reached: log-probabilities.
        """
        origins, columns = np.nonzero(which)
        if not len(origins):
            return
        self._whole.append(
            (
                origins,
                np.full(len(origins), -1),
                hearings.texts[origins],
                hearings.contexts[origins],
                onward[which].astype(np.int64),
                phones[columns],
            )
        )
        self._real.append((np.full(len(origins), -inf), reached[which], worth[which]))

    def begin(
        self,
        endings: Sequence[Ended],
        starts: npt.NDArray[np.int32],
        phones: IntArray,
        reached: DoubleArray,
        gained: DoubleArray,
        which: npt.NDArray[np.bool_],
        floor: float,
    ) -> None:
        """Words that end, and one phone more that begins another.

        Args:
            starts: nodes that phones lead to.
            gained: what these add, shape (phones,).
            floor: scores below it are none.
        """
        if not endings:
            return
        origins = np.array([ending.hearing for ending in endings])
        worth = np.array([ending.worth for ending in endings])[:, None] + gained
        places, columns = np.nonzero(which[origins] & (reached[origins] + worth >= floor))
        if not len(places):
            return
        texts = np.array([ending.text for ending in endings])
        contexts = np.array([hash(ending.context) for ending in endings])
        self._whole.append(
            (
                origins[places],
                places,
                texts[places],
                contexts[places],
                starts[columns].astype(np.int64),
                phones[columns],
            )
        )
        self._real.append((np.full(len(places), -inf), reached[origins[places], columns], worth[places, columns]))

    def begin_unlisted(self, place: int, ending: Ended, node: int, blank: float, gain: float) -> None:
        """A word that ends, and another that is in no lexicon."""
        whole = (ending.hearing, place, ending.text, hash(ending.context), node, -1)
        self._whole.append([np.array([value]) for value in whole])
        self._real.append([np.array([value]) for value in (blank, -inf, ending.worth + gain)])

    def best(self, width: int, worst: float) -> Chosen:
        """At most ``width`` of them, and none that is more than ``worst`` nats behind the best."""
        origins, endings, texts, contexts, nodes, phones = map(np.concatenate, zip(*self._whole, strict=True))
        blank, sounding, worth = map(np.concatenate, zip(*self._real, strict=True))
        # Texts are one that go on alike: after the same context, with the same sounds, which a node is one row of.
        # Hashes stand for contexts.
        alike = contexts * 1_000_003 + nodes * 7_919
        order = np.lexsort((-np.maximum(blank, sounding) - worth, alike))
        ordered = alike[order]
        leads = np.append(True, ordered[1:] != ordered[:-1])
        first = order[leads]
        if len(first) < len(order):
            # Alignments of the same text add up, of two texts only the better one stays.
            same = texts[order] == np.repeat(texts[first], np.diff(np.append(np.flatnonzero(leads), len(order))))
            at = np.flatnonzero(leads)
            blank, sounding = (np.logaddexp.reduceat(np.where(same, way[order], -inf), at) for way in (blank, sounding))
        else:
            blank, sounding = blank[first], sounding[first]
        scores = np.logaddexp(blank, sounding) + worth[first]
        top = np.argsort(-scores, kind="stable")[:width]
        top = top[scores[top] >= scores[top[0]] - worst]
        kept = first[top]
        return Chosen(
            origins=origins[kept],
            endings=endings[kept],
            texts=texts[kept],
            contexts=contexts[kept],
            nodes=nodes[kept],
            phones=phones[kept],
            blank=blank[top],
            sounding=sounding[top],
            worth=worth[kept],
            scores=scores[top],
        )
