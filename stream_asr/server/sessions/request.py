"""What a client asks for, whatever its protocol."""

from __future__ import annotations

from dataclasses import dataclass

from stream_asr.audio.pcm import ENCODINGS


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a client sends; the values are checked where the stream is opened."""

    sample_rate: int
    encoding: str = "pcm_s16le"
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return ENCODINGS[self.encoding][0] * self.channels


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a client asks for.

    Attributes:
        protocol: its name, for the log.
        audio: what will come.
        partials: whether any are wanted.
        words: whether finals are wanted with their words; for the protocol's own use.
        endpoint_ms: the silence that ends an utterance; None for the recognizer's.
    """

    protocol: str
    audio: AudioFormat
    partials: bool = True
    words: bool = True
    endpoint_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SamplesReceived:
    """Not an event: tells how many samples the session has by now."""

    samples: int
