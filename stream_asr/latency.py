"""Caption latency, measured from events and their arrival times.

The clock of a run starts with the first sample. For audio that is fed in real time, positions in the audio and times
since the start are therefore on the same scale. Latencies include computation: the clock never stops.

Sources: unstable partial word ratio, Shangguan et al., "Analyzing the Quality and Stability of a Streaming End-to-End
On-Device Speech Recognizer", 2020; normalized erasure, Arivazhagan et al., "Re-translation versus Streaming for
Simultaneous Translation", 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain, pairwise

from stream_asr.events import Event, Final, Partial, Word


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event and its arrival time.

    Attributes:
        at_s: seconds from the first sample to the arrival.
        event: the event.
    """

    at_s: float
    event: Event


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Latencies in milliseconds, sorted, one for each word or utterance, and the stability of the captions.

    Attributes:
        words: number of words in the finals.
        first_partial_ms: end of an utterance's first word → its first partial with text.
        word_first_ms: end of a word → the first caption with the word in its place. Case and punctuation do not count.
        word_stable_ms: end of a word → the first caption in which the word is stable or final.
        final_ms: decision of the endpointer → final. The decision itself waits for the silence of the endpoint.
        end_of_speech_ms: end of the last word → final, including the silence of the endpoint.
        upwr: words of captions that the next caption changed or removed, per word of the finals. A word that only
            moved, because another one was inserted before it, does not count, nor do case and punctuation.
        normalized_erasure: words to erase, from the end of a caption back to the first change, to turn the caption into
            the next one, per word of the finals. Case and punctuation do not count.
    """

    words: int
    first_partial_ms: tuple[float, ...]
    word_first_ms: tuple[float, ...]
    word_stable_ms: tuple[float, ...]
    final_ms: tuple[float, ...]
    end_of_speech_ms: tuple[float, ...]
    upwr: float
    normalized_erasure: float


@dataclass(frozen=True, slots=True)
class _Utterance:
    """The captions of a finished utterance.

    Attributes:
        captions: arrival times and captions, in order; the last caption is the final.
        words: the words of the final, without case and punctuation.
        ends: ends of the words in seconds; None where unknown.
    """

    captions: list[tuple[float, Partial | Final]]
    words: list[str]
    ends: Sequence[float | None]


def percentile(sorted_values: Sequence[float], percent: float) -> float | None:
    """Return the nearest-rank percentile; None if there are no values."""
    if not sorted_values:
        return None
    rank = max(1, -(-len(sorted_values) * percent // 100))
    return sorted_values[int(rank) - 1]


def measure(arrivals: Iterable[Arrival], reference: Sequence[Word] | None = None) -> LatencyReport:
    """Measure the latencies of a run.

    Args:
        arrivals: events in the order of their arrival. The ``end`` of a final is NaN if the server does not report it.
        reference: the words of the audio, with their ends, in order. A word of a final that matches none of them has no
            latency. None to take the ends from the finals.
    """
    captions: dict[int, list[tuple[float, Partial | Final]]] = {}
    for arrival in arrivals:
        if isinstance(arrival.event, Partial | Final):
            captions.setdefault(arrival.event.utterance, []).append((arrival.at_s, arrival.event))
    first_partial, word_first, word_stable, final, end_of_speech = [], [], [], [], []
    words = revised = erased = 0
    for utterance in _finished_utterances(captions.values(), reference):
        ends = utterance.ends
        final_at_s, final_caption = utterance.captions[-1]
        if not math.isnan(final_caption.end):
            final.append(final_at_s - final_caption.end)
        for (_, before), (_, after) in pairwise(utterance.captions):
            revised += count_revised_words(_spoken_words(before.text), _spoken_words(after.text))
            erased += _count_erased_words(_spoken_words(before.text), _spoken_words(after.text))
        if not utterance.words:
            continue
        words += len(utterance.words)
        if ends[-1] is not None:
            end_of_speech.append(final_at_s - ends[-1])
        if ends[0] is not None:
            first_partial.append(next(at_s for at_s, caption in utterance.captions if caption.text) - ends[0])
        first_seen, first_stable = _appearances(utterance)
        word_first += [at_s - end for at_s, end in zip(first_seen, ends, strict=True) if end is not None]
        word_stable += [at_s - end for at_s, end in zip(first_stable, ends, strict=True) if end is not None]
    return LatencyReport(
        words,
        _sorted_ms(first_partial),
        _sorted_ms(word_first),
        _sorted_ms(word_stable),
        _sorted_ms(final),
        _sorted_ms(end_of_speech),
        revised / words if words else 0.0,
        erased / words if words else 0.0,
    )


def merge_reports(reports: Sequence[LatencyReport]) -> LatencyReport:
    """Merge the reports of several streams. Ratios are weighted by words."""
    words = sum(report.words for report in reports)

    def merge(name: str) -> tuple[float, ...]:
        return tuple(sorted(chain.from_iterable(getattr(report, name) for report in reports)))

    def weighted_mean(name: str) -> float:
        return float(sum(getattr(report, name) * report.words for report in reports) / max(1, words))

    return LatencyReport(
        words,
        merge("first_partial_ms"),
        merge("word_first_ms"),
        merge("word_stable_ms"),
        merge("final_ms"),
        merge("end_of_speech_ms"),
        weighted_mean("upwr"),
        weighted_mean("normalized_erasure"),
    )


def count_revised_words(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many words of ``before`` are missing in ``after``."""
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return len(before) - sum(block.size for block in matcher.get_matching_blocks())


def _count_erased_words(before: list[str], after: list[str]) -> int:
    """Return how many words of ``before`` follow the common prefix with ``after``."""
    prefix = next((index for index, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
    return len(before) - (min(len(before), len(after)) if prefix is None else prefix)


def _finished_utterances(
    captions: Iterable[list[tuple[float, Partial | Final]]], reference: Sequence[Word] | None
) -> list[_Utterance]:
    """Return the utterances that have a final. The last one may have none if the run was interrupted."""
    finished = [shown for shown in captions if isinstance(shown[-1][1], Final)]
    if reference is None:
        own_words = [final.words for shown in finished if isinstance(final := shown[-1][1], Final)]
        pairs = [[(text, word.end) for word in words if (text := _normalize(word.word))] for words in own_words]
        return [
            _Utterance(shown, [text for text, _ in words], [end for _, end in words])
            for shown, words in zip(finished, pairs, strict=True)
        ]
    texts = [_spoken_words(shown[-1][1].text) for shown in finished]
    recognized = [word for words in texts for word in words]
    ends: list[float | None] = [None] * len(recognized)
    matcher = SequenceMatcher(None, recognized, [_normalize(word.word) for word in reference], autojunk=False)
    for block in matcher.get_matching_blocks():
        ends[block.a : block.a + block.size] = [word.end for word in reference[block.b : block.b + block.size]]
    utterances, start = [], 0
    for shown, words in zip(finished, texts, strict=True):
        utterances.append(_Utterance(shown, words, ends[start : start + len(words)]))
        start += len(words)
    return utterances


def _normalize(word: str) -> str:
    """Remove case and punctuation, in which recognizers differ."""
    return "".join(character for character in word.casefold() if character.isalnum())


def _spoken_words(text: str) -> list[str]:
    """Return the words of a text without case and punctuation."""
    return [word for word in map(_normalize, text.split()) if word]


def _appearances(utterance: _Utterance) -> tuple[list[float], list[float]]:
    """Return when each word of the final was first shown in its place, and when it was first stable."""
    final_words = utterance.words
    first_seen: list[float | None] = [None] * len(final_words)
    first_stable: list[float | None] = [None] * len(final_words)
    for at_s, caption in utterance.captions:
        matcher = SequenceMatcher(None, _spoken_words(caption.text), final_words, autojunk=False)
        for block in matcher.get_matching_blocks():
            for index in range(block.b, block.b + block.size):
                first_seen[index] = at_s if first_seen[index] is None else first_seen[index]
        stable = caption.text if isinstance(caption, Final) else caption.stable
        for index in range(min(len(_spoken_words(stable)), len(final_words))):
            first_stable[index] = at_s if first_stable[index] is None else first_stable[index]
    return [at_s for at_s in first_seen if at_s is not None], [at_s for at_s in first_stable if at_s is not None]


def _sorted_ms(seconds: list[float]) -> tuple[float, ...]:
    return tuple(sorted(1000 * value for value in seconds))
