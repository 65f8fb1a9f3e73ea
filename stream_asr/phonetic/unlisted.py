"""Words that a model wrote and no lexicon has: nobody knows how they sound, so they are spelt as they were written."""

from __future__ import annotations

from dataclasses import dataclass

from stream_asr.arrays import FloatArray
from stream_asr.ctc import Labels, Path, Spelt, spelt_words
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.text import plain
from stream_asr.phonetic.tree import SoundTree

_EARLY_FRAMES, LATE_FRAMES = 2, 3
"""Such a word begins at most so long before its first piece is written, and ends so long after its last.

A frame is 48 ms.
"""


@dataclass(frozen=True, slots=True)
class UnlistedWord:
    """One of them.

    Attributes:
        node: negative; texts that are in the middle of the word have it.
        number: its id in the language model, which may know it even so.
    """

    spelt: Spelt
    node: int
    number: int


class Unlisted:
    """Those that some frames spell.

    Args:
        pieces: log-probabilities of what the model writes, float32, shape (frames, pieces).
        start_frame: place of the first of them on the absolute grid.
    """

    def __init__(
        self, pieces: FloatArray, start_frame: int, labels: Labels, model: NgramModel, tree: SoundTree
    ) -> None:
        words, _ = spelt_words(Path.best(pieces, start_frame), labels)
        self._words: dict[int, UnlistedWord] = {}
        self._beginning: dict[int, UnlistedWord] = {}
        for spelt in words:
            if not tree.is_spoken(number := model.id(plain(spelt.word))):
                word = UnlistedWord(spelt, -1 - spelt.first_frame, number)
                self._words[word.node] = word
                # Sounds are heard a little before they are written.
                self._beginning |= {spelt.first_frame - early: word for early in range(_EARLY_FRAMES, -1, -1)}

    def beginning(self, frame: int) -> UnlistedWord | None:
        """The one that may begin to be heard in a frame."""
        return self._beginning.get(frame)

    def at(self, node: int) -> UnlistedWord | None:
        """The one with that node, unless other words are read in its place by now."""
        return self._words.get(node)
