"""SRT and WebVTT: words into cues that can be read.

At most two lines of at most 42 characters (the limits of the BBC and Netflix subtitle guidelines), no cue of
one short word where it can join its neighbour, breaks where the speaker pauses. The best places to break are
found by dynamic programming over the words, as paragraphs are broken into lines by Knuth and Plass,
"Breaking Paragraphs into Lines", 1981.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_asr.events import Final, Word

LINE_CHARACTERS = 42
LINES = 2
LONGEST_CUE_S = 7.0
SHORTEST_CUE_S = 1.0
"""Shorter cues stay on screen for this long, if the next one lets them."""

_SEPARATE_S = 2.0
"""Words this far apart never share a cue."""

_SHORT_WORD = 12
"""A cue of a single word of up to this many characters looks like a mistake."""

# Costs of a way to break: what a reader minds more costs more.
_CUE = 4.0
_LONELY_WORD = 20.0
_BROKEN_PHRASE = 6.0
_PAUSE_S = 0.3
"""A break at a pause this long or at the end of an utterance does not break a phrase."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Text that is on screen from ``start`` to ``end``, in seconds, in one or two lines."""

    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    word: Word
    ends_utterance: bool


def cues(finals: Sequence[Final]) -> list[Cue]:
    """The cues of a transcript. They do not overlap, and hold every word once, in order."""
    tokens = [
        _Token(part, at == len(final.words) - 1)
        for final in finals
        for at, word in enumerate(final.words)
        for part in _fitting(word)
    ]
    made: list[Cue] = []
    first = 0
    for at in range(1, len(tokens) + 1):
        if at == len(tokens) or tokens[at].word.start - tokens[at - 1].word.end > _SEPARATE_S:
            made += _broken(tokens[first:at])
            first = at
    return [_lingering(cue, made[at + 1].start if at + 1 < len(made) else None) for at, cue in enumerate(made)]


def srt(finals: Sequence[Final]) -> str:
    """SubRip text."""
    blocks = (
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n" + "\n".join(cue.lines) + "\n"
        for number, cue in enumerate(cues(finals), start=1)
    )
    return "\n".join(blocks)


def vtt(finals: Sequence[Final]) -> str:
    """WebVTT text (W3C, "WebVTT: The Web Video Text Tracks Format")."""
    blocks = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n" + "\n".join(map(_escaped, cue.lines)) + "\n"
        for cue in cues(finals)
    )
    return "\n".join(["WEBVTT\n", *blocks])


def _broken(tokens: Sequence[_Token]) -> list[Cue]:
    """The cheapest way to break ``tokens``, none far from the next, into cues."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, len(tokens) + 1):
        choices = []
        for start in range(stop - 1, -1, -1):
            lines = _lines([token.word.word for token in tokens[start:stop]])
            too_long = tokens[stop - 1].word.end - tokens[start].word.start > LONGEST_CUE_S
            if lines is None or (too_long and stop - start > 1):
                break
            choices.append((best[start][0] + _cost(tokens, start, stop, lines), start))
        best.append(min(choices))
    made: list[Cue] = []
    stop = len(tokens)
    while stop:
        start = best[stop][1]
        lines = _lines([token.word.word for token in tokens[start:stop]])
        assert lines is not None
        made.append(Cue(tokens[start].word.start, tokens[stop - 1].word.end, lines))
        stop = start
    return made[::-1]


def _cost(tokens: Sequence[_Token], start: int, stop: int, lines: tuple[str, ...]) -> float:
    cost = _CUE
    if stop - start == 1 and len(lines[0]) <= _SHORT_WORD and len(tokens) > 1:
        cost += _LONELY_WORD
    last = tokens[stop - 1]
    if stop < len(tokens) and not last.ends_utterance and tokens[stop].word.start - last.word.end < _PAUSE_S:
        cost += _BROKEN_PHRASE
    # An even number of characters in each cue reads better than a full one and a scrap.
    spare = 1 - sum(map(len, lines)) / (LINES * LINE_CHARACTERS)
    return cost + spare * spare


def _lines(words: Sequence[str]) -> tuple[str, ...] | None:
    """One line, or the two most even ones; None when two do not hold the words."""
    whole = " ".join(words)
    if len(whole) <= LINE_CHARACTERS:
        return (whole,)
    halves = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))]
    fitting = [pair for pair in halves if max(map(len, pair)) <= LINE_CHARACTERS]
    return min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1])), default=None)


def _fitting(word: Word) -> list[Word]:
    """The word, or the parts of one that no line could hold, its time shared out among them."""
    text = word.word
    pieces = [text[at : at + LINE_CHARACTERS] for at in range(0, len(text), LINE_CHARACTERS)]
    step = (word.end - word.start) / max(1, len(pieces))
    return [
        Word(piece, word.start + at * step, word.start + (at + 1) * step, word.confidence)
        for at, piece in enumerate(pieces)
    ]


def _lingering(cue: Cue, next_start: float | None) -> Cue:
    end = max(cue.end, cue.start + SHORTEST_CUE_S)
    return Cue(cue.start, end if next_start is None else max(cue.start, min(end, next_start)), cue.lines)


def _clock(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
