"""What comes of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stream_asr.events import Final, Word


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
