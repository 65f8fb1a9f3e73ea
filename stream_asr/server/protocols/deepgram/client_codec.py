"""What clients of Deepgram send: the parameters of the URL, and text messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from stream_asr.decoding.hotwords import split_weight
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.json_messages import BOOLEANS, format_value, load_message, reject_message
from stream_asr.server.sessions.request import AudioFormat

_ENCODINGS = {"linear16": "pcm_s16le", "linear32": "pcm_f32le", "mulaw": "mulaw", "alaw": "alaw"}
"""Deepgram's names of encodings, and this package's."""

_UNSUPPORTED = {
    "callback": "results are sent to the client only",
    "redact": "this server does not redact text",
    "multichannel": "all channels are mixed",
}
"""Parameters that cannot be ignored, because the client relies on their effect."""

_INTENSIFIER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,9})?|[+-]?\.[0-9]{1,9}")

_MAX_DIGITS = 9
"""Longer numbers are not meaningful, and Python refuses to parse very long ones."""


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of the URL that have an effect.

    Attributes:
        raw_format: format of raw audio; None for a container or file, which declares its format.
        interim_results: send text that may still change.
        endpointing: mark the end of an utterance with ``speech_final``.
        endpoint_ms: silence that ends an utterance, as the client requests it; None for the server's default.
        utterance_end_ms: send ``UtteranceEnd`` after this much silence since the last word; None for never.
        vad_events: send ``SpeechStarted``.
        formatted: write punctuation and capitals, in the transcript and in an additional form of each word.
        utterances: include utterances in the response for a recording.
        hotwords: words and phrases to prefer, with the intensifiers that the client requests, 1 by default; None for
            those of the server.
    """

    raw_format: AudioFormat | None = None
    interim_results: bool = False
    endpointing: bool = True
    endpoint_ms: int | None = None
    utterance_end_ms: int | None = None
    vad_events: bool = False
    formatted: bool = False
    utterances: bool = False
    hotwords: Mapping[str, float] | None = None


def parse_query(pairs: Iterable[tuple[str, str]], *, live: bool) -> Query:
    """Parse the query of a URL. Parameters without an effect on the results are ignored.

    Args:
        pairs: names and values.
        live: whether the audio is streamed over a websocket, rather than uploaded as a recording.

    Raises:
        SessionError: a value is invalid, or the client requests something unsupported.
    """
    pairs = list(pairs)
    values = dict(pairs)
    for name, reason in _UNSUPPORTED.items():
        if values.get(name, "false").lower() not in ("false", "0", ""):
            raise _query_error(f"{name} is not supported: {reason}")
    encoding, sample_rate = values.get("encoding"), _parse_positive_int(values, "sample_rate")
    encodings = ", ".join(_ENCODINGS)
    if encoding is not None and encoding not in _ENCODINGS:
        raise _query_error(f"encoding {encoding[:40]!r} is not supported; accepted: {encodings}")
    if live and (encoding is None) != (sample_rate is None):
        message = "raw audio requires encoding and sample_rate, a container requires neither"
        raise _query_error(f"{message}; accepted encodings: {encodings}")
    endpointing = values.get("endpointing", "true").lower()
    if endpointing not in ("true", "false") and not _is_number(endpointing):
        raise _query_error(f"endpointing is {endpointing[:40]!r}; it must be false or a number of milliseconds")
    raw_format = None
    if encoding is not None and sample_rate is not None:
        raw_format = AudioFormat(sample_rate, _ENCODINGS[encoding], _parse_positive_int(values, "channels") or 1)
    return Query(
        raw_format=raw_format,
        interim_results=_parse_boolean(values, "interim_results"),
        endpointing=endpointing != "false",
        endpoint_ms=int(endpointing) if _is_number(endpointing) else None,
        utterance_end_ms=_parse_positive_int(values, "utterance_end_ms"),
        vad_events=_parse_boolean(values, "vad_events"),
        formatted=_parse_boolean(values, "punctuate") or _parse_boolean(values, "smart_format"),
        utterances=_parse_boolean(values, "utterances"),
        hotwords=_parse_hotwords(pairs),
    )


def _parse_hotwords(pairs: Iterable[tuple[str, str]]) -> dict[str, float] | None:
    """Parse ``keyterm=PHRASE`` and ``keywords=WORD:INTENSIFIER``, both repeatable. Empty values are ignored."""
    hotwords = {}
    for name, value in pairs:
        if name == "keyterm" and value:
            hotwords[value] = 1.0
        elif name == "keywords" and value:
            phrase, intensifier = split_weight(value)
            if not _INTENSIFIER.fullmatch(intensifier):
                raise _query_error(f"keywords is {value[:40]!r}; the intensifier after the colon must be a number")
            if (weight := float(intensifier)) < 0:
                raise _query_error(
                    f"a negative intensifier is not supported: this server does not suppress words; "
                    f"keywords is {value[:40]!r}"
                )
            hotwords[phrase] = weight
    return hotwords or None


def _parse_boolean(values: dict[str, str], name: str) -> bool:
    value = values.get(name, "false").lower()
    if value not in BOOLEANS:
        raise _query_error(f"{name} is {value[:40]!r}; it must be true or false")
    return BOOLEANS[value]


def _parse_positive_int(values: dict[str, str], name: str) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if not _is_number(value) or int(value) == 0:
        raise _query_error(f"{name} is {value[:40]!r}; it must be a whole number above 0")
    return int(value)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS


def _query_error(message: str) -> SessionError:
    return SessionError("bad_query", message)


class Control(Enum):
    """The ``type`` of a client's text messages."""

    KEEP_ALIVE = "KeepAlive"
    FINALIZE = "Finalize"
    CLOSE_STREAM = "CloseStream"
    CONFIGURE = "Configure"


def decode(text: str) -> Control:
    """Decode a client's text message.

    Raises:
        SessionError: the text is not a message of this protocol. The error names the fault and what is accepted.
    """
    message_type = load_message(text).get("type")
    try:
        return Control(message_type)
    except ValueError:
        accepted = ", ".join(control.value for control in Control)
        reject_message(f"unknown type {format_value(message_type)}; accepted: {accepted}")
