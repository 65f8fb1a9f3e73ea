"""Words by their sounds: a CTC prefix beam search over a model's phones, through a lexicon, under a language model.

Phones are few and learnt from little speech, so words that a model never learnt to write are found as well. What it
writes has its say at the end of each word: how well the pieces agree with the words so far. A word that is in no
lexicon may be said where the model writes one, and is then spelt as it is written there.

All texts go a frame further at once, in arrays; one by one only where words end.

Sources: the search is that of `stream_asr.beam`; lexicon trees with look-ahead, Ortmanns et al., "Language-Model
Look-Ahead for Large Vocabulary Speech Recognition", 1996; two models in one search, Beyerlein, "Discriminative Model
Combination", 1998.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from stream_asr.arrays import DoubleArray, FloatArray
from stream_asr.config import PhoneticConfig
from stream_asr.ctc import Frames, Labels
from stream_asr.lm.ngram import UNKNOWN, Context, NgramModel
from stream_asr.phonetic.agreement import Trails, Written
from stream_asr.phonetic.hearings import Ended, Hearings, Past
from stream_asr.phonetic.offers import Chosen, Offers
from stream_asr.phonetic.tree import ROOT, SoundTree
from stream_asr.phonetic.unlisted import LATE_FRAMES, Unlisted
from stream_asr.said import extended, text_after

_LEAST_LOG_PROB, _LEAST_FIRST = -8.0, -5.0
"""Phones less likely than this in a frame are not followed; nor do words begin with less likely ones."""

_CERTAIN_BLANK = -0.02
"""A blank likelier than this (98 %) says as much of one text as of another."""

_WORST_OFFERED, _WORST = 10.0, 8.0
"""Nats behind the best at which a text is given up: before all of a frame are known, and once they are.

Before, the best is only guessed, and words pay for themselves at their ends, some sooner than others.
"""

_HOMOPHONES = 4
"""Words that sound alike of which so many are followed, the likeliest in their context."""

AHEAD_FRAMES = 3
"""Pieces are written up to that long after the phones were heard; a frame is 48 ms."""

_SLACK = 1.0
"""Nats of agreement that a text may win back once more of what was written is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """What is known of words.

    Attributes:
        model: of the language.
        tree: of their sounds.
        spelt: the outputs that write one.
    """

    model: NgramModel
    tree: SoundTree
    spelt: Callable[[str], tuple[int, ...]]


class Search:
    """One run over some frames.

    Args:
        words: that may be said.
        ahead: what the best word of each node of their tree is worth, float64, shape (nodes,); see `worth_ahead`.
        labels: of the acoustic model.
        recent: its newest frames, those to be searched and some before them.
        trails: of the texts to go on from; those that are found are added.
    """

    def __init__(
        self,
        words: Words,
        ahead: DoubleArray,
        config: PhoneticConfig,
        labels: Labels,
        recent: Frames,
        trails: Trails,
    ) -> None:
        pieces = labels.pieces_of(recent.log_probs)
        self._words, self._config, self._tree, self._model = words, config, words.tree, words.model
        self._ahead = ahead
        self._phones = labels.phones_of(recent.log_probs)
        self._start = recent.start_frame
        self._written = Written(recent.start_frame, pieces, labels.blank)
        self._trails = trails
        self._after: dict[tuple[int, int], tuple[str, Context, int]] = {}
        self._unlisted = Unlisted(pieces, recent.start_frame, labels, words.model, words.tree)

    def run(self, hearings: Hearings, first: int, stop: int, width: int) -> Hearings:
        """The best texts, best first, that go on from ``hearings`` over the frames from ``first`` to ``stop``."""
        for frame in range(first, stop):
            for row in self._phones[frame - self._start]:
                if row[0] > _CERTAIN_BLANK and self._unlisted.beginning(frame) is None:
                    hearings = _silent(hearings)
                else:
                    hearings = self._frame(hearings, row, frame, width)
        return hearings

    def endings(
        self, hearings: Hearings, at: int, frame: int, least: float = -inf, *, begun: bool = False
    ) -> list[Ended]:
        """The words that a text may end with before ``frame``; before any word, nothing but itself.

        Args:
            at: place of the text.
            least: what it must be worth; agreement adds nothing.
            begun: where no word sounds like that, the likeliest that begins like that will do.
        """
        node, past, config = int(hearings.nodes[at]), hearings.pasts[at], self._config
        worth, before = float(hearings.worth[at]), text_after(past.said)
        if node == ROOT:
            return [Ended(at, "", worth, past.agreed, past.context, before)]
        if node < 0:
            if (unlisted := self._unlisted.at(node)) is None:
                return []
            spelt, context = unlisted.spelt, self._model.after(past.context, unlisted.number)
            text = text_after(past.said, (spelt.word,))
            agreed = self._agreement(before, text, "", frame)
            worth += config.piece_weight * (agreed - past.agreed)
            return [Ended(at, spelt.word, worth, agreed, context, text, spelt.confidence)]
        worth -= float(self._ahead[node])
        found = []
        numbers = self._tree.words(node)[:_HOMOPHONES] or ((self._tree.best_word(node),) if begun else ())
        for number in numbers:
            gained = worth + config.lm_weight * self._model.score(past.context, number)
            if gained + _SLACK < least:
                continue
            if (known := self._after.get((before, number))) is None:
                word = self._model.word(number)
                known = word, self._model.after(past.context, number), text_after(past.said, (word,))
                self._after[before, number] = known
            word, context, text = known
            agreed = self._agreement(before, text, word, frame)
            gained += config.piece_weight * (agreed - past.agreed)
            found.append(Ended(at, word, gained, agreed, context, text))
        return found

    def _frame(self, hearings: Hearings, row: FloatArray, frame: int, width: int) -> Hearings:
        likely = np.flatnonzero(row[1:] > _LEAST_LOG_PROB)
        if not len(likely):
            likely = np.array([row[1:].argmax()])
        weight = self._config.phone_weight
        blank, log_probs = weight * float(row[0]), weight * row[1:][likely].astype(np.float64)
        likeliest = max(blank, float(log_probs.max()))
        floor = float(hearings.scores[0]) + likeliest - _WORST_OFFERED
        total = np.logaddexp(hearings.blank, hearings.sounding)
        once_more = hearings.phones[:, None] == likely  # after a blank
        reached = np.where(once_more, hearings.blank[:, None], total[:, None]) + log_probs
        promising = reached + hearings.worth[:, None] >= floor

        heard = hearings.nodes >= 0
        nodes = np.where(heard, hearings.nodes, ROOT)
        resting, ends = np.full(len(hearings), blank), self._tree.ends[nodes]
        for at in np.flatnonzero(~heard).tolist():
            unlisted = self._unlisted.at(int(hearings.nodes[at]))
            ends[at] = unlisted is not None and frame >= unlisted.spelt.stop_frame
            if unlisted is not None and frame < unlisted.spelt.stop_frame + LATE_FRAMES:
                resting[at] = likeliest
        of_phone = np.full(1 + len(row), -inf)  # the last is that of -1, no phone
        of_phone[likely] = log_probs
        offers = Offers()
        offers.stay(hearings, total + resting, hearings.sounding + of_phone[hearings.phones])
        onward = self._tree.further[nodes[:, None], likely]
        worth = hearings.worth[:, None] + self._ahead[onward] - self._ahead[nodes][:, None]
        offers.go_on(
            hearings,
            onward,
            likely,
            reached,
            worth,
            promising & heard[:, None] & (onward != ROOT) & (reached + worth >= floor),
        )
        starts = self._tree.further[ROOT, likely]
        gained = self._ahead[starts] - self._ahead[ROOT]
        promising &= ends[:, None] & (starts != ROOT) & (log_probs > weight * _LEAST_FIRST)
        endings: list[Ended] = []
        if promising.any():
            best = np.where(promising, reached + gained, -inf).max(axis=1)
            for at in np.flatnonzero(promising.any(axis=1)).tolist():
                endings += self.endings(hearings, at, frame, floor - float(best[at]))
            offers.begin(endings, starts, likely, reached, gained, promising, floor)
        if (begins := self._unlisted.beginning(frame)) is not None:
            before = len(endings)
            for at in np.flatnonzero(ends | (hearings.nodes == ROOT)).tolist():
                endings += self.endings(hearings, at, frame)
            for place, ending in enumerate(endings[before:], before):
                gain = self._gain(ending.context, begins.number)
                offers.begin_unlisted(place, ending, begins.node, float(total[ending.hearing]) + likeliest, gain)
        chosen = offers.best(width, _WORST)
        return self._grown(hearings, chosen, endings, frame, np.exp(np.minimum(of_phone / weight, 0)))

    def _gain(self, context: Context, number: int) -> float:
        """What a word in no lexicon is worth; it is paid when the word begins."""
        config = self._config
        worth = config.word_bonus + config.lm_weight * self._model.score(context, number)
        return worth - config.unknown_penalty if number == UNKNOWN else worth

    def _agreement(self, before: int, text: int, word: str, frame: int) -> float:
        """Of what was written with the words so far and one more, which ends before ``frame``.

        Args:
            before, text: hashes of the words without it and with it.
            word: "" if it may have been written in any way.
        """
        needed = frame + AHEAD_FRAMES
        trail = self._trails.get(text)
        if trail is None or trail.stop_frame < min(needed, self._written.stop_frame):
            outputs = self._words.spelt(word) if word else ()
            trail = self._trails[text] = self._written.with_word(self._trails[before], outputs, needed)
        return trail.by(needed)

    def _grown(
        self, hearings: Hearings, chosen: Chosen, endings: list[Ended], frame: int, posterior: DoubleArray
    ) -> Hearings:
        """The texts that came of offers, with the times and peaks of their words."""
        origins, nodes, phones = chosen.origins, chosen.nodes, chosen.phones
        moved = (chosen.endings >= 0) | (nodes != hearings.nodes[origins])
        begun = moved & ((nodes < 0) | (self._tree.phones[np.maximum(nodes, ROOT)] == 1))
        sounding = chosen.sounding > chosen.blank
        heard = moved | sounding | (nodes < 0)
        peaks, peak, new = hearings.peaks[origins], hearings.peak[origins], posterior[phones]
        known: dict[int, Past] = {}
        pasts = []
        for origin, place in zip(origins.tolist(), chosen.endings.tolist(), strict=True):
            if place < 0:
                pasts.append(hearings.pasts[origin])
                continue
            if (past := known.get(place)) is None:
                past = known[place] = self.past(hearings, endings[place])
            pasts.append(past)
        return Hearings(
            pasts=tuple(pasts),
            texts=chosen.texts,
            contexts=chosen.contexts,
            nodes=nodes,
            phones=phones,
            blank=chosen.blank,
            sounding=chosen.sounding,
            worth=chosen.worth,
            scores=chosen.scores,
            first_frames=np.where(begun, frame, hearings.first_frames[origins]),
            stop_frames=np.where(heard, frame + 1, hearings.stop_frames[origins]),
            peaks=np.where(begun, 0.0, np.where(moved, peaks + peak, peaks)),
            peak=np.where(moved, new, np.where(sounding, np.maximum(peak, new), peak)),
        )

    def past(self, hearings: Hearings, ending: Ended) -> Past:
        """The whole words of a text, and the word that it ends with."""
        at = ending.hearing
        said = hearings.pasts[at].said
        if ending.word:
            confidence = self._confidence(hearings, at) if ending.confidence is None else ending.confidence
            # Two words may share a frame, as phones are told more than once in each: it is the first one's.
            first = max(int(hearings.first_frames[at]), said.stop_frame if said is not None else 0)
            said = extended(said, ending.word, first, max(first + 1, int(hearings.stop_frames[at])), confidence)
        return Past(said, ending.context, ending.agreed)

    def _confidence(self, hearings: Hearings, at: int) -> float:
        """Of the word being said in the text at a place."""
        phones = int(self._tree.phones[max(ROOT, int(hearings.nodes[at]))])
        return float(hearings.peaks[at] + hearings.peak[at]) / max(1, phones)


def worth_ahead(tree: SoundTree, config: PhoneticConfig) -> DoubleArray:
    """What the best word of each node is worth before it is known which it will be, shape (nodes,)."""
    ahead: DoubleArray = config.lm_weight * tree.likeliest
    ahead[ROOT] = -config.word_bonus  # which each word gets where it begins
    return ahead


def _silent(hearings: Hearings) -> Hearings:
    """After a frame of nothing: no text gains on another, only their last phones fall silent."""
    sounding = np.full(len(hearings), -inf)
    if (hearings.sounding == sounding).all():
        return hearings
    return replace(hearings, blank=np.logaddexp(hearings.blank, hearings.sounding), sounding=sounding)
