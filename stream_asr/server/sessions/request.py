"""What a client asks for when it starts a session, in terms that all protocols share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stream_asr.audio.pcm import ENCODINGS


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Format of a client's audio. The values are validated when the stream is opened.

    Attributes:
        sample_rate: in Hz.
        encoding: name in `ENCODINGS`.
        channels: number of interleaved channels.
    """

    sample_rate: int
    encoding: str = "pcm_s16le"
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return ENCODINGS[self.encoding][0] * self.channels


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """Request for a session.

    Attributes:
        protocol: name of the protocol, for logs and metrics.
        audio_format: format of the client's audio.
        partials: whether to produce partials.
        words: whether the client wants the words of finals. Used by the protocol's codec only.
        endpoint_ms: silence that ends an utterance; None for the recognizer's setting.
        hotwords: words and phrases to prefer, with their weights; None for those of the recognizer.
    """

    protocol: str
    audio_format: AudioFormat
    partials: bool = True
    words: bool = True
    endpoint_ms: int | None = None
    hotwords: Mapping[str, float] | None = None
