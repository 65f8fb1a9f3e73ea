"""What a stream says: frozen values whose times are positions in the audio, in seconds.

`to_json` is the one wire form, shared by ``--format jsonl``, ``json`` and the websocket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from stream_asr.config import samples_to_s


def _ms_digits(seconds: float) -> float:
    """Seconds to the millisecond: finer would only be noise from the frames of the model, 20 ms and more."""
    return round(seconds, 3)


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word.

    Attributes:
        start, end: seconds since the stream began; the frames in which the model spelled it.
        confidence: mean posterior of its tokens, 0 to 1.
    """

    word: str
    start: float
    end: float
    confidence: float

    @classmethod
    def in_frames(cls, word: str, first_frame: int, stop_frame: int, confidence: float, frame_samples: int) -> Word:
        """One that was spelt in frames of the stream's absolute grid, of that length at 16 kHz."""
        start, end = samples_to_s(first_frame * frame_samples), samples_to_s(stop_frame * frame_samples)
        return cls(word, start, end, confidence)

    def to_json(self) -> dict[str, Any]:
        return {
            "word": self.word,
            "start": _ms_digits(self.start),
            "end": _ms_digits(self.end),
            "confidence": _ms_digits(self.confidence),
        }


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The segmenter found speech; a `Final` with the same ``utterance`` will follow."""

    type: ClassVar[str] = "speech_started"
    utterance: int
    start: float

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "utterance": self.utterance, "start": _ms_digits(self.start)}


@dataclass(frozen=True, slots=True)
class Partial:
    """The caption so far.

    Attributes:
        end: the newest audio that the text reflects.
        stable: whole words that will not change any more; ``text`` begins with it.
        text: all words, the newest of which may still change.
        words: those of the text, as far as is known now; not part of the wire form.
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
            "start": _ms_digits(self.start),
            "end": _ms_digits(self.end),
            "stable": self.stable,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Final:
    """The caption of a finished utterance; ``text`` is empty where the model heard no words in it.

    Attributes:
        confidence: mean of the words' confidences, 0 to 1; 0 without words.
    """

    type: ClassVar[str] = "final"
    utterance: int
    start: float
    end: float
    text: str
    confidence: float
    words: tuple[Word, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "utterance": self.utterance,
            "start": _ms_digits(self.start),
            "end": _ms_digits(self.end),
            "text": self.text,
            "confidence": _ms_digits(self.confidence),
            "words": [word.to_json() for word in self.words],
        }


@dataclass(frozen=True, slots=True)
class Overload:
    """The recognizer does not keep up: the captions are this far behind the audio."""

    type: ClassVar[str] = "overload"
    lag_ms: int

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "lag_ms": self.lag_ms}


@dataclass(frozen=True, slots=True)
class AudioDropped:
    """Audio that arrived while the stream's buffer was full, and was not recognised."""

    type: ClassVar[str] = "audio_dropped"
    start: float
    end: float

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "start": _ms_digits(self.start), "end": _ms_digits(self.end)}


@dataclass(frozen=True, slots=True)
class Marked:
    """All audio that was fed before `Stream.mark` returned this number is recognised, as far as it goes without more.

    The events before this one tell what came of it; unless the utterance was over, a final is still to come.
    """

    type: ClassVar[str] = "marked"
    mark: int

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "mark": self.mark}


Event: TypeAlias = SpeechStarted | Partial | Final | Overload | AudioDropped | Marked


@dataclass(frozen=True, slots=True)
class Transcript:
    """A recognised recording.

    Attributes:
        utterances: its finals that hold words, in order.
        duration_s: length of the audio.
    """

    utterances: tuple[Final, ...]
    duration_s: float

    @property
    def text(self) -> str:
        return " ".join(final.text for final in self.utterances)

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for final in self.utterances for word in final.words)

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "duration": round(self.duration_s, 3),
            "utterances": [final.to_json() for final in self.utterances],
        }
