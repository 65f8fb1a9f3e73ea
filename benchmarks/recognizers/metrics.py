"""Word errors and latencies of captions.

All words are normalized, so case and punctuation do not count. The words of all finals are aligned with the reference
for the fewest errors; only correct words have a latency. The times that recognizers report are not used, because some
recognizers report none.

The first appearance of a word is the first caption in which the word stands at its place in the text after the finals,
found by the longest matching blocks. Words that had not yet started at the time of a caption are ignored.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

import jiwer
from corpus import PAUSE_RANGE_S
from scoring import normalize

from recognizers.reference import SpokenWord
from recognizers.runner import CaptionLine
from stream_asr.latency import count_revised_words

END_OF_SPEECH_S = PAUSE_RANGE_S[0]
"""Silence that ends a stretch of speech."""


@dataclass(frozen=True, slots=True)
class Caption:
    """The caption from a point in time on.

    Attributes:
        at_s: seconds since the first sample.
        final_words: number of words in the finals so far.
        partial: words after the finals.
    """

    at_s: float
    final_words: int
    partial: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordMatch:
    """Alignment of recognized words with reference words.

    Attributes:
        errors: number of substitutions, insertions and deletions.
        recognized: index of the recognized word, correct or not, for each reference word; None for deletions.
        correct: indices of reference words that were recognized correctly.
    """

    errors: int
    recognized: tuple[int | None, ...]
    correct: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StreamMetrics:
    """Metrics of one stream; latencies are sorted.

    Attributes:
        wer: word error rate in percent.
        words: number of reference words.
        word_first_ms: end of a word → first caption that shows it; correct words only.
        final_ms: end of the last word before a silence → the last recognized word before it is final.
        upwr: words that the next caption changed or removed, per word of the finals.
        text: text of the finals.
    """

    wer: float
    words: int
    word_first_ms: tuple[float, ...]
    final_ms: tuple[float, ...]
    upwr: float
    text: str


def collect_captions(lines: Iterable[CaptionLine]) -> tuple[list[str], list[Caption]]:
    """Return the words of all finals, and the captions in order; lines of the same time are one caption."""
    finals: list[str] = []
    captions: list[Caption] = []
    for at_s, updates in groupby(lines, key=lambda line: line.at_s):
        partial: tuple[str, ...] = ()
        for line in updates:
            words = normalize(line.text).split()
            if line.final:
                finals += words
            else:
                partial = tuple(words)
        captions.append(Caption(at_s, len(finals), partial))
    return finals, captions


def match_words(reference: Sequence[str], recognized: Sequence[str]) -> WordMatch:
    """Align recognized words with reference words for the fewest errors."""
    output = jiwer.process_words(" ".join(reference), " ".join(recognized))
    indices: list[int | None] = [None] * len(reference)
    correct: list[int] = []
    for chunk in output.alignments[0]:
        if chunk.type in ("equal", "substitute"):
            span = range(chunk.ref_start_idx, chunk.ref_end_idx)
            indices[span.start : span.stop] = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
            correct += span if chunk.type == "equal" else ()
    return WordMatch(output.substitutions + output.insertions + output.deletions, tuple(indices), tuple(correct))


def measure_stream(reference: Sequence[SpokenWord], lines: Iterable[CaptionLine]) -> StreamMetrics:
    """Compute the metrics of a stream; ``reference`` has at least one word."""
    finals, captions = collect_captions(lines)
    match = match_words([word.word for word in reference], finals)
    final_at_s = _finalization_times(captions)
    shown_at_s = _first_appearances(finals, captions, _earliest_times(reference, match, len(finals)))
    word_first = [
        shown_at_s[index] - reference[place].end_s
        for place in match.correct
        if (index := match.recognized[place]) is not None
    ]
    final = [
        final_at_s[recognized[-1]] - reference[stretch.stop - 1].end_s
        for stretch in _speech_stretches(reference)
        if (recognized := [index for index in match.recognized[stretch.start : stretch.stop] if index is not None])
    ]
    return StreamMetrics(
        100 * match.errors / len(reference),
        len(reference),
        _sorted_ms(word_first),
        _sorted_ms(final),
        _count_revisions(finals, captions) / len(finals) if finals else 0.0,
        " ".join(finals),
    )


def _earliest_times(reference: Sequence[SpokenWord], match: WordMatch, recognized_words: int) -> list[float]:
    """Return when each recognized word can appear at the earliest; the times do not decrease.

    This is the start of its reference word. For inserted words it is the time of the previous word.
    """
    earliest_s = [0.0] * recognized_words
    for word, index in zip(reference, match.recognized, strict=True):
        if index is not None:
            earliest_s[index] = word.start_s
    for index in range(1, recognized_words):
        earliest_s[index] = max(earliest_s[index], earliest_s[index - 1])
    return earliest_s


def _first_appearances(finals: Sequence[str], captions: Sequence[Caption], earliest_s: Sequence[float]) -> list[float]:
    """Return when each word of the finals first appeared at its place, at the latest when it became final."""
    first_s = _finalization_times(captions)
    for caption in captions:
        candidates = finals[caption.final_words : bisect_right(earliest_s, caption.at_s)]
        matcher = SequenceMatcher(None, caption.partial, candidates, autojunk=False)
        for block in matcher.get_matching_blocks():
            start = caption.final_words + block.b
            for index in range(start, start + block.size):
                first_s[index] = min(first_s[index], caption.at_s)
    return first_s


def _finalization_times(captions: Sequence[Caption]) -> list[float]:
    """Return when each word of the finals became final."""
    times_s: list[float] = []
    for caption in captions:
        times_s += [caption.at_s] * (caption.final_words - len(times_s))
    return times_s


def _count_revisions(finals: Sequence[str], captions: Sequence[Caption]) -> int:
    """Count the words that the next caption changed or removed."""
    count = final_words = 0
    partial: tuple[str, ...] = ()
    for caption in captions:
        count += count_revised_words(partial, (*finals[final_words : caption.final_words], *caption.partial))
        final_words, partial = caption.final_words, caption.partial
    return count


def _speech_stretches(reference: Sequence[SpokenWord]) -> list[range]:
    """Return the index ranges of words that are not separated by silence."""
    stops = [
        index + 1
        for index in range(len(reference) - 1)
        if reference[index + 1].start_s - reference[index].end_s >= END_OF_SPEECH_S
    ]
    return [range(first, stop) for first, stop in zip([0, *stops], [*stops, len(reference)], strict=True)]


def _sorted_ms(seconds: Iterable[float]) -> tuple[float, ...]:
    return tuple(sorted(1000 * value for value in seconds))
