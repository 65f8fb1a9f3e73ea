"""What captions are worth: errors, and how long after a word was said it was shown, and when it was there to stay.

Everything is reckoned on normalised words, so that neither case nor punctuation counts. The words of all finals
together are aligned with what was said, for the fewest errors; only words that are right have a latency. No word is
matched by the times that a recognizer gives, as some give none.

A word was first shown with the first caption that has it in its place among what follows the finals so far, found by
the longest matching blocks; words that had not begun by then cannot have been meant.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

import jiwer
from corpus import PAUSE_S
from scoring import normalized

from recognizers.driving import Line
from recognizers.spoken import Spoken
from stream_asr.latency import revised

END_OF_SPEECH_S = PAUSE_S[0]
"""A silence as long as this ends what the speaker had to say."""


@dataclass(frozen=True, slots=True)
class Caption:
    """All that is shown from a moment on.

    Attributes:
        settled: how many of its words, from the first, are final.
        rest: the words after them.
    """

    at_s: float
    settled: int
    rest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """How heard words stand to spoken ones.

    Attributes:
        errors: substitutions, insertions and deletions.
        heard: for each spoken word the place of the heard one, right or wrong; None where it is missing.
        right: places of spoken words that were heard as they were said.
    """

    errors: int
    heard: tuple[int | None, ...]
    right: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one stream; milliseconds are sorted.

    Attributes:
        wer: in percent.
        words: spoken.
        word_first_ms: end of a word → the first caption that shows it; words that are right only.
        final_ms: the end of the last word before a silence → the last word heard of it is final.
        upwr: words of captions that the next caption changed or took away, for each word of the finals.
        text: the finals.
    """

    wer: float
    words: int
    word_first_ms: tuple[float, ...]
    final_ms: tuple[float, ...]
    upwr: float
    text: str


def captions(lines: Iterable[Line]) -> tuple[list[str], list[Caption]]:
    """The words of all finals, and what was shown from when on."""
    finals: list[str] = []
    shown: list[Caption] = []
    for at_s, change in groupby(lines, key=lambda line: line.at_s):
        rest: tuple[str, ...] = ()
        for line in change:
            words = normalized(line.text).split()
            if line.final:
                finals += words
            else:
                rest = tuple(words)
        shown.append(Caption(at_s, len(finals), rest))
    return finals, shown


def match(spoken: Sequence[str], heard: Sequence[str]) -> Matched:
    """Align heard words with spoken ones for the fewest errors."""
    output = jiwer.process_words(" ".join(spoken), " ".join(heard))
    places: list[int | None] = [None] * len(spoken)
    right: list[int] = []
    for chunk in output.alignments[0]:
        if chunk.type in ("equal", "substitute"):
            said = range(chunk.ref_start_idx, chunk.ref_end_idx)
            places[said.start : said.stop] = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
            right += said if chunk.type == "equal" else ()
    return Matched(output.substitutions + output.insertions + output.deletions, tuple(places), tuple(right))


def measure(spoken: Sequence[Spoken], lines: Iterable[Line]) -> Timing:
    """What a stream's captions are worth; ``spoken`` has at least a word."""
    finals, shown = captions(lines)
    matched = match([word.word for word in spoken], finals)
    first = _first_shown(finals, shown, _earliest(spoken, matched, len(finals)))
    settled = _settled(shown)
    word_first = [
        first[at] - spoken[place].end_s for place in matched.right if (at := matched.heard[place]) is not None
    ]
    final = [
        settled[heard[-1]] - spoken[stretch.stop - 1].end_s
        for stretch in _stretches(spoken)
        if (heard := [at for at in matched.heard[stretch.start : stretch.stop] if at is not None])
    ]
    return Timing(
        100 * matched.errors / len(spoken),
        len(spoken),
        _sorted_ms(word_first),
        _sorted_ms(final),
        _revisions(finals, shown) / len(finals) if finals else 0.0,
        " ".join(finals),
    )


def _earliest(spoken: Sequence[Spoken], matched: Matched, heard: int) -> list[float]:
    """When each heard word may have been heard at the earliest: as its spoken word begins; insertions as the one
    before them. Never falls."""
    earliest = [0.0] * heard
    for word, place in zip(spoken, matched.heard, strict=True):
        if place is not None:
            earliest[place] = word.start_s
    for place in range(1, heard):
        earliest[place] = max(earliest[place], earliest[place - 1])
    return earliest


def _first_shown(finals: Sequence[str], shown: Sequence[Caption], earliest: Sequence[float]) -> list[float]:
    """When each word of the finals was first seen in its place, at the latest when it was final."""
    first = _settled(shown)
    for caption in shown:
        wanted = finals[caption.settled : bisect_right(earliest, caption.at_s)]
        for block in SequenceMatcher(None, caption.rest, wanted, autojunk=False).get_matching_blocks():
            for place in range(caption.settled + block.b, caption.settled + block.b + block.size):
                first[place] = min(first[place], caption.at_s)
    return first


def _settled(shown: Sequence[Caption]) -> list[float]:
    """When each word became final."""
    settled: list[float] = []
    for caption in shown:
        settled += [caption.at_s] * (caption.settled - len(settled))
    return settled


def _revisions(finals: Sequence[str], shown: Sequence[Caption]) -> int:
    """Words of captions that the next one did not have any more."""
    count = 0
    settled, rest = 0, ()
    for caption in shown:
        count += revised(rest, (*finals[settled : caption.settled], *caption.rest))
        settled, rest = caption.settled, caption.rest
    return count


def _stretches(spoken: Sequence[Spoken]) -> list[range]:
    """Words that follow each other without a silence."""
    ends = [
        place + 1
        for place in range(len(spoken) - 1)
        if spoken[place + 1].start_s - spoken[place].end_s >= END_OF_SPEECH_S
    ]
    return [range(first, stop) for first, stop in zip([0, *ends], [*ends, len(spoken)], strict=True)]


def _sorted_ms(seconds: Iterable[float]) -> tuple[float, ...]:
    return tuple(sorted(1000 * value for value in seconds))
