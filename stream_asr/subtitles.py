"""SRT and WebVTT subtitles from finals.

Cues follow the subtitle guidelines of the BBC and Netflix: two lines of at most 42 characters, breaks at pauses, and no
cue with one short word if the word can join a neighbor. Dynamic programming over the words finds the cheapest breaks,
as Knuth and Plass do for the lines of a paragraph ("Breaking Paragraphs into Lines", 1981).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_asr.config import SubtitleConfig
from stream_asr.events import Final, Word

MAX_LINES = 2
"""Lines in a cue. The layout supports one line or two."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Text on screen.

    Attributes:
        start, end: when the text is shown, in seconds.
        lines: one or two lines of text.
    """

    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    word: Word
    ends_utterance: bool


class CueBuilder:
    """Makes cues from finals as they arrive. Words whose cues may depend on later words stay pending.

    Args:
        config: layout and timing.
    """

    def __init__(self, config: SubtitleConfig | None = None) -> None:
        self._config = config or SubtitleConfig()
        self._pending: list[_Token] = []

    def add(self, final: Final) -> list[Cue]:
        """Add a final and return the cues that are certain now, often none."""
        cues: list[Cue] = []
        for index, word in enumerate(final.words):
            for part in self._split(word):
                if self._pending and self._can_flush(part):
                    cues += self._flush(part.start)
                self._pending.append(_Token(part, index == len(final.words) - 1))
        return cues

    def finish(self) -> list[Cue]:
        """Return the remaining cues."""
        return self._flush(None)

    def _can_flush(self, next_word: Word) -> bool:
        """Return whether the pending words become separate cues, independent of later words."""
        first, last = self._pending[0].word, self._pending[-1]
        if next_word.start - last.word.end > self._config.max_gap_s:
            return True
        return last.ends_utterance and last.word.end - first.start > self._config.max_pending_s

    def _flush(self, next_start: float | None) -> list[Cue]:
        cues = self._break_into_cues(self._pending)
        self._pending = []
        next_starts = [*(cue.start for cue in cues[1:]), next_start]
        return [self._extend(cue, start) for cue, start in zip(cues, next_starts, strict=False)]

    def _break_into_cues(self, tokens: Sequence[_Token]) -> list[Cue]:
        """Return the cheapest division of words, without long gaps between them, into cues."""
        best: list[tuple[float, int]] = [(0.0, 0)]  # for the first n words: cost, and start of the last cue
        for stop in range(1, len(tokens) + 1):
            candidates = []
            for start in range(stop - 1, -1, -1):
                lines = self._lines(tokens[start:stop])
                is_too_long = tokens[stop - 1].word.end - tokens[start].word.start > self._config.max_cue_s
                if lines is None or (is_too_long and stop - start > 1):
                    break
                candidates.append((best[start][0] + self._cost(tokens, start, stop, lines), start))
            best.append(min(candidates))
        cues: list[Cue] = []
        stop = len(tokens)
        while stop:
            start = best[stop][1]
            lines = self._lines(tokens[start:stop])
            assert lines is not None
            cues.append(Cue(tokens[start].word.start, tokens[stop - 1].word.end, lines))
            stop = start
        return cues[::-1]

    def _cost(self, tokens: Sequence[_Token], start: int, stop: int, lines: tuple[str, ...]) -> float:
        """Return the cost of a cue with the words [start, stop)."""
        config = self._config
        cost = config.cue_cost
        if stop - start == 1 and len(lines[0]) <= config.short_word_characters and len(tokens) > 1:
            cost += config.lonely_word_cost
        last = tokens[stop - 1]
        if stop < len(tokens) and not last.ends_utterance and tokens[stop].word.start - last.word.end < config.pause_s:
            cost += config.broken_phrase_cost
        # Cues of similar length read better than a full cue followed by a short one.
        unused = 1 - sum(map(len, lines)) / (MAX_LINES * config.line_characters)
        return cost + unused * unused

    def _lines(self, tokens: Sequence[_Token]) -> tuple[str, ...] | None:
        """Return one line, or two lines of similar length; None if the words do not fit into two lines."""
        words = [token.word.word for token in tokens]
        line = " ".join(words)
        if len(line) <= self._config.line_characters:
            return (line,)
        pairs = [(" ".join(words[:index]), " ".join(words[index:])) for index in range(1, len(words))]
        fitting = [pair for pair in pairs if max(map(len, pair)) <= self._config.line_characters]
        return min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1])), default=None)

    def _split(self, word: Word) -> list[Word]:
        """Return the word, or its parts if it is longer than a line, with its time divided among them."""
        text, size = word.word, self._config.line_characters
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        step = (word.end - word.start) / max(1, len(parts))
        return [
            Word(part, word.start + index * step, word.start + (index + 1) * step, word.confidence)
            for index, part in enumerate(parts)
        ]

    def _extend(self, cue: Cue, next_start: float | None) -> Cue:
        """Return the cue with the minimum duration, if the next cue allows it."""
        end = max(cue.end, cue.start + self._config.min_cue_s)
        return Cue(cue.start, end if next_start is None else max(cue.start, min(end, next_start)), cue.lines)


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
    times = f"{_format_time(cue.start, decimal_mark)} --> {_format_time(cue.end, decimal_mark)}"
    return f"{times}\n" + "\n".join(lines) + "\n"


def _format_time(seconds: float, decimal_mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{decimal_mark}{ms % 1000:03}"


def _escape(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
