"""Deepgram's listening interface: query parameters, text messages of clients, and refusals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.json_messages import BOOLEANS, dump, load, refuse, shown
from stream_asr.server.sessions.request import AudioFormat

_ENCODINGS = {"linear16": "pcm_s16le", "linear32": "pcm_f32le", "mulaw": "mulaw", "alaw": "alaw"}
_CANNOT = {
    "callback": "results are sent to nobody but the client",
    "redact": "nothing would be redacted",
    "multichannel": "channels are mixed",
}
"""Parameters that would leave a client with something else than it relies on."""

_ERR_CODES = {400: "Bad Request", 401: "INVALID_AUTH"}


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters that mean something here.

    Attributes:
        raw: the format of raw audio; None in front of a file format, which says it itself.
        interim_results: tell text that may still change.
        endpointing: mark the ends of utterances with ``speech_final``.
        endpoint_ms: the silence that ends one, as the client has it; None for the server's.
        utterance_end_ms: tell when no word has followed the last one for so long; None for never.
        vad_events: tell when speech starts.
        formatted: the client expects words in a punctuated form as well.
        utterances: in the answer for a recording.
    """

    raw: AudioFormat | None = None
    interim_results: bool = False
    endpointing: bool = True
    endpoint_ms: int | None = None
    utterance_end_ms: int | None = None
    vad_events: bool = False
    formatted: bool = False
    utterances: bool = False


def parse(pairs: Iterable[tuple[str, str]], *, live: bool) -> Query:
    """Read the query of a URL; parameters that would change nothing are ignored.

    Args:
        live: the audio comes as a stream.

    Raises:
        SessionError: a value is wrong, or what it asks for is impossible.
    """
    given = dict(pairs)
    for name, reason in _CANNOT.items():
        if given.get(name, "false").lower() not in ("false", "0", ""):
            raise _bad_query(f"{name} is not supported: {reason}")
    encoding, sample_rate = given.get("encoding"), _whole(given, "sample_rate")
    if encoding is not None and encoding not in _ENCODINGS:
        raise _bad_query(f"encoding {encoding[:40]!r} is not supported; accepted are {', '.join(_ENCODINGS)}")
    if live and (encoding is None) != (sample_rate is None):
        raise _bad_query(
            f"raw audio needs encoding and sample_rate; accepted are {', '.join(_ENCODINGS)}; containers need neither"
        )
    endpointing = given.get("endpointing", "true").lower()
    if endpointing not in ("true", "false") and not _is_number(endpointing):
        raise _bad_query(f"endpointing is {endpointing[:40]!r}; it takes false, or a number of milliseconds")
    raw = None
    if encoding is not None and sample_rate is not None:
        raw = AudioFormat(sample_rate, _ENCODINGS[encoding], _whole(given, "channels") or 1)
    return Query(
        raw=raw,
        interim_results=_flag(given, "interim_results"),
        endpointing=endpointing != "false",
        endpoint_ms=int(endpointing) if _is_number(endpointing) else None,
        utterance_end_ms=_whole(given, "utterance_end_ms"),
        vad_events=_flag(given, "vad_events"),
        formatted=_flag(given, "punctuate") or _flag(given, "smart_format"),
        utterances=_flag(given, "utterances"),
    )


def _flag(given: dict[str, str], name: str) -> bool:
    value = given.get(name, "false").lower()
    if value not in BOOLEANS:
        raise _bad_query(f"{name} is {value[:40]!r}; it takes true or false")
    return BOOLEANS[value]


def _whole(given: dict[str, str], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not _is_number(value) or int(value) == 0:
        raise _bad_query(f"{name} is {value[:40]!r}; it takes a whole number above 0")
    return int(value)


def _is_number(value: str) -> bool:
    """Longer ones mean nothing, and Python refuses to read very long ones."""
    return value.isascii() and value.isdecimal() and len(value) <= 9


def _bad_query(reason: str) -> SessionError:
    return SessionError("bad_query", reason)


class Control(Enum):
    """The ``type`` of a client's text messages."""

    KEEP_ALIVE = "KeepAlive"
    FINALIZE = "Finalize"
    CLOSE_STREAM = "CloseStream"
    CONFIGURE = "Configure"


def decode(text: str) -> Control:
    """Read a client's text message.

    Raises:
        SessionError: it is no message of this protocol; says what was wrong and what is accepted.
    """
    kind = load(text).get("type")
    try:
        return Control(kind)
    except ValueError:
        refuse(f"type {shown(kind)}; accepted are {', '.join(control.value for control in Control)}")


def encode_error(error: SessionError) -> str:
    """A live message; a close follows."""
    return dump({"type": "Error", "variant": error.code, "description": error.message, "message": error.message})


def error_body(status: int, code: str, message: str, request_id: str) -> dict[str, str]:
    """Of a response with an HTTP ``status`` that is no success."""
    return {"err_code": _ERR_CODES.get(status, code), "err_msg": message, "request_id": request_id}
