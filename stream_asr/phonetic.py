"""Words by their sounds: a CTC prefix beam search over a model's phones, through a lexicon, under a language model.

Phones are few and learnt from little speech, so words that a model never learnt to write are found as well. What it
writes has its say at the end of each word: how well the pieces agree with the words so far. A word that is in no
lexicon may be said where the model writes one, and is then spelt as it is written there.

Sources: the search is that of `stream_asr.beam`; lexicon trees with look-ahead, Ortmanns et al., "Language-Model
Look-Ahead for Large Vocabulary Speech Recognition", 1996; two models in one search, Beyerlein, "Discriminative Model
Combination", 1998.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import exp, inf
from operator import itemgetter
from typing import TypeAlias

import numpy as np

from stream_asr.agreement import Spelling, Trails, Written, beginning
from stream_asr.arrays import FloatArray
from stream_asr.config import SAMPLE_RATE, PhoneticConfig, ms_to_samples
from stream_asr.ctc import Frames, Hypothesis, Labels, Path, decode
from stream_asr.events import Word
from stream_asr.lm.lexicon import Lexicon
from stream_asr.lm.ngram import SPECIAL, START, UNKNOWN, Context, NgramModel
from stream_asr.lm.sounds import Sound, SoundTree
from stream_asr.lm.spelling import plain
from stream_asr.prefixes import Offer, added, offer, score
from stream_asr.said import Said, common, ended_by, extended, in_order, text_after
from stream_asr.said import beginning as first_words

_LEAST_LOG_PROB = -8.0
"""Phones less likely than this in a frame are not followed."""

_WORST = 12.0
"""Nats behind the best at which a hypothesis is given up."""

_HOMOPHONES = 4
"""Words that sound alike of which so many are followed, the likeliest in their context."""

_AHEAD_FRAMES = 3
"""Pieces are written up to that long after the phones were heard."""

_REMEMBERED_FRAMES = 96
"""Of what was written: longer than any word."""

_SLACK = 1.0
"""Nats of agreement that a hypothesis may win back once more of what was written is known."""

_EARLY_FRAMES, _LATE_FRAMES = 2, 3
"""A word in no lexicon begins at most so long before its first piece is written, and ends so long after its last."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A word that is in no lexicon is being said: the one whose first piece was written in that frame."""

    first_frame: int


@dataclass(slots=True, eq=False)
class _Hearing:
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
    sound: Sound | _Unknown
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


_Key: TypeAlias = tuple[Context, Sound | _Unknown, int]


@dataclass(frozen=True, slots=True)
class _Ended:
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
class _Spelt:
    """A word as the model wrote it, in no lexicon."""

    letters: str
    stop_frame: int
    confidence: float


class _Search:
    """One run over some frames: what is the same for all of them."""

    def __init__(self, decoder: PhoneticDecoder, recent: Frames, trails: Trails) -> None:
        labels, model = decoder.labels, decoder.model
        pieces = recent.log_probs[:, : len(labels.pieces)]
        self._decoder, self._config, self._tree, self._model = decoder, decoder.config, decoder.tree, model
        self._phones = recent.log_probs[:, len(labels.pieces) :]
        self._start = recent.start_frame
        self._written = Written(recent.start_frame, pieces, labels.blank)
        self._trails = trails
        self._spelt: dict[int, _Spelt] = {}
        path = Path.best(pieces, recent.start_frame)
        for word in decode(path, labels, decoder.frame_samples).words:
            if not decoder.sounds_known(word.word):
                first, stop = (round(at * SAMPLE_RATE / decoder.frame_samples) for at in (word.start, word.end))
                self._spelt[first] = _Spelt(word.word, stop, word.confidence)
        # Sounds are heard a little before they are written.
        self._beginning = {
            first - early: _Unknown(first) for first in self._spelt for early in range(_EARLY_FRAMES, -1, -1)
        }

    def run(self, hearings: Sequence[_Hearing], first: int, stop: int, width: int) -> tuple[_Hearing, ...]:
        """The best texts, best first, that go on from ``hearings`` over the frames from ``first`` to ``stop``."""
        hearings, weight = tuple(hearings), self._config.phone_weight
        for frame in range(first, stop):
            row = self._phones[frame - self._start]
            likely = np.flatnonzero(row > _LEAST_LOG_PROB).tolist()
            phones = [(at - 1, weight * float(row[at])) for at in likely if at] or [
                (int(row[1:].argmax()), weight * float(row[1:].max()))
            ]
            hearings = self._frame(hearings, weight * float(row[0]), phones, frame, width)
        return hearings

    def _frame(
        self,
        hearings: tuple[_Hearing, ...],
        blank: float,
        phones: list[tuple[int, float]],
        frame: int,
        width: int,
    ) -> tuple[_Hearing, ...]:
        offers: dict[_Key, Offer] = {}
        likeliest = max(blank, *(log_prob for _, log_prob in phones))
        floor = hearings[0].score + likeliest - _WORST
        lm_weight, bonus = self._config.lm_weight, self._config.word_bonus
        further, root = self._tree.further, self._tree.root
        starts, unknown = further(root), self._beginning.get(frame)
        for hearing in hearings:
            total, sound, sounding = added(hearing.blank, hearing.sounding), hearing.sound, -inf
            text = text_after(hearing.said)
            ended: list[_Ended] | None = None
            if isinstance(sound, _Unknown):
                spelt = self._spelt.get(sound.first_frame)
                ends = spelt is not None and frame >= spelt.stop_frame
                within = spelt is not None and frame < spelt.stop_frame + _LATE_FRAMES
                stays, longer = likeliest if within else blank, {}
            else:
                stays, longer, ends = blank, further(sound), bool(sound.words)
            for phone, log_prob in phones:
                if phone == hearing.phone:
                    sounding = hearing.sounding + log_prob
                    reached = hearing.blank + log_prob  # once more, after a blank
                else:
                    reached = total + log_prob
                if reached + hearing.worth < floor:
                    continue
                if (onward := longer.get(phone)) is not None:
                    worth = hearing.worth + lm_weight * (onward.likeliest - sound.likeliest)
                    if sound is root:
                        worth = hearing.worth + lm_weight * onward.likeliest + bonus
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

    def endings(self, hearing: _Hearing, frame: int, least: float = -inf) -> list[_Ended]:
        """The words that a hypothesis may end with before ``frame``; before any word, nothing but itself.

        Args:
            least: what it must be worth; agreement adds nothing.
        """
        sound, config = hearing.sound, self._config
        if sound is self._tree.root:
            return [_Ended("", hearing.worth, hearing.agreed, hearing.context, text_after(hearing.said))]
        if isinstance(sound, _Unknown):
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

    def _ended(self, hearing: _Hearing, number: int, gain: float, frame: int) -> _Ended:
        word = self._decoder.word(number)
        text = text_after(hearing.said, (word,))
        agreed = self._agreement(hearing, text, self._decoder.spelling(word), frame)
        worth = hearing.worth + gain + self._config.piece_weight * (agreed - hearing.agreed)
        return _Ended(word, worth, agreed, self._model.after(hearing.context, number), text)

    def _unknown(self, hearing: _Hearing, spelt: _Spelt, frame: int) -> _Ended:
        number = self._model.id(plain(spelt.letters))
        text = text_after(hearing.said, (spelt.letters,))
        agreed = self._agreement(hearing, text, (), frame)
        worth = hearing.worth + self._config.piece_weight * (agreed - hearing.agreed)
        return _Ended(spelt.letters, worth, agreed, self._model.after(hearing.context, number), text, spelt.confidence)

    def _gain(self, context: Context, unknown: _Unknown) -> float:
        """What a word in no lexicon is worth; it is paid when the word begins."""
        config, number = self._config, self._model.id(plain(self._spelt[unknown.first_frame].letters))
        worth = config.word_bonus + config.lm_weight * self._model.score(context, number)
        return worth - config.unknown_penalty if number == UNKNOWN else worth

    def _agreement(self, hearing: _Hearing, text: int, outputs: tuple[int, ...], frame: int) -> float:
        """Of what was written with the words so far and one more, which ends before ``frame``."""
        needed = frame + _AHEAD_FRAMES
        trail = self._trails.get(text)
        if trail is None or trail.stop_frame < min(needed, self._written.stop_frame):
            before = self._trails[text_after(hearing.said)]
            trail = self._trails[text] = self._written.with_word(before, outputs, needed)
        return trail.by(needed)

    def _grown(self, total: float, key: _Key, offered: Offer, frame: int, log_prob: float) -> _Hearing:
        """The hypothesis that came of an offer, with the times and peaks of its word."""
        (context, sound, phone), (blank, sounding, worth, _, origin, ending) = key, offered
        said, agreed, first, stop = origin.said, origin.agreed, origin.first_frame, origin.stop_frame
        peaks, peak, phones = origin.peaks, origin.peak, origin.phones
        if ending is not None:
            if ending.word:
                confidence = (peaks + peak) / max(1, phones) if ending.confidence is None else ending.confidence
                said = extended(said, ending.word, first, stop, confidence)
            agreed, peaks, peak, phones, first, stop = ending.agreed, 0.0, 0.0, 0, frame, frame + 1
        posterior = min(1.0, exp(log_prob / self._config.phone_weight))
        if ending is None and sound is origin.sound:
            if sounding > blank or isinstance(sound, _Unknown):
                stop, peak = frame + 1, max(peak, posterior)
        elif phone >= 0:
            if not phones:
                first = frame
            peaks, peak, phones, stop = peaks + peak, posterior, phones + 1, frame + 1
        return _Hearing(
            context, sound, phone, blank, sounding, worth, agreed, said, first, stop, peaks, peak, phones, total
        )


class PhoneticDecoder:
    """Makes decodings of one model's frames.

    Args:
        labels: of the model; it hears the phones of the lexicon.
        frame_samples: length of a frame at 16 kHz.
        model: the language model.
        lexicon: how its words sound.
        config: weights, widths and times.
    """

    def __init__(
        self, labels: Labels, frame_samples: int, model: NgramModel, lexicon: Lexicon, config: PhoneticConfig
    ) -> None:
        self.labels, self.frame_samples, self.model, self.config = labels, frame_samples, model, config
        self.tree, self.spelling = SoundTree(lexicon, model), Spelling(labels)
        self.settle_frames = -(-ms_to_samples(config.settle_ms) // frame_samples)
        self._lexicon = lexicon

    def start(self, frame: int) -> PhoneticDecoding:
        """Nothing heard yet; the first frame to come is ``frame`` of the absolute grid."""
        context = self.model.after((), START)
        nothing = _Hearing(context, self.tree.root, -1, 0.0, -inf, 0.0, 0.0, None, frame, frame, 0.0, 0.0, 0, 0.0)
        outputs = len(self.labels.pieces) + 1 + len(self.labels.phones)
        recent = Frames(frame, np.zeros((0, outputs), dtype=np.float32))
        return PhoneticDecoding(self, (nothing,), recent, frame, {text_after(None): beginning(frame)})

    def word(self, number: int) -> str:
        """That of an id of the language model."""
        return self.model.vocabulary[number - SPECIAL]

    def sounds_known(self, word: str) -> bool:
        """Is it in the lexicon?"""
        number = self.model.id(plain(word))
        return number != UNKNOWN and bool(self._lexicon.of(number))

    def padded(self, log_probs: FloatArray, frames: int) -> FloatArray:
        """With frames of nothing after it, up to that many."""
        silence = np.full((max(0, frames - len(log_probs)), log_probs.shape[1]), -inf, dtype=np.float32)
        silence[:, [self.labels.blank, len(self.labels.pieces)]] = 0
        return np.concatenate([log_probs, silence]) if len(silence) else log_probs


@dataclass(frozen=True, slots=True, eq=False)
class PhoneticDecoding:
    """See `stream_asr.decoding.Decoding`.

    The search lags some frames behind, because sounds are weighed with what is written a little later.

    Attributes:
        hearings: never empty, the best comes first.
        recent: the newest frames, of which those from ``searched`` on are still to be searched.
        trails: of the hypotheses' texts, and of those texts without their last word.
    """

    decoder: PhoneticDecoder
    hearings: tuple[_Hearing, ...]
    recent: Frames
    searched: int
    trails: Trails

    @property
    def stop_frame(self) -> int:
        return self.recent.start_frame + len(self.recent.log_probs)

    @property
    def stable(self) -> str:
        return " ".join(said.word for said in in_order(common(hearing.said for hearing in self.hearings)))

    def keep(self, log_probs: FloatArray, stop_frame: int) -> PhoneticDecoding:
        decoder = self.decoder
        recent = self._with(decoder.padded(log_probs, stop_frame - self.stop_frame))
        searched = max(self.searched, stop_frame - _AHEAD_FRAMES)
        trails = dict(self.trails)
        hearings = _Search(decoder, recent, trails).run(self.hearings, self.searched, searched, decoder.config.width)
        settled = ended_by(hearings[0].said, stop_frame - decoder.settle_frames)
        if settled is not None:
            # A question left open for that long is decided, so that stable text does not wait for its answer.
            hearings = tuple(
                hearing for hearing in hearings if text_after(first_words(hearing.said, settled.count)) == settled.text
            )
        needed = {text_after(hearing.said) for hearing in hearings}
        needed |= {text_after(hearing.said.before) for hearing in hearings if hearing.said is not None}
        kept = {text: trail for text, trail in trails.items() if text in needed}
        return PhoneticDecoding(decoder, hearings, recent.since(searched - _REMEMBERED_FRAMES), searched, kept)

    def glimpse(self, log_probs: FloatArray) -> Hypothesis:
        search = _Search(self.decoder, self._with(log_probs), ChainMap({}, self.trails))
        width, stop = self.decoder.config.preview_width, self.stop_frame + len(log_probs)
        hearings = search.run(self.hearings[:width], self.searched, stop, width)
        return self._hypothesis(hearings[0])

    def finish(self) -> Hypothesis:
        stop = self.stop_frame
        search = _Search(self.decoder, self.recent, ChainMap({}, self.trails))
        hearings = search.run(self.hearings, self.searched, stop, self.decoder.config.width)
        ends = [
            (hearing.score - hearing.worth + ending.worth, hearing, ending)
            for hearing in hearings
            for ending in search.endings(hearing, stop)
        ]
        if not ends:
            return self._hypothesis(hearings[0])
        _, hearing, ending = max(ends, key=itemgetter(0))
        return self._hypothesis(hearing, ending.word)

    def _with(self, log_probs: FloatArray) -> Frames:
        return Frames(self.recent.start_frame, np.concatenate([self.recent.log_probs, log_probs]))

    def _hypothesis(self, hearing: _Hearing, word: str | None = None) -> Hypothesis:
        """Of a text and the word after it; None for the likeliest that sounds like that so far."""
        said, sound, complete = hearing.said, hearing.sound, hearing.said.count if hearing.said is not None else 0
        fragment = False
        if word is None and isinstance(sound, Sound) and hearing.phones:
            fragment = not sound.words
            tree, model = self.decoder.tree, self.decoder.model
            number = max(
                sound.words, key=lambda number: model.score(hearing.context, number), default=tree.best_word(sound)
            )
            word = self.decoder.word(number)
        if word:
            confidence = (hearing.peaks + hearing.peak) / max(1, hearing.phones)
            said = extended(said, word, hearing.first_frame, hearing.stop_frame, confidence)
        return Hypothesis(tuple(map(self._timed, in_order(said))), complete, fragment)

    def _timed(self, said: Said) -> Word:
        samples = self.decoder.frame_samples
        return Word(
            said.word,
            said.first_frame * samples / SAMPLE_RATE,
            said.stop_frame * samples / SAMPLE_RATE,
            said.confidence,
        )
