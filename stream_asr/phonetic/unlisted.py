"""Words that a model wrote and no lexicon has: nobody knows how they sound, so they are spelt as they were written."""

from __future__ import annotations

from stream_asr.arrays import FloatArray
from stream_asr.ctc import Labels, Path, Spelt, spelt_words
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.text import plain
from stream_asr.phonetic.tree import SoundTree

_EARLY_FRAMES, LATE_FRAMES = 2, 3
"""Such a word begins at most so long before its first piece is written, and ends so long after its last.

A frame is 48 ms.
"""


class Unlisted:
    """Those that some frames spell.

    Texts that are in the middle of one have a negative node, which the word's first frame makes.

    Args:
        pieces: log-probabilities of what the model writes, float32, shape (frames, pieces).
        start_frame: place of the first of them on the absolute grid.
    """

    def __init__(
        self, pieces: FloatArray, start_frame: int, labels: Labels, model: NgramModel, tree: SoundTree
    ) -> None:
        words, _ = spelt_words(Path.best(pieces, start_frame), labels)
        self._words = {word.first_frame: word for word in words if not tree.is_spoken(model.id(plain(word.word)))}
        # Sounds are heard a little before they are written.
        self._beginning = {first - early: first for first in self._words for early in range(_EARLY_FRAMES, -1, -1)}

    def beginning(self, frame: int) -> tuple[int, Spelt] | None:
        """The one that may begin to be heard in a frame, and its node."""
        first = self._beginning.get(frame)
        return None if first is None else (-1 - first, self._words[first])

    def at(self, node: int) -> Spelt | None:
        """The one with that node, unless other words are read in its place by now."""
        return self._words.get(-1 - node)
