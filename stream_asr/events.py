"""Events of a stream, and transcripts. All values are immutable; times are positions in the audio, in seconds.

`to_json` returns the wire format of ``--format jsonl``, ``json`` and the websocket.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

from stream_asr.config import samples_to_s


def _round(value: float) -> float:
    """Round to three digits. Finer times are meaningless, as model frames are 20 ms or longer."""
    return round(value, 3)


_SPOKEN_SIGNS = frozenset("%‰&@#§+°")
"""Signs around a word that are spoken and therefore not punctuation, besides those of currencies."""


def strip_punctuation(text: str) -> str:
    """Remove the punctuation around a word, but not inside it: ``"Well-known,`` becomes ``Well-known``."""
    kept = [index for index, character in enumerate(text) if _is_spoken(character)]
    return text[kept[0] : kept[-1] + 1] if kept else ""


def _is_spoken(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LMN" or category == "Sc" or character in _SPOKEN_SIGNS


def ends_sentence(text: str) -> bool:
    """Return whether a text ends with punctuation that ends a sentence."""
    return text.endswith((".", "?", "!"))


def bare_word(text: str) -> str:
    """Return a word without the punctuation around it, in lower case; empty if it is only punctuation."""
    return strip_punctuation(text).lower().replace("’", "'")


def bare_text(text: str) -> str:
    """Return a text without punctuation around its words, in lower case."""
    return " ".join(filter(None, map(bare_word, text.split())))


@dataclass(frozen=True, slots=True)
class Word:
    """A recognized word.

    Attributes:
        word: the text of the word, with the punctuation and capitals that the recognizer writes.
        start, end: start of its first frame and end of its last frame, in seconds.
        confidence: mean posterior of its tokens, 0 to 1.
    """

    word: str
    start: float
    end: float
    confidence: float

    @classmethod
    def in_frames(cls, word: str, first_frame: int, stop_frame: int, confidence: float, frame_samples: int) -> Word:
        """Return a word with times from frame indices on the absolute grid.

        Args:
            word: the text of the word.
            first_frame, stop_frame: the word covers the frames [first_frame, stop_frame).
            confidence: 0 to 1.
            frame_samples: length of a frame in samples at 16 kHz.
        """
        start, end = samples_to_s(first_frame * frame_samples), samples_to_s(stop_frame * frame_samples)
        return cls(word, start, end, confidence)

    @property
    def bare(self) -> str:
        """The word without the punctuation around it, in lower case; empty if it is only punctuation."""
        return bare_word(self.word)

    def clip(self, end: float) -> Word:
        """Return the word with times of at most ``end`` seconds."""
        return self if self.end <= end else replace(self, start=min(self.start, end), end=end)

    def to_json(self) -> dict[str, Any]:
        return {
            "word": self.word,
            "start": _round(self.start),
            "end": _round(self.end),
            "confidence": _round(self.confidence),
        }


def _number(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance has started. A `Final` with the same ``utterance`` will follow.

    Attributes:
        utterance: number of the utterance, from 0.
        start: start of the utterance in seconds.
    """

    type: ClassVar[str] = "speech_started"
    utterance: int
    start: float

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "utterance": self.utterance, "start": _round(self.start)}


@dataclass(frozen=True, slots=True)
class Partial:
    """The caption of an utterance so far.

    Attributes:
        utterance: number of the utterance.
        start: start of the utterance in seconds.
        end: end of the audio that the text reflects, in seconds.
        stable: complete words that can no longer change; ``text`` begins with them.
        text: all words so far. Words after the stable ones may still change.
        words: the words of ``text``. Not part of the wire format.
    """

    type: ClassVar[str] = "partial"
    utterance: int
    start: float
    end: float
    stable: str
    text: str
    words: tuple[Word, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "utterance": self.utterance,
            "start": _round(self.start),
            "end": _round(self.end),
            "stable": self.stable,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Final:
    """The caption of a finished utterance.

    Attributes:
        utterance: number of the utterance.
        start, end: start and end of the utterance in seconds.
        text: the words, joined by spaces; empty if no words were recognized.
        confidence: mean confidence of the words, 0 to 1; 0 without words.
        words: the words.
    """

    type: ClassVar[str] = "final"
    utterance: int
    start: float
    end: float
    text: str
    confidence: float
    words: tuple[Word, ...]

    @classmethod
    def from_json(cls, message: Mapping[str, Any]) -> Final:
        """Return the final of a ``final`` object in the wire format.

        Its words may be missing, and their times and confidences may be missing or null, for NaN.
        """
        words = tuple(
            Word(word["word"], *(_number(word.get(name)) for name in ("start", "end", "confidence")))
            for word in message.get("words", ())
        )
        return cls(
            message["utterance"], message["start"], message["end"], message["text"], message["confidence"], words
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "utterance": self.utterance,
            "start": _round(self.start),
            "end": _round(self.end),
            "text": self.text,
            "confidence": _round(self.confidence),
            "words": [word.to_json() for word in self.words],
        }


@dataclass(frozen=True, slots=True)
class Overload:
    """The recognizer does not keep up.

    Attributes:
        lag_ms: how far the captions are behind the audio, in milliseconds.
    """

    type: ClassVar[str] = "overload"
    lag_ms: int

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "lag_ms": self.lag_ms}


@dataclass(frozen=True, slots=True)
class AudioDropped:
    """Audio was dropped because the stream's buffer was full.

    Attributes:
        start, end: start and end of the dropped audio in seconds.
    """

    type: ClassVar[str] = "audio_dropped"
    start: float
    end: float

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "start": _round(self.start), "end": _round(self.end)}


@dataclass(frozen=True, slots=True)
class Marked:
    """The audio before a mark has been recognized, as far as that is possible without later audio.

    Its captions are in the events before this one. If the utterance continues, its final is still to come.

    Attributes:
        mark: the number that `Stream.mark` returned.
    """

    type: ClassVar[str] = "marked"
    mark: int

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "mark": self.mark}


Event: TypeAlias = SpeechStarted | Partial | Final | Overload | AudioDropped | Marked


@dataclass(frozen=True, slots=True)
class Transcript:
    """The transcript of a recording.

    Attributes:
        utterances: the finals with words, in order.
        duration_s: duration of the audio in seconds.
    """

    utterances: tuple[Final, ...]
    duration_s: float

    @property
    def text(self) -> str:
        """The text of all utterances."""
        return " ".join(final.text for final in self.utterances)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all utterances."""
        return tuple(word for final in self.utterances for word in final.words)

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "duration": _round(self.duration_s),
            "utterances": [final.to_json() for final in self.utterances],
        }
