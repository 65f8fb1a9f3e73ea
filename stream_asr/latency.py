"""How long after the sound do captions appear: measured from events and the times at which they arrived.

The clock of a run starts with the first sample, so that "position in the audio" and "seconds since the start"
are the same scale for audio that is fed in real time. Compute is included: nothing stops the clock.

Sources: unstable partial word ratio, Shangguan et al., "Analyzing the Quality and Stability of a Streaming
End-to-End On-Device Speech Recognizer", 2020; the other names as in the README.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from stream_asr.events import Event, Final, Partial


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
        word_first_ms: end of a word → the first caption that shows it in its place.
        word_stable_ms: end of a word → the first caption in which it is stable or final.
        final_ms: the endpoint's decision → the final. The decision waits for the endpoint's silence.
        end_of_speech_ms: end of the last word → the final: the silence and all.
        upwr: words of partials that a later caption revised, for each word of the finals.
    """

    words: int
    first_partial_ms: tuple[float, ...]
    word_first_ms: tuple[float, ...]
    word_stable_ms: tuple[float, ...]
    final_ms: tuple[float, ...]
    end_of_speech_ms: tuple[float, ...]
    upwr: float


def percentile(sorted_values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not sorted_values:
        return None
    rank = max(1, -(-len(sorted_values) * percent // 100))
    return sorted_values[int(rank) - 1]


def revisions(texts: Iterable[Sequence[str]]) -> int:
    """Words of captions, one after the other, that the next one did not have in the same place."""
    count = 0
    for before, after in pairwise(texts):
        same = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
        count += len(before) - (min(len(before), len(after)) if same is None else same)
    return count


def measure(arrivals: Iterable[Arrival]) -> LatencyReport:
    """Latencies of a run. A word's end is where the final's own alignment puts it."""
    captions: dict[int, list[tuple[float, Partial | Final]]] = {}
    for arrival in arrivals:
        if isinstance(arrival.event, Partial | Final):
            captions.setdefault(arrival.event.utterance, []).append((arrival.at_s, arrival.event))
    first_partial, word_first, word_stable, final_ms, end_of_speech = [], [], [], [], []
    words = revised = 0
    for shown in captions.values():
        final_at, final = shown[-1]
        if not isinstance(final, Final):
            continue  # the run was cut off before it
        final_ms.append(final_at - final.end)
        revised += revisions([caption.text.split() for _, caption in shown])
        if not final.words:
            continue
        words += len(final.words)
        end_of_speech.append(final_at - final.words[-1].end)
        first_partial.append(next(at for at, caption in shown if caption.text) - final.words[0].end)
        seen, stable = _appearances(shown, final)
        word_first += [at - word.end for at, word in zip(seen, final.words, strict=True)]
        word_stable += [at - word.end for at, word in zip(stable, final.words, strict=True)]
    return LatencyReport(
        words,
        _sorted_ms(first_partial),
        _sorted_ms(word_first),
        _sorted_ms(word_stable),
        _sorted_ms(final_ms),
        _sorted_ms(end_of_speech),
        revised / words if words else 0.0,
    )


def _appearances(shown: list[tuple[float, Partial | Final]], final: Final) -> tuple[list[float], list[float]]:
    """When each word of the final was first seen in its place, and first stable."""
    wanted = [word.word for word in final.words]
    seen: list[float | None] = [None] * len(wanted)
    stable: list[float | None] = [None] * len(wanted)
    for at, caption in shown:
        matcher = SequenceMatcher(None, caption.text.split(), wanted, autojunk=False)
        for block in matcher.get_matching_blocks():
            for place in range(block.b, block.b + block.size):
                seen[place] = at if seen[place] is None else seen[place]
        kept = caption.text if isinstance(caption, Final) else caption.stable
        for place in range(len(kept.split())):
            stable[place] = at if stable[place] is None else stable[place]
    return [at for at in seen if at is not None], [at for at in stable if at is not None]


def _sorted_ms(seconds: list[float]) -> tuple[float, ...]:
    return tuple(sorted(1000 * value for value in seconds))
