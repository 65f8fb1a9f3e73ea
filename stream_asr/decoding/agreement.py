"""The stable-prefix rules: which words of competing hypotheses can no longer change.

A decoder follows one or more hypotheses of an utterance. Each hypothesis is a sequence of complete words, followed by
at most one word that is still being spelled. The stable text of the utterance obeys these rules:

1. **Complete words only.** A word is complete once a space or the start of another word follows it. A word that may
   still get more letters is never stable.
2. **Agreement.** The stable text is the longest common prefix of the complete words of all hypotheses
   (`stable_text`). A decoder with one hypothesis, such as best-path decoding, agrees with itself: its complete words
   are stable.
3. **Settling.** A disagreement does not stay open without limit. When a word of the best hypothesis ended before a
   deadline, the best hypothesis has decided it, and the hypotheses that differ up to there are dropped (`settle`).
4. **Committed audio only.** Previews do not count. A committed step extends hypotheses or drops them; it never adds
   an unrelated one and never rewrites the words of one.

It follows that the stable text only grows, and that every later preview and the final begin with it. Whatever is done
to the words afterwards, such as casing, must depend on a word and its predecessors only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_asr.events import Word


def stable_text(hypotheses: Iterable[Sequence[str]]) -> str:
    """Return the words that all hypotheses begin with, joined by spaces.

    Args:
        hypotheses: the complete words of each hypothesis; at least one hypothesis.
    """
    words = list(hypotheses)
    return " ".join(words[0][: agreed_length(words)])


def agreed_length(hypotheses: Sequence[Sequence[str]]) -> int:
    """Return how many words all hypotheses begin with.

    Args:
        hypotheses: the words of each hypothesis; at least one hypothesis.
    """
    length = 0
    for words in zip(*hypotheses, strict=False):
        if len(set(words)) > 1:
            break
        length += 1
    return length


def settle(histories: Sequence[WordHistory], deadline_frame: int) -> list[int]:
    """Decide the words that ended by a deadline in favor of the best hypothesis.

    Args:
        histories: the complete words of each hypothesis, the best one first.
        deadline_frame: frame on the absolute grid; a word that stops at this frame has ended.

    Returns:
        The indices of the hypotheses that agree with the best one on its decided words.
    """
    decided = histories[0].ended_by(deadline_frame)
    return [index for index, history in enumerate(histories) if history.starts_with(decided)]


@dataclass(frozen=True, slots=True, eq=False)
class WordHistory:
    """The complete words of a hypothesis, as a linked list.

    Hypotheses with a common prefix share its entries, so that appending a word takes constant time and memory.
    `EMPTY_HISTORY` is the entry before the first word.

    Attributes:
        previous: the history without its last word; None for `EMPTY_HISTORY`.
        word: the last word.
        first_frame, stop_frame: frames of the last word on the absolute grid.
        confidence: confidence of the last word, 0 to 1.
        word_count: number of words, the last one included.
        text_hash: hash of all words; equal texts have equal hashes, whatever their frames.
    """

    previous: WordHistory | None
    word: str
    first_frame: int
    stop_frame: int
    confidence: float
    word_count: int
    text_hash: int

    def append(self, word: str, first_frame: int, stop_frame: int, confidence: float) -> WordHistory:
        """Return the history with one more word."""
        return WordHistory(
            self, word, first_frame, stop_frame, confidence, self.word_count + 1, hash((self.text_hash, word))
        )

    def hash_after(self, words: Iterable[str]) -> int:
        """Return the `text_hash` that the history would have with some more words."""
        text_hash = self.text_hash
        for word in words:
            text_hash = hash((text_hash, word))
        return text_hash

    def ended_by(self, frame: int) -> WordHistory:
        """Return the words up to the last one that stops at or before a frame."""
        history = self
        while history.previous is not None and history.stop_frame > frame:
            history = history.previous
        return history

    def starts_with(self, prefix: WordHistory) -> bool:
        """Return whether the first words are those of ``prefix``."""
        history = self
        while history.previous is not None and history.word_count > prefix.word_count:
            history = history.previous
        return history.text_hash == prefix.text_hash

    def texts(self) -> list[str]:
        """Return the words, first to last."""
        return [entry.word for entry in self._entries()]

    def words(self, frame_samples: int) -> tuple[Word, ...]:
        """Return the words with times and confidences, first to last.

        Args:
            frame_samples: length of a frame in samples at 16 kHz.
        """
        return tuple(
            Word.in_frames(entry.word, entry.first_frame, entry.stop_frame, entry.confidence, frame_samples)
            for entry in self._entries()
        )

    def _entries(self) -> list[WordHistory]:
        entries = []
        history = self
        while history.previous is not None:
            entries.append(history)
            history = history.previous
        return entries[::-1]


EMPTY_HISTORY = WordHistory(None, "", 0, 0, 0.0, 0, 0)
