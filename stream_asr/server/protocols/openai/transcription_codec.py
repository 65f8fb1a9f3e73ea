"""OpenAI's ``POST /v1/audio/transcriptions``: form fields in, response bodies and server-sent events out."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stream_asr.events import Final, Word
from stream_asr.server.protocols.json_messages import BOOLEANS, dump
from stream_asr.server.protocols.openai.common_codec import RequestError
from stream_asr.subtitles import srt, vtt

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
_STREAMED_FORMATS = ("json", "text")
_GRANULARITIES = ("word", "segment")
_LEAST_CONFIDENCE = 1e-5
"""For the logarithm: a segment may have none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for.

    Attributes:
        language: as the client names it; it changes nothing, the model knows its own.
        granularities: times in ``verbose_json``: of words, segments or both.
        stream: tell the text as it is recognised.
    """

    response_format: str = "json"
    language: str | None = None
    granularities: tuple[str, ...] = ("segment",)
    stream: bool = False


def decode(fields: Iterable[tuple[str, str]]) -> Wanted:
    """Read the form's fields, in any order; those that could change nothing here are ignored.

    Raises:
        RequestError: a value is not accepted; says which ones are.
    """
    pairs = list(fields)
    given = dict(pairs)
    response_format = _one_of("response_format", given.get("response_format", "json"), FORMATS)
    stream = BOOLEANS[_one_of("stream", given.get("stream", "false").lower(), BOOLEANS)]
    if stream:
        _one_of("response_format", response_format, _STREAMED_FORMATS, " with stream")
    granularities = tuple(
        _one_of("timestamp_granularities", value, _GRANULARITIES)
        for name, value in pairs
        if name in ("timestamp_granularities[]", "timestamp_granularities")
    )
    if granularities and response_format != "verbose_json":
        raise RequestError(
            "invalid_value",
            f"timestamp_granularities go with response_format verbose_json, which here is {response_format}",
            param="timestamp_granularities",
        )
    return Wanted(response_format, given.get("language") or None, granularities or ("segment",), stream)


def _one_of(name: str, value: str, accepted: Iterable[str], circumstance: str = "") -> str:
    if value not in accepted:
        raise RequestError(
            "invalid_value", f"{name} is {value[:40]!r}; accepted{circumstance} are {', '.join(accepted)}", param=name
        )
    return value


@dataclass(frozen=True, slots=True)
class Body:
    """Of a response."""

    text: str
    media_type: str


def encode(wanted: Wanted, finals: Sequence[Final], duration_s: float) -> Body:
    """The whole answer.

    Args:
        finals: those that hold words, in order.
        duration_s: of the audio.
    """
    text = " ".join(final.text for final in finals)
    plain = {"text": lambda: f"{text}\n", "srt": lambda: srt(finals), "vtt": lambda: vtt(finals)}
    if made := plain.get(wanted.response_format):
        return Body(made(), "text/plain")
    answer: dict[str, Any] = {"text": text}
    if wanted.response_format == "verbose_json":
        answer = {
            "task": "transcribe",
            "language": wanted.language or "unknown",
            "duration": round(duration_s, 3),
            **answer,
        }
        if "word" in wanted.granularities:
            answer["words"] = [_word(word) for final in finals for word in final.words]
        if "segment" in wanted.granularities:
            answer["segments"] = [_segment(number, final) for number, final in enumerate(finals)]
    answer["usage"] = {"type": "duration", "seconds": math.ceil(duration_s)}
    return Body(dump(answer, ascii_only="language" in answer), "application/json")


def _word(word: Word) -> dict[str, Any]:
    return {"word": word.word, "start": round(word.start, 3), "end": round(word.end, 3)}


def _segment(number: int, final: Final) -> dict[str, Any]:
    """An utterance. Clients drop segments whose numbers look bad, so each number is what it says, or harmless."""
    octets = final.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": round(final.start, 3),
        "end": round(final.end, 3),
        "text": final.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(math.log(max(final.confidence, _LEAST_CONFIDENCE)), 3),
        "compression_ratio": round(len(octets) / len(zlib.compress(octets)), 3),
        "no_speech_prob": 0.0,
    }


def encode_delta(piece: str) -> str:
    """A server-sent event: the transcript goes on with ``piece``."""
    return _event({"type": "transcript.text.delta", "delta": piece})


def encode_done(text: str) -> str:
    """The last server-sent event, with the whole transcript."""
    return _event({"type": "transcript.text.done", "text": text})


def encode_failure(error: dict[str, Any]) -> str:
    """The last server-sent event of a transcript that breaks off."""
    return _event({"error": error})


def _event(data: dict[str, Any]) -> str:
    return f"data: {dump(data)}\n\n"
