"""The messages of ``POST /v1/audio/transcriptions``: form fields, response bodies and server-sent events."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stream_asr.events import Final, Word, strip_punctuation
from stream_asr.server.protocols.json_messages import BOOLEANS, dump_message
from stream_asr.server.protocols.openai.common_codec import RequestError
from stream_asr.subtitles import format_srt, format_vtt

RESPONSE_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
_STREAMING_FORMATS = ("json", "text")
_GRANULARITIES = ("word", "segment")
_MIN_CONFIDENCE = 1e-5
"""Lower bound for the logarithm of a confidence, which may be 0."""


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """Parameters of a request that have an effect.

    Attributes:
        response_format: one of `RESPONSE_FORMATS`.
        language: language, for the response only; the model determines what is recognized.
        granularities: units with times in ``verbose_json``: ``word``, ``segment`` or both.
        stream: send the text as server-sent events while it is recognized.
    """

    response_format: str = "json"
    language: str | None = None
    granularities: tuple[str, ...] = ("segment",)
    stream: bool = False


def decode(fields: Iterable[tuple[str, str]]) -> TranscriptionRequest:
    """Decode the fields of a form, in any order. Fields without an effect are ignored.

    Raises:
        RequestError: a value is not accepted. The error names the accepted values.
    """
    pairs = list(fields)
    values = dict(pairs)
    response_format = _check_choice("response_format", values.get("response_format", "json"), RESPONSE_FORMATS)
    stream = BOOLEANS[_check_choice("stream", values.get("stream", "false").lower(), BOOLEANS)]
    if stream:
        _check_choice("response_format", response_format, _STREAMING_FORMATS, " with stream")
    granularities = tuple(
        _check_choice("timestamp_granularities", value, _GRANULARITIES)
        for name, value in pairs
        if name in ("timestamp_granularities[]", "timestamp_granularities")
    )
    if granularities and response_format != "verbose_json":
        raise RequestError(
            "invalid_value",
            f"timestamp_granularities requires response_format verbose_json, not {response_format}",
            param="timestamp_granularities",
        )
    return TranscriptionRequest(response_format, values.get("language") or None, granularities or ("segment",), stream)


def _check_choice(name: str, value: str, accepted: Iterable[str], condition: str = "") -> str:
    if value not in accepted:
        message = f"{name} is {value[:40]!r}; accepted{condition}: {', '.join(accepted)}"
        raise RequestError("invalid_value", message, param=name)
    return value


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """Body of a response.

    Attributes:
        text: the content.
        media_type: its media type.
    """

    text: str
    media_type: str


def encode_response(request: TranscriptionRequest, finals: Sequence[Final], duration_s: float) -> ResponseBody:
    """Encode a whole transcript.

    Args:
        request: parameters of the request.
        finals: the finals that contain words, in order.
        duration_s: duration of the audio.
    """
    text = " ".join(final.text for final in finals)
    if request.response_format == "text":
        return ResponseBody(f"{text}\n", "text/plain")
    if request.response_format == "srt":
        return ResponseBody(format_srt(finals), "text/plain")
    if request.response_format == "vtt":
        return ResponseBody(format_vtt(finals), "text/plain")
    usage = {"type": "duration", "seconds": math.ceil(duration_s)}
    if request.response_format == "json":
        return ResponseBody(dump_message({"text": text, "usage": usage}), "application/json")
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": request.language or "unknown",
        "duration": round(duration_s, 3),
        "text": text,
    }
    if "word" in request.granularities:
        content["words"] = [_word_object(word) for final in finals for word in final.words if word.bare]
    if "segment" in request.granularities:
        content["segments"] = [_segment_object(number, final) for number, final in enumerate(finals)]
    return ResponseBody(dump_message({**content, "usage": usage}, ascii_only=True), "application/json")


def _word_object(word: Word) -> dict[str, Any]:
    """Build a word. As OpenAI writes them, words have capitals and no punctuation."""
    return {"word": strip_punctuation(word.word), "start": round(word.start, 3), "end": round(word.end, 3)}


def _segment_object(number: int, final: Final) -> dict[str, Any]:
    """Build a segment from an utterance.

    Clients discard segments by their statistics. Values that this server does not have are set to harmless ones.
    """
    encoded_text = final.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": round(final.start, 3),
        "end": round(final.end, 3),
        "text": final.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(math.log(max(final.confidence, _MIN_CONFIDENCE)), 3),
        "compression_ratio": round(len(encoded_text) / len(zlib.compress(encoded_text)), 3),
        "no_speech_prob": 0.0,
    }


def encode_delta(delta: str) -> str:
    """Encode new text as a server-sent event."""
    return _server_sent_event({"type": "transcript.text.delta", "delta": delta})


def encode_done(text: str) -> str:
    """Encode the whole transcript as the last server-sent event."""
    return _server_sent_event({"type": "transcript.text.done", "text": text})


def encode_error(error: dict[str, Any]) -> str:
    """Encode an error object as the last server-sent event."""
    return _server_sent_event({"error": error})


def _server_sent_event(data: dict[str, Any]) -> str:
    return f"data: {dump_message(data)}\n\n"
