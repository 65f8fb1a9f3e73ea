"""CTC forced alignment: find the frames of words that another model has written.

Source: Kürzinger et al., "CTC-Segmentation of Large Corpora for German End-to-end Speech Recognition", 2020, which
aligns texts with audio of which they cover a part. The end of the audio may be free here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import exp, inf, isnan, nan

import numpy as np

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.alignment_lattice import Fragment, Lattice, Symbol, Trie
from stream_asr.lm.text import APOSTROPHES, SPOKEN_PUNCTUATION, strip_accents

_MAX_CACHED_WORDS = 10_000
"""Number of cached words above which a cache is emptied."""

_WILDCARD = "\0"
"""Stands in a spelling for characters that the model cannot write."""

_Spelling = tuple[tuple[str, bool], ...]
"""The characters of a word, each with whether it may be left out. A space is a place where a new word may begin."""


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """Where a word is, and how sure the CTC model is of it.

    Attributes:
        first_frame: first frame of its first token.
        stop_frame: frame after the last frame of its last token; ``first_frame`` if the word has punctuation only.
        last_token_frame: first frame of its last token; its last frame if it ends with a wildcard, see `ForcedAligner`.
        score: mean over its tokens of the highest log-probability in the frames of the token. None if the word has no
            characters that the model can write. -inf if the text could not be aligned.
        non_blank: highest posterior of a token other than the blank in the frames of the word, 0 to 1.
    """

    first_frame: int
    stop_frame: int
    last_token_frame: int
    score: float | None
    non_blank: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """The frames of a text.

    Attributes:
        words: the words of the text. Their frames are in order and do not overlap.
        log_prob: log-probability of the best path; -inf if the text could not be aligned.
    """

    words: tuple[AlignedWord, ...]
    log_prob: float


class ForcedAligner:
    """Aligns words with the output of a CTC model. One aligner serves all streams.

    Case is ignored, and so are accents on letters that the model writes without them. Punctuation is optional where
    the model can write it and ignored where it cannot; a word without anything else gets no frames. If a word, or its
    part between two punctuation marks, has digits, symbols or letters that the model cannot write, it is a wildcard:
    it matches any tokens of one or more frames.

    Args:
        labels: the model's tokens, characters or subwords.
    """

    def __init__(self, labels: Labels) -> None:
        self._blank = labels.blank
        self._wildcard = len(labels.tokens)
        texts = ["" if index == labels.blank else text.lower() for index, text in enumerate(labels.tokens)]
        self._trie = Trie()
        for index, text in enumerate([*texts, _WILDCARD]):
            if text:
                self._trie.insert(text, index)
        self._alphabet = frozenset("".join(texts)) - {" "}
        self._has_spaces = any(" " in text for text in texts)
        # Whether a token may have letters of two words.
        self._spans_words = any(" " in text.lstrip(" ") if self._has_spaces else len(text) > 1 for text in texts)
        self._apostrophe = next((character for character in APOSTROPHES if character in self._alphabet), "")
        self._spellings: dict[str, _Spelling] = {}
        self._fragments: dict[tuple[str, bool, bool], Fragment] = {}

    def align(self, log_probs: FloatArray, words: Sequence[str], *, free_end: bool = False) -> Alignment:
        """Find the frames of words.

        Frames before, between and after the words are blanks and spaces. Words that cannot be aligned, because there
        are fewer frames than tokens, share all frames evenly; their scores and ``log_prob`` are -inf.

        Args:
            log_probs: natural logarithms, float32, shape (frames, tokens).
            words: the text, as any model writes it.
            free_end: whether the audio may go on after the last word. Then a frame after the last word scores the
                log-probability of its best token, whatever that is.
        """
        spellings = [self._spell(word) for word in words]
        spoken = [index for index, spelling in enumerate(spellings) if spelling]
        frames = _FramePeaks.of(log_probs, self._blank)
        fragments = self._split([words[index] for index in spoken], [spellings[index] for index in spoken])
        lattice = Lattice.join(fragments, self._blank, self._wildcard, free_end)
        path = lattice.best_path(log_probs, frames.best)
        if path is None:
            return _distribute(spellings, frames)
        states, starts, stops, peaks = path.runs()
        peaks[lattice.tokens[states] == self._wildcard] = nan
        tokens: list[list[_Token]] = [[] for _ in words]
        columns = (*lattice.words[:, states], starts, stops, peaks)
        for first, last, *token in zip(*(column.tolist() for column in columns), strict=True):
            for word in spoken[first:last]:
                tokens[word].append(_Token(*token))
        return Alignment(_locate(tokens, frames), path.log_prob)

    def phrase_lattice(self, words: Sequence[str]) -> Lattice:
        """Return the lattice of words that are spoken one after another, without anything before and after them."""
        spellings = [spelling for word in words if (spelling := self._spell(word))]
        needs_space = [index > 0 for index in range(len(spellings))]
        fragment = self._fragment(spellings, needs_space, is_last=False)
        return Lattice.join([fragment] if spellings else [], self._blank, self._wildcard, free_end=False)

    def can_spell(self, word: str) -> bool:
        """Return whether the model can write a word."""
        spelling = self._spell(word)
        return bool(spelling) and all(text != _WILDCARD for text, _ in spelling)

    def _spell(self, word: str) -> _Spelling:
        """Return the spelling of a word; it is empty if the word has punctuation only."""
        if (spelling := self._spellings.get(word)) is None:
            spelling = self._make_spelling(word)
            # The characters may occur in the vocabulary, but not as tokens that together spell the word.
            if spelling and not self._fragment([spelling], [False], is_last=True).is_connected:
                spelling = ((_WILDCARD, False),)
            if len(self._spellings) >= _MAX_CACHED_WORDS:
                self._spellings.clear()
            self._spellings[word] = spelling
        return spelling

    def _make_spelling(self, word: str) -> _Spelling:
        symbols: list[tuple[str, bool]] = []
        for is_punctuation, group in groupby(unicodedata.normalize("NFC", word).lower(), _is_punctuation):
            if is_punctuation:
                symbols += [(character, True) for character in group if character in self._alphabet]
                symbols.append((" ", True))
            else:
                symbols += self._spell_part("".join(group))
        if all(optional for _, optional in symbols):
            return ()
        while symbols[-1][0] == " ":
            symbols.pop()
        while symbols[0][0] == " ":
            symbols.pop(0)
        return tuple(symbol for symbol in symbols if self._has_spaces or symbol[0] != " ")

    def _spell_part(self, text: str) -> list[tuple[str, bool]]:
        """Return the spelling of a part of a word without punctuation."""
        letters: list[tuple[str, bool]] = []
        for character in text.strip(APOSTROPHES):
            spelled = self._spell_character(character)
            if spelled is None:
                return [(_WILDCARD, False)]
            letters += [(letter, False) for letter in spelled]
        # An apostrophe at the edge of a word is often a quotation mark.
        quotation_mark = [(self._apostrophe, True)] if self._apostrophe else []
        before, after = text[0] in APOSTROPHES, text[-1] in APOSTROPHES
        return quotation_mark * before + letters + quotation_mark * after

    def _spell_character(self, character: str) -> str | None:
        """Return what the model writes for a character, which may be nothing; None if the model cannot write it."""
        if character in APOSTROPHES:
            return self._apostrophe
        for form in (character, unicodedata.normalize("NFD", character), strip_accents(character).lower()):
            if self._alphabet.issuperset(form):
                return form
        return "" if unicodedata.category(character) in ("Cc", "Cf") else None

    def _split(self, words: Sequence[str], spellings: Sequence[_Spelling]) -> list[Fragment]:
        """Return the fragments of a text: one for each word, or a single one if tokens may span words."""
        # A wildcard also matches the spaces around it.
        needs_space = [_WILDCARD not in (before[-1][0], after[0][0]) for before, after in pairwise(spellings)]
        needs_space.insert(0, False)
        if self._spans_words:
            return [self._fragment(spellings, needs_space, is_last=True)] if words else []
        fragments = []
        for index, word in enumerate(words):
            key = word, needs_space[index], index == len(words) - 1
            if (fragment := self._fragments.get(key)) is None:
                if len(self._fragments) >= _MAX_CACHED_WORDS:
                    self._fragments.clear()
                fragment = self._fragment([spellings[index]], [key[1]], is_last=key[2])
                self._fragments[key] = fragment
            fragments.append(fragment)
        return fragments

    def _fragment(self, spellings: Sequence[_Spelling], needs_space: Sequence[bool], *, is_last: bool) -> Fragment:
        """Return the fragment of some words, each with the space before it.

        Args:
            spellings: the words.
            needs_space: for each word, whether there has to be a space before it.
            is_last: whether they are the last words of the text, so that a space may follow.
        """
        symbols: list[Symbol] = []
        for index, (spelling, required) in enumerate(zip(spellings, needs_space, strict=True)):
            if self._has_spaces:
                symbols.append(Symbol(" ", not required, index))
            symbols += [Symbol(text, optional, index) for text, optional in spelling]
        if self._has_spaces and is_last:
            symbols.append(Symbol(" ", True, len(spellings) - 1))
        return Fragment.build(symbols, len(spellings), self._trie, self._blank)


@dataclass(frozen=True, slots=True, eq=False)
class _FramePeaks:
    """The highest log-probabilities of each frame.

    Attributes:
        best: of all tokens, float32, shape (frames,).
        non_blank: of all tokens but the blank.
    """

    best: FloatArray
    non_blank: list[float]

    @classmethod
    def of(cls, log_probs: FloatArray, blank: int) -> _FramePeaks:
        non_blank = np.maximum(
            log_probs[:, :blank].max(axis=1, initial=-inf), log_probs[:, blank + 1 :].max(axis=1, initial=-inf)
        )
        best = np.maximum(non_blank, log_probs[:, blank]) if log_probs.size else non_blank
        return cls(best, non_blank.tolist())

    def posterior(self, start: int, stop: int) -> float:
        """Return the highest posterior of a token other than the blank in a range of frames; 0 for no frames."""
        return exp(max(self.non_blank[start:stop], default=-inf))


@dataclass(frozen=True, slots=True)
class _Token:
    """The frames of an aligned token, and the highest log-probability in them; NaN for a wildcard."""

    start: int
    stop: int
    peak: float


_Span = tuple[int, int, int, float | None]
"""First frame, stop frame, first frame of the last token, and score of a word."""


def _locate(tokens: Sequence[Sequence[_Token]], frames: _FramePeaks) -> tuple[AlignedWord, ...]:
    """Return the words of a path, given the tokens of each word."""
    spans: list[_Span] = []
    # Words without frames are at the end of the word before, or at the start of the first one.
    end = next((own[0].start for own in tokens if own), 0)
    for own in tokens:
        start = stop = last = end
        if own:  # the frames of a token that spans two words count for the first one
            start, stop = max(end, own[0].start), max(end, own[-1].stop)
            last = max(start, stop - 1 if isnan(own[-1].peak) else own[-1].start)
        peaks = [token.peak for token in own if not isnan(token.peak)]
        spans.append((start, stop, last, sum(peaks) / len(peaks) if peaks else None))
        end = stop
    words: list[AlignedWord] = []
    for has_score, group in groupby(spans, lambda span: span[3] is not None):
        words += [
            AlignedWord(start, stop, last, score, frames.posterior(start, stop))
            for start, stop, last, score in (group if has_score else _share(list(group)))
        ]
    return tuple(words)


def _share(spans: list[_Span]) -> list[_Span]:
    """Divide the frames of consecutive wildcards evenly, as nothing shows where one ends and the next begins."""
    count = sum(start < stop for start, stop, *_ in spans)
    first, length = spans[0][0], spans[-1][1] - spans[0][0]
    shared: list[_Span] = []
    done = 0
    for start, stop, *_ in spans:
        new_start = first + length * done // max(1, count)
        done += start < stop
        new_stop = first + length * done // max(1, count)
        shared.append((new_start, new_stop, max(new_start, new_stop - 1), None))
    return shared


def _distribute(spellings: Sequence[_Spelling], frames: _FramePeaks) -> Alignment:
    """Divide all frames evenly among the words that are more than punctuation."""
    count = sum(map(bool, spellings))
    words: list[AlignedWord] = []
    stop = done = 0
    for spelling in spellings:
        start = stop
        if spelling:
            done += 1
            stop = len(frames.non_blank) * done // count
        has_letters = any(text != _WILDCARD and not optional for text, optional in spelling)
        last, score = max(start, stop - 1), -inf if has_letters else None
        words.append(AlignedWord(start, stop, last, score, frames.posterior(start, stop)))
    return Alignment(tuple(words), -inf)


def _is_punctuation(character: str) -> bool:
    """Return whether a character is not spoken. Apostrophes belong to the letters."""
    if character in APOSTROPHES or character in SPOKEN_PUNCTUATION:
        return False
    category = unicodedata.category(character)
    return category[0] in "PZ" or category == "Sk" or character.isspace()
