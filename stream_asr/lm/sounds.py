"""The words of a language model by their sounds: a tree whose branches are phones, and grows as it is walked."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from stream_asr.lm.lexicon import Lexicon
from stream_asr.lm.ngram import STEPS_PER_NAT, NgramModel


@dataclass(slots=True, eq=False)
class Sound:
    """All pronunciations that begin with the same phones.

    Attributes:
        first, stop: their places among all.
        phones: how many they have in common.
        words: ids of those that sound like that and no more, the likeliest first.
        likeliest: natural log-probability, by itself, of the likeliest word among all of them.
        further: what each phone leads to; None until somebody asks.
    """

    first: int
    stop: int
    phones: int
    words: tuple[int, ...]
    likeliest: float
    further: dict[int, Sound] | None = field(default=None, repr=False)


class SoundTree:
    """
    Args:
        model: that the lexicon belongs to.
    """

    def __init__(self, lexicon: Lexicon, model: NgramModel) -> None:
        self._lexicon, self._pronunciations, self._words = lexicon, lexicon.pronunciations, lexicon.words
        self._costs = model.levels[0].costs[lexicon.words]
        self.root = self._sound(0, len(self._pronunciations), 0)

    def further(self, sound: Sound) -> dict[int, Sound]:
        """What may follow, by the phone's place in the lexicon's list."""
        if sound.further is None:
            sound.further = self._grow(sound)
        return sound.further

    def sounds(self, word: int) -> bool:
        """Is it known how the word with this id sounds?"""
        return bool(self._lexicon.of(word))

    def best_word(self, sound: Sound) -> int:
        """The likeliest of all words that begin like that."""
        place = sound.first + int(self._costs[sound.first : sound.stop].argmin())
        return int(self._words[place])

    def _sound(self, first: int, stop: int, phones: int) -> Sound:
        alike = first
        while alike < stop and len(self._pronunciations[alike]) == phones:
            alike += 1  # equal strings stand side by side, before the longer ones
        by_cost = sorted(range(first, alike), key=lambda place: int(self._costs[place]))
        words = tuple(dict.fromkeys(int(self._words[place]) for place in by_cost))
        likeliest = -int(self._costs[first:stop].min()) / STEPS_PER_NAT
        return Sound(first, stop, phones, words, likeliest)

    def _grow(self, sound: Sound) -> dict[int, Sound]:
        at, found = sound.first, {}
        while at < sound.stop and len(self._pronunciations[at]) == sound.phones:
            at += 1
        while at < sound.stop:
            beginning = self._pronunciations[at][: sound.phones + 1]
            beyond = beginning[:-1] + bytes([beginning[-1] + 1])
            stop = bisect_left(self._pronunciations, beyond, at, sound.stop)
            found[beginning[-1]] = self._sound(at, stop, sound.phones + 1)
            at = stop
        return found
