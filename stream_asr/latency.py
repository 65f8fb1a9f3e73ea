"""How long after the sound do captions appear: measured from events and the times at which they arrived.

The clock of a run starts with the first sample, so that "position in the audio" and "seconds since the start"
are the same scale for audio that is fed in real time. Compute is included: nothing stops the clock.

Sources: unstable partial word ratio, Shangguan et al., "Analyzing the Quality and Stability of a Streaming
End-to-End On-Device Speech Recognizer", 2020; normalized erasure, Arivazhagan et al., "Re-translation versus
Streaming for Simultaneous Translation", 2020; the other names as in the README.
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
    """An event, and the seconds between the first sample and its arrival."""

    at_s: float
    event: Event


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """All in milliseconds, one number a word or an utterance; sorted.

    Attributes:
        words: in the finals.
        first_partial_ms: end of an utterance's first word → its first partial with text.
        word_first_ms: end of a word → the first caption that shows it in its place, in whatever case and punctuation.
        word_stable_ms: end of a word → the first caption in which it is stable or final.
        final_ms: the endpoint's decision → the final. The decision waits for the endpoint's silence.
        end_of_speech_ms: end of the last word → the final: the silence and all.
        upwr: words of captions that the next caption changed or took away, for each word of the finals; a word that
            only moved, because another came before it, does not count.
        normalized_erasure: words that must be erased, from the end of a caption back to the first change, to turn it
            into the next one, for each word of the finals.
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
    """Its captions with their times of arrival, the last of which is its final.

    Attributes:
        words: of the final.
        ends: of the words, in seconds; None where unknown.
    """

    shown: list[tuple[float, Partial | Final]]
    words: list[str]
    ends: Sequence[float | None]


def percentile(sorted_values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not sorted_values:
        return None
    rank = max(1, -(-len(sorted_values) * percent // 100))
    return sorted_values[int(rank) - 1]


def measure(arrivals: Iterable[Arrival], reference: Sequence[Word] | None = None) -> LatencyReport:
    """Latencies of a run.

    Args:
        arrivals: in the order of their times. The ``end`` of a final may be NaN, where a server does not tell it.
        reference: the words of the audio and when they end, in order. A word of a final whose counterpart is not
            among them has no latency. Without it a word ends where the final's own alignment puts it.
    """
    captions: dict[int, list[tuple[float, Partial | Final]]] = {}
    for arrival in arrivals:
        if isinstance(arrival.event, Partial | Final):
            captions.setdefault(arrival.event.utterance, []).append((arrival.at_s, arrival.event))
    first_partial, word_first, word_stable, final_ms, end_of_speech = [], [], [], [], []
    words = revisions = erased = 0
    for utterance in _utterances(captions.values(), reference):
        shown, ends = utterance.shown, utterance.ends
        final_at, final = shown[-1]
        if not math.isnan(final.end):
            final_ms.append(final_at - final.end)
        for (_, before), (_, after) in pairwise(shown):
            revisions += revised(before.text.split(), after.text.split())
            erased += _erased(before.text.split(), after.text.split())
        if not utterance.words:
            continue
        words += len(utterance.words)
        if ends[-1] is not None:
            end_of_speech.append(final_at - ends[-1])
        if ends[0] is not None:
            first_partial.append(next(at for at, caption in shown if caption.text) - ends[0])
        seen, stable = _appearances(utterance)
        word_first += [at - end for at, end in zip(seen, ends, strict=True) if end is not None]
        word_stable += [at - end for at, end in zip(stable, ends, strict=True) if end is not None]
    return LatencyReport(
        words,
        _sorted_ms(first_partial),
        _sorted_ms(word_first),
        _sorted_ms(word_stable),
        _sorted_ms(final_ms),
        _sorted_ms(end_of_speech),
        revisions / words if words else 0.0,
        erased / words if words else 0.0,
    )


def merged(reports: Sequence[LatencyReport]) -> LatencyReport:
    """The reports of several streams as one; ratios are weighted by words."""
    words = sum(report.words for report in reports)

    def joined(name: str) -> tuple[float, ...]:
        return tuple(sorted(chain.from_iterable(getattr(report, name) for report in reports)))

    def mean(name: str) -> float:
        return float(sum(getattr(report, name) * report.words for report in reports) / max(1, words))

    return LatencyReport(
        words,
        joined("first_partial_ms"),
        joined("word_first_ms"),
        joined("word_stable_ms"),
        joined("final_ms"),
        joined("end_of_speech_ms"),
        mean("upwr"),
        mean("normalized_erasure"),
    )


def _utterances(
    captions: Iterable[list[tuple[float, Partial | Final]]], reference: Sequence[Word] | None
) -> list[_Utterance]:
    """Those that have ended: a run may have been cut off before the last final."""
    ended = [shown for shown in captions if isinstance(shown[-1][1], Final)]
    if reference is None:
        own = [final.words for shown in ended if isinstance(final := shown[-1][1], Final)]
        return [
            _Utterance(shown, [word.word for word in words], [word.end for word in words])
            for shown, words in zip(ended, own, strict=True)
        ]
    texts = [shown[-1][1].text.split() for shown in ended]
    spoken = [_bare(word) for words in texts for word in words]
    ends: list[float | None] = [None] * len(spoken)
    matcher = SequenceMatcher(None, spoken, [_bare(word.word) for word in reference], autojunk=False)
    for block in matcher.get_matching_blocks():
        ends[block.a : block.a + block.size] = [word.end for word in reference[block.b : block.b + block.size]]
    found, at = [], 0
    for shown, words in zip(ended, texts, strict=True):
        found.append(_Utterance(shown, words, ends[at : at + len(words)]))
        at += len(words)
    return found


def _bare(word: str) -> str:
    """Recognizers differ in case and punctuation, which take no time to say."""
    return "".join(character for character in word.casefold() if character.isalnum())


def _appearances(utterance: _Utterance) -> tuple[list[float], list[float]]:
    """When each word of the final was first seen in its place, and first stable."""
    wanted = [_bare(word) for word in utterance.words]
    seen: list[float | None] = [None] * len(wanted)
    stable: list[float | None] = [None] * len(wanted)
    for at, caption in utterance.shown:
        matcher = SequenceMatcher(None, [_bare(word) for word in caption.text.split()], wanted, autojunk=False)
        for block in matcher.get_matching_blocks():
            for place in range(block.b, block.b + block.size):
                seen[place] = at if seen[place] is None else seen[place]
        kept = caption.text if isinstance(caption, Final) else caption.stable
        for place in range(min(len(kept.split()), len(wanted))):
            stable[place] = at if stable[place] is None else stable[place]
    return [at for at in seen if at is not None], [at for at in stable if at is not None]


def revised(before: Sequence[str], after: Sequence[str]) -> int:
    """Words of ``before`` that ``after`` does not have any more."""
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return len(before) - sum(block.size for block in matcher.get_matching_blocks())


def _erased(before: list[str], after: list[str]) -> int:
    """Words of ``before`` behind what it has in common with the beginning of ``after``."""
    same = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
    return len(before) - (min(len(before), len(after)) if same is None else same)


def _sorted_ms(seconds: list[float]) -> tuple[float, ...]:
    return tuple(sorted(1000 * value for value in seconds))
