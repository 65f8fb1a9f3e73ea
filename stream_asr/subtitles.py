"""SRT and WebVTT subtitles from finals.

The rule, which ``docs/cli.md`` describes and ``server/web/static/subtitles.js`` repeats for the page:

1. A pause of `SubtitleConfig.max_gap_ms` or more starts a new cue.
2. A cue has one or two lines of at most `SubtitleConfig.line_characters`, and at most `SubtitleConfig.max_cue_ms` of
   speech. A longer word is divided.
3. Among all divisions of the words into cues, the cheapest is taken: few cues, which begin and end where sentences do,
   else at pauses, else after other punctuation. A short word is not alone in a cue if it can join a neighbor.
4. Two lines are of similar length. The first may end early, after punctuation or at a pause, if it is half full.
5. A cue is shown from its first word to the end of its last, and longer if there is time for reading.

Dynamic programming over the words finds the cheapest division, as Knuth and Plass do for the lines of a paragraph
("Breaking Paragraphs into Lines", 1981). All times are whole milliseconds, as in the files, so that both
implementations compute the same cues.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from stream_asr.config import SubtitleConfig
from stream_asr.events import Final, bare_word

MAX_LINES = 2
"""Lines in a cue. The layout supports one line or two."""

_OPENERS, _CLOSERS = "\"'“‘«([{", "\"'”’»)]}"
"""Quotation marks and brackets around words."""

_SENTENCE_MARKS = tuple(".!?…。！？؟।")
_CLAUSE_MARKS = tuple(",;:–—、，；：،")

_ABBREVIATIONS = frozenset(("mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc"))
"""Words whose period does not end a sentence; initials such as ``J.`` and ``U.S.`` are recognized by their form."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Text on screen.

    Attributes:
        start_ms, end_ms: when the text is shown. ``end_ms`` is greater than ``start_ms``.
        lines: one or two lines of text.
    """

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, or a part of a word that is longer than a line.

    Attributes:
        text: its text.
        start_ms, end_ms: its time span.
        ends_utterance: whether it is the last one of an utterance.
    """

    text: str
    start_ms: int
    end_ms: int
    ends_utterance: bool = False


class CueBuilder:
    """Makes cues from finals as they arrive. Words whose cues may depend on later words stay pending.

    Args:
        config: layout and timing.
    """

    def __init__(self, config: SubtitleConfig | None = None) -> None:
        self._config = config or SubtitleConfig()
        self._pending: list[_Token] = []
        self._last_end_ms = 0

    def add(self, final: Final) -> list[Cue]:
        """Add a final and return the cues that are certain now, often none."""
        cues: list[Cue] = []
        for token in _tokens(final, self._config.line_characters):
            if self._pending and self._can_flush(token):
                cues += self._flush(token.start_ms)
            self._append(token)
        return cues

    def finish(self) -> list[Cue]:
        """Return the remaining cues."""
        return self._flush(None)

    def _append(self, token: _Token) -> None:
        """Add a token. Punctuation that stands alone joins the word before it, so that no line starts with it."""
        if self._pending and not bare_word(token.text):
            last = self._pending[-1]
            text = f"{last.text} {token.text}"
            if len(text) <= self._config.line_characters:
                self._pending[-1] = replace(token, text=text, start_ms=last.start_ms)
                return
        self._pending.append(token)

    def _can_flush(self, next_token: _Token) -> bool:
        """Return whether the pending words become separate cues, independent of later words."""
        first, last = self._pending[0], self._pending[-1]
        if next_token.start_ms - last.end_ms >= self._config.max_gap_ms:
            return True
        return last.ends_utterance and last.end_ms - first.start_ms > self._config.max_pending_ms

    def _flush(self, next_start_ms: int | None) -> list[Cue]:
        spans = _divide_into_cues(self._pending, self._config)
        cues = []
        for start, stop, lines in spans:
            following_ms = self._pending[stop].start_ms if stop < len(self._pending) else next_start_ms
            cues.append(
                self._time_cue(self._pending[start].start_ms, self._pending[stop - 1].end_ms, following_ms, lines)
            )
        self._pending = []
        return cues

    def _time_cue(self, start_ms: int, end_ms: int, next_start_ms: int | None, lines: tuple[str, ...]) -> Cue:
        """Return a cue that stays long enough for reading, if the next cue allows it, and overlaps no other."""
        reading_ms = sum(map(len, lines)) * 1000 // self._config.reading_characters_per_s
        end_ms = max(end_ms, start_ms + self._config.min_cue_ms, start_ms + reading_ms)
        if next_start_ms is not None:
            end_ms = min(end_ms, next_start_ms)
        start_ms = max(start_ms, self._last_end_ms)
        self._last_end_ms = max(end_ms, start_ms + 1)
        return Cue(start_ms, self._last_end_ms, lines)


def _tokens(final: Final, line_characters: int) -> Iterable[_Token]:
    """Yield the words of a final, with times that never decrease, and long words in parts."""
    words = [(word.word, word.start, word.end) for word in final.words]
    if not words:  # a client that requested no words
        words = [(word, math.nan, math.nan) for word in final.text.split()]
    words = [(" ".join(text.split()), start, end) for text, start, end in words if text.strip()]
    spans = _fill_times([(start, end) for _, start, end in words], final)
    for index, ((text, _, _), (start_ms, end_ms)) in enumerate(zip(words, spans, strict=True)):
        parts = [text[position : position + line_characters] for position in range(0, len(text), line_characters)]
        duration_ms = end_ms - start_ms
        for number, part in enumerate(parts):
            ends_utterance = index == len(words) - 1 and number == len(parts) - 1
            part_start_ms = start_ms + number * duration_ms // len(parts)
            part_end_ms = start_ms + (number + 1) * duration_ms // len(parts)
            yield _Token(part, part_start_ms, part_end_ms, ends_utterance)


def _fill_times(times: Sequence[tuple[float, float]], final: Final) -> list[tuple[int, int]]:
    """Return time spans in milliseconds that never decrease. Words without times share the time around them."""
    spans: list[tuple[int, int]] = []
    untimed = 0

    def fill(stop_ms: int) -> None:
        """Give the untimed words before ``stop_ms`` equal spans."""
        first_ms = spans[-1][1] if spans else min(_to_ms(final.start), stop_ms)
        duration_ms = max(0, stop_ms - first_ms)
        for index in range(untimed):
            spans.append((first_ms + index * duration_ms // untimed, first_ms + (index + 1) * duration_ms // untimed))

    for start, end in times:
        if not (math.isfinite(start) and math.isfinite(end)):
            untimed += 1
            continue
        start_ms = _to_ms(start)
        fill(start_ms)
        untimed = 0
        start_ms = max(start_ms, spans[-1][0] if spans else 0)
        spans.append((start_ms, max(start_ms, _to_ms(end))))
    fill(_to_ms(final.end))
    return spans


def _to_ms(seconds: float) -> int:
    """Convert seconds to milliseconds as the wire format rounds them; 0 for a time that is unknown."""
    return round(1000 * round(seconds, 3)) if math.isfinite(seconds) else 0


def _divide_into_cues(tokens: Sequence[_Token], config: SubtitleConfig) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return the cheapest division of words into cues: the words [start, stop) and the lines of each cue."""
    ends = [0]  # position after each word in the text of all words, joined by spaces
    for token in tokens:
        ends.append(ends[-1] + len(token.text) + 1)
    breaks = [
        0.0,
        *(_break_cost(before, after, config) for before, after in pairwise(tokens)),
        0.0,
    ]
    best = [(0.0, 0, 0)]  # for the first n words: cost, start of the last cue, and start of its second line
    for stop in range(1, len(tokens) + 1):
        candidates = []
        for start in range(stop - 1, -1, -1):
            line = _break_line(ends, breaks, start, stop, config)
            is_too_long = tokens[stop - 1].end_ms - tokens[start].start_ms > config.max_cue_ms
            if line is None or (is_too_long and stop - start > 1):
                break
            line_cost, middle = line
            cost = best[start][0] + config.cue_cost + breaks[stop] + line_cost
            length = ends[stop] - ends[start] - 1
            if stop - start == 1 and length <= config.short_word_characters and len(tokens) > 1:
                cost += config.lonely_word_cost
            # Cues of similar length read better than a full cue followed by a short one.
            unused = 1 - length / (MAX_LINES * config.line_characters)
            candidates.append((cost + unused * unused, start, middle))
        best.append(min(candidates))
    spans = []
    stop = len(tokens)
    while stop:
        _, start, middle = best[stop]
        parts = (tokens[start:middle], tokens[middle:stop])
        spans.append((start, stop, tuple(" ".join(token.text for token in part) for part in parts if part)))
        stop = start
    return spans[::-1]


def _break_line(
    ends: Sequence[int], breaks: Sequence[float], start: int, stop: int, config: SubtitleConfig
) -> tuple[float, int] | None:
    """Find the cheapest second line of a cue with the words [start, stop).

    Returns:
        The cost of the break and the index of the second line's first word, ``stop`` for a single line; None if the
        words do not fit into two lines.
    """
    size = config.line_characters
    if ends[stop] - ends[start] - 1 <= size:
        return 0.0, stop
    options = []
    for middle in range(start + 1, stop):
        first, second = ends[middle] - ends[start] - 1, ends[stop] - ends[middle] - 1
        if max(first, second) <= size:
            cost = breaks[middle] if first >= config.full_line_characters else config.phrase_break_cost
            unevenness = (first - second) / size
            options.append(
                (config.line_break_weight * cost + config.uneven_lines_cost * unevenness * unevenness, middle)
            )
    return min(options, default=None)


def _break_cost(before: _Token, after: _Token, config: SubtitleConfig) -> float:
    """Return the cost of a break between two words."""
    text = before.text.rstrip(_CLOSERS)
    abbreviated = text.endswith(".") and _is_abbreviation(text.split(" ")[-1][:-1].lstrip(_OPENERS).lower())
    if text.endswith(_SENTENCE_MARKS) and not abbreviated:
        return 0.0
    if before.ends_utterance or after.start_ms - before.end_ms >= config.pause_ms:
        return config.pause_break_cost
    if abbreviated:
        return config.name_break_cost
    return config.clause_break_cost if text.endswith(_CLAUSE_MARKS) else config.phrase_break_cost


def _is_abbreviation(word: str) -> bool:
    """Return whether a word in small letters is an abbreviation, if a period follows it."""
    is_initials = word != "i" and all(len(part) == 1 and part.isalpha() for part in word.split("."))
    return is_initials or word in _ABBREVIATIONS


def make_cues(finals: Iterable[Final], config: SubtitleConfig | None = None) -> list[Cue]:
    """Return the cues of a transcript. They do not overlap and contain every word once, in order."""
    builder = CueBuilder(config)
    cues = [cue for final in finals for cue in builder.add(final)]
    return cues + builder.finish()


class SubtitleWriter:
    """Formats a subtitle file piece by piece. The pieces so far always form a valid file.

    Args:
        file_format: srt for SubRip, or vtt for WebVTT (W3C, "WebVTT: The Web Video Text Tracks Format").
        config: layout and timing.
    """

    def __init__(self, file_format: str, config: SubtitleConfig | None = None) -> None:
        self._vtt = file_format == "vtt"
        self._builder = CueBuilder(config)
        self._cue_count = 0

    def begin(self) -> str:
        """Return the beginning of the file."""
        return "WEBVTT\n" if self._vtt else ""

    def add(self, final: Final) -> str:
        """Add a final and return the cues that are certain now, often none."""
        return self._format(self._builder.add(final))

    def finish(self) -> str:
        """Return the remaining cues."""
        return self._format(self._builder.finish())

    def _format(self, cues: Iterable[Cue]) -> str:
        blocks = []
        for cue in cues:
            self._cue_count += 1
            if self._vtt:
                blocks.append("\n" + _format_cue(cue, ".", map(_escape, cue.lines)))
            else:
                separator = "\n" if self._cue_count > 1 else ""
                blocks.append(f"{separator}{self._cue_count}\n" + _format_cue(cue, ",", cue.lines))
        return "".join(blocks)


def format_srt(finals: Iterable[Final]) -> str:
    """Return a transcript in SubRip format."""
    return _write_all(SubtitleWriter("srt"), finals)


def format_vtt(finals: Iterable[Final]) -> str:
    """Return a transcript in WebVTT format."""
    return _write_all(SubtitleWriter("vtt"), finals)


def _write_all(writer: SubtitleWriter, finals: Iterable[Final]) -> str:
    return "".join([writer.begin(), *map(writer.add, finals), writer.finish()])


def _format_cue(cue: Cue, decimal_mark: str, lines: Iterable[str]) -> str:
    times = f"{_format_time(cue.start_ms, decimal_mark)} --> {_format_time(cue.end_ms, decimal_mark)}"
    return f"{times}\n" + "\n".join(lines) + "\n"


def _format_time(ms: int, decimal_mark: str) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{decimal_mark}{ms % 1000:03}"


def _escape(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
