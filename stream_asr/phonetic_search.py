"""Words by their sounds: a CTC prefix beam search over a model's phones, through a lexicon, under a language model.

Phones are few and learnt from little speech, so words that a model never learnt to write are found as well. What it
writes has its say at the end of each word: how well the pieces agree with the words so far. A word that is in no
lexicon may be said where the model writes one, and is then spelt as it is written there.

Sources: the search is that of `stream_asr.beam`; lexicon trees with look-ahead, Ortmanns et al., "Language-Model
Look-Ahead for Large Vocabulary Speech Recognition", 1996; two models in one search, Beyerlein, "Discriminative Model
Combination", 1998.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import nlargest
from math import exp, inf
from operator import itemgetter

import numpy as np

from stream_asr.agreement import Trails, Written
from stream_asr.config import SAMPLE_RATE, PhoneticConfig
from stream_asr.ctc import Frames, Labels, Path, decode
from stream_asr.hearing import Ended, Hearing, Key, Spelt, Unknown
from stream_asr.lm.ngram import UNKNOWN, Context, NgramModel
from stream_asr.lm.sounds import Sound, SoundTree
from stream_asr.lm.spelling import plain
from stream_asr.prefixes import Offer, added, offer, score
from stream_asr.said import extended, text_after

_LEAST_LOG_PROB = -8.0
"""Phones less likely than this in a frame are not followed."""

_CERTAIN_BLANK = -0.02
"""A blank likelier than this (98 %) says as much of one hypothesis as of another."""

_WORST_OFFERED, _WORST = 10.0, 8.0
"""Nats behind the best at which a hypothesis is given up: before all of a frame are known, and once they are.

Before, the best is only guessed, and words pay for themselves at their ends, some sooner than others.
"""

_HOMOPHONES = 4
"""Words that sound alike of which so many are followed, the likeliest in their context."""

AHEAD_FRAMES = 3
"""Pieces are written up to that long after the phones were heard."""

_SLACK = 1.0
"""Nats of agreement that a hypothesis may win back once more of what was written is known."""

_EARLY_FRAMES, _LATE_FRAMES = 2, 3
"""A word in no lexicon begins at most so long before its first piece is written, and ends so long after its last."""


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
        labels, frame_samples: of the acoustic model.
        recent: its newest frames, those to be searched and some before them.
        trails: of the texts to go on from, and of these without their last word; those that are found are added.
    """

    def __init__(
        self,
        words: Words,
        config: PhoneticConfig,
        labels: Labels,
        frame_samples: int,
        recent: Frames,
        trails: Trails,
    ) -> None:
        pieces = recent.log_probs[:, : len(labels.pieces)]
        self._words, self._config, self._tree, self._model = words, config, words.tree, words.model
        shape = len(recent.log_probs), labels.phone_frames, 1 + len(labels.phones)
        self._phones = recent.log_probs[:, len(labels.pieces) :].reshape(shape)
        self._start = recent.start_frame
        self._written = Written(recent.start_frame, pieces, labels.blank)
        self._trails = trails
        self._after: dict[tuple[int, int], tuple[str, Context, int]] = {}
        self._spelt: dict[int, Spelt] = {}
        path = Path.best(pieces, recent.start_frame)
        for word in decode(path, labels, frame_samples).words:
            if not self._tree.sounds(self._model.id(plain(word.word))):
                first, stop = (round(at * SAMPLE_RATE / frame_samples) for at in (word.start, word.end))
                self._spelt[first] = Spelt(word.word, stop, word.confidence)
        # Sounds are heard a little before they are written.
        self._beginning = {
            first - early: Unknown(first) for first in self._spelt for early in range(_EARLY_FRAMES, -1, -1)
        }

    def run(self, hearings: tuple[Hearing, ...], first: int, stop: int, width: int) -> tuple[Hearing, ...]:
        """The best texts, best first, that go on from ``hearings`` over the frames from ``first`` to ``stop``."""
        weight = self._config.phone_weight
        for frame in range(first, stop):
            for row in self._phones[frame - self._start]:
                if row[0] > _CERTAIN_BLANK and frame not in self._beginning:
                    hearings = _silent(hearings)
                    continue
                likely = np.flatnonzero(row > _LEAST_LOG_PROB).tolist() or [int(row[1:].argmax()) + 1]
                phones = [(at - 1, weight * float(row[at])) for at in likely if at]
                hearings = self._frame(hearings, weight * float(row[0]), phones, frame, width)
        return hearings

    def _frame(
        self,
        hearings: tuple[Hearing, ...],
        blank: float,
        phones: list[tuple[int, float]],
        frame: int,
        width: int,
    ) -> tuple[Hearing, ...]:
        offers: dict[Key, Offer] = {}
        key: Key
        likeliest = max([blank, *(log_prob for _, log_prob in phones)])
        floor = hearings[0].score + likeliest - _WORST_OFFERED
        lm_weight, bonus = self._config.lm_weight, self._config.word_bonus
        further, root = self._tree.further, self._tree.root
        starts, unknown = further(root), self._beginning.get(frame)
        for hearing in hearings:
            total, sound, sounding = added(hearing.blank, hearing.sounding), hearing.sound, -inf
            text = text_after(hearing.said)
            ended: list[Ended] | None = None
            longer: dict[int, Sound] = {}
            paid = -bonus  # at the beginning of a word
            if isinstance(sound, Unknown):
                spelt = self._spelt.get(sound.first_frame)
                ends = spelt is not None and frame >= spelt.stop_frame
                within = spelt is not None and frame < spelt.stop_frame + _LATE_FRAMES
                stays = likeliest if within else blank
            else:
                stays, longer, ends = blank, further(sound), bool(sound.words)
                if sound is not root:
                    paid = lm_weight * sound.likeliest
            for phone, log_prob in phones:
                if phone == hearing.phone:
                    sounding = hearing.sounding + log_prob
                    reached = hearing.blank + log_prob  # once more, after a blank
                else:
                    reached = total + log_prob
                if reached + hearing.worth < floor:
                    continue
                if (onward := longer.get(phone)) is not None:
                    worth = hearing.worth + lm_weight * onward.likeliest - paid
                    if reached + worth >= floor:
                        key = hearing.context, onward, phone
                        offer(offers, key, (-inf, reached, worth, text, hearing, None))
                if ends and (start := starts.get(phone)) is not None:
                    if ended is None:
                        ended = self.endings(hearing, frame, floor - reached - lm_weight * start.likeliest - bonus)
                    for ending in ended:
                        worth = ending.worth + lm_weight * start.likeliest + bonus
                        if reached + worth >= floor:
                            key = ending.context, start, phone
                            offer(offers, key, (-inf, reached, worth, ending.text, hearing, ending))
            if unknown is not None and (ends or sound is root):
                for ending in self.endings(hearing, frame) if ended is None else ended:
                    key, worth = (ending.context, unknown, -1), ending.worth + self._gain(ending.context, unknown)
                    offer(offers, key, (total + likeliest, -inf, worth, ending.text, hearing, ending))
            key = hearing.context, sound, hearing.phone
            offer(offers, key, (total + stays, sounding, hearing.worth, text, hearing, None))
        scored = [(score(offered), key, offered) for key, offered in offers.items()]
        best = nlargest(width, scored, key=itemgetter(0))
        log_prob_of = dict(phones)
        return tuple(
            self._grown(worth, key, offered, frame, log_prob_of.get(key[2], -inf))
            for worth, key, offered in best
            if worth >= best[0][0] - _WORST
        )

    def endings(self, hearing: Hearing, frame: int, least: float = -inf) -> list[Ended]:
        """The words that a hypothesis may end with before ``frame``; before any word, nothing but itself.

        Args:
            least: what it must be worth; agreement adds nothing.
        """
        sound, config = hearing.sound, self._config
        if sound is self._tree.root:
            return [Ended("", hearing.worth, hearing.agreed, hearing.context, text_after(hearing.said))]
        if isinstance(sound, Unknown):
            spelt = self._spelt.get(sound.first_frame)
            return [] if spelt is None else [self._unknown(hearing, spelt, frame)]
        before = config.lm_weight * sound.likeliest
        gains = [
            (config.lm_weight * self._model.score(hearing.context, word) - before, word)
            for word in sound.words[:_HOMOPHONES]
        ]
        return [
            self._ended(hearing, word, gain, frame) for gain, word in gains if hearing.worth + gain + _SLACK >= least
        ]

    def _ended(self, hearing: Hearing, number: int, gain: float, frame: int) -> Ended:
        before = text_after(hearing.said)
        if (known := self._after.get((before, number))) is None:
            word = self._model.word(number)
            known = word, self._model.after(hearing.context, number), text_after(hearing.said, (word,))
            self._after[before, number] = known
        word, context, text = known
        agreed = self._agreement(before, text, word, frame)
        worth = hearing.worth + gain + self._config.piece_weight * (agreed - hearing.agreed)
        return Ended(word, worth, agreed, context, text)

    def _unknown(self, hearing: Hearing, spelt: Spelt, frame: int) -> Ended:
        number = self._model.id(plain(spelt.letters))
        text = text_after(hearing.said, (spelt.letters,))
        agreed = self._agreement(text_after(hearing.said), text, "", frame)
        worth = hearing.worth + self._config.piece_weight * (agreed - hearing.agreed)
        return Ended(spelt.letters, worth, agreed, self._model.after(hearing.context, number), text, spelt.confidence)

    def _gain(self, context: Context, unknown: Unknown) -> float:
        """What a word in no lexicon is worth; it is paid when the word begins."""
        config, number = self._config, self._model.id(plain(self._spelt[unknown.first_frame].letters))
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

    def _grown(self, total: float, key: Key, offered: Offer, frame: int, log_prob: float) -> Hearing:
        """The hypothesis that came of an offer, with the times and peaks of its word."""
        (context, sound, phone), (blank, sounding, worth, _, origin, ending) = key, offered
        said, agreed, first, stop = origin.said, origin.agreed, origin.first_frame, origin.stop_frame
        peaks, peak, phones = origin.peaks, origin.peak, origin.phones
        if ending is None and sound is origin.sound:
            if sounding > blank or isinstance(sound, Unknown):
                stop, peak = frame + 1, max(peak, self._posterior(log_prob))
        else:
            if ending is not None:
                if ending.word:
                    confidence = (peaks + peak) / max(1, phones) if ending.confidence is None else ending.confidence
                    said = extended(said, ending.word, first, stop, confidence)
                agreed, peaks, peak, phones, first, stop = ending.agreed, 0.0, 0.0, 0, frame, frame + 1
            if phone >= 0:
                first = first if phones else frame
                peaks, peak, phones, stop = peaks + peak, self._posterior(log_prob), phones + 1, frame + 1
        return Hearing(
            context, sound, phone, blank, sounding, worth, agreed, said, first, stop, peaks, peak, phones, total
        )

    def _posterior(self, log_prob: float) -> float:
        return min(1.0, exp(log_prob / self._config.phone_weight))


def _silent(hearings: tuple[Hearing, ...]) -> tuple[Hearing, ...]:
    """After a frame of nothing: none gains on another, only their last phones fall silent."""
    if all(hearing.sounding == -inf for hearing in hearings):
        return hearings
    return tuple(replace(hearing, blank=added(hearing.blank, hearing.sounding), sounding=-inf) for hearing in hearings)
