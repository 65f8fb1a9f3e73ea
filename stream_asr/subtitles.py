"""SRT and WebVTT: words into cues that can be read.

At most two lines of at most 42 characters (the limits of the BBC and Netflix subtitle guidelines), no cue of
one short word where it can join its neighbour, breaks where the speaker pauses. The best places to break are
found by dynamic programming over the words, as paragraphs are broken into lines by Knuth and Plass,
"Breaking Paragraphs into Lines", 1981.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_asr.events import Final, Word

LINE_CHARACTERS = 42
LINES = 2
LONGEST_CUE_S = 7.0
SHORTEST_CUE_S = 1.0
"""Shorter cues stay on screen for this long, if the next one lets them."""

_SEPARATE_S = 2.0
"""Words this far apart never share a cue."""

_HELD_S = 60.0
"""Where nobody pauses for that long, the breaks up to the end of an utterance are decided without what follows."""

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


class CueCutter:
    """Makes cues of finals as they come, and holds back the words of those that what follows could change."""

    def __init__(self) -> None:
        self._held: list[_Token] = []

    def add(self, final: Final) -> list[Cue]:
        """The cues that are certain now; most finals make none so."""
        made: list[Cue] = []
        for at, word in enumerate(final.words):
            for part in _fitting(word):
                if self._held and _separate(self._held[0], self._held[-1], part):
                    made += self._cut(part.start)
                self._held.append(_Token(part, at == len(final.words) - 1))
        return made

    def finish(self) -> list[Cue]:
        """The cues that are left when no finals follow."""
        return self._cut(None)

    def _cut(self, next_start: float | None) -> list[Cue]:
        made = _broken(self._held)
        self._held = []
        starts = [*(cue.start for cue in made[1:]), next_start]
        return [_lingering(cue, start) for cue, start in zip(made, starts, strict=False)]


def cues(finals: Iterable[Final]) -> list[Cue]:
    """The cues of a transcript. They do not overlap, and hold every word once, in order."""
    cutter = CueCutter()
    made = [cue for final in finals for cue in cutter.add(final)]
    return made + cutter.finish()


class SubtitleWriter:
    """A file of subtitles piece by piece. Whenever a piece was written, what is there is a valid file.

    Args:
        form: srt for SubRip, or vtt for WebVTT (W3C, "WebVTT: The Web Video Text Tracks Format").
    """

    def __init__(self, form: str) -> None:
        self._vtt = form == "vtt"
        self._cutter = CueCutter()
        self._cues = 0

    def begin(self) -> str:
        return "WEBVTT\n" if self._vtt else ""

    def add(self, final: Final) -> str:
        """The cues that are certain now, if any; see `CueCutter`."""
        return self._written(self._cutter.add(final))

    def finish(self) -> str:
        return self._written(self._cutter.finish())

    def _written(self, made: Iterable[Cue]) -> str:
        blocks = []
        for cue in made:
            self._cues += 1
            if self._vtt:
                blocks.append("\n" + _block(cue, ".", map(_escaped, cue.lines)))
            else:
                blocks.append("\n" * (self._cues > 1) + f"{self._cues}\n" + _block(cue, ",", cue.lines))
        return "".join(blocks)


def srt(finals: Iterable[Final]) -> str:
    """SubRip text."""
    return _whole(SubtitleWriter("srt"), finals)


def vtt(finals: Iterable[Final]) -> str:
    """WebVTT text."""
    return _whole(SubtitleWriter("vtt"), finals)


def _whole(writer: SubtitleWriter, finals: Iterable[Final]) -> str:
    return "".join([writer.begin(), *map(writer.add, finals), writer.finish()])


def _separate(first: _Token, last: _Token, word: Word) -> bool:
    """Whether what was said from ``first`` to ``last`` becomes cues of its own, without ``word`` and what follows."""
    if word.start - last.word.end > _SEPARATE_S:
        return True
    return last.ends_utterance and last.word.end - first.word.start > _HELD_S


def _block(cue: Cue, point: str, lines: Iterable[str]) -> str:
    return f"{_clock(cue.start, point)} --> {_clock(cue.end, point)}\n" + "\n".join(lines) + "\n"


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
