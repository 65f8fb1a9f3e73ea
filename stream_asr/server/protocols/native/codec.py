"""The messages of the native protocol: JSON to frozen dataclasses, and dataclasses and events to JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, TypeAlias

from stream_asr.audio.pcm import ENCODINGS
from stream_asr.events import Final
from stream_asr.server.protocols.json_messages import dump_message, format_value, load_message, reject_message
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent
from stream_asr.server.settings import NATIVE_MAX_PING_ID_CHARACTERS

# --- client to server -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Opens a session. Binary messages with audio in this format follow.

    Attributes:
        sample_rate: sample rate in Hz.
        encoding: sample encoding, a key of `ENCODINGS`.
        channels: number of interleaved channels.
        partials: send partials.
        words: include the words of finals, with their times.
        endpoint_ms: silence that ends an utterance; None for the server's default.
        hotwords: words and phrases to prefer, with their weights; None for those of the server.
    """

    type: ClassVar[str] = "start"
    sample_rate: int
    encoding: str = "pcm_s16le"
    channels: int = 1
    partials: bool = True
    words: bool = True
    endpoint_ms: int | None = None
    hotwords: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Resumes a session after a lost connection.

    Attributes:
        session: the session key from `Ready`.
        events: number of events that arrived on all connections of the session; None for all that were sent.
    """

    type: ClassVar[str] = "resume"
    session: str
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Flush:
    """Requests a final of all audio so far."""

    type: ClassVar[str] = "flush"


@dataclass(frozen=True, slots=True)
class Ping:
    """Requests a ``pong`` once all earlier audio has been recognized."""

    type: ClassVar[str] = "ping"
    id: str | int


@dataclass(frozen=True, slots=True)
class Finish:
    """Marks the end of the audio."""

    type: ClassVar[str] = "finish"


ClientMessage: TypeAlias = Start | Resume | Flush | Ping | Finish

_MESSAGE_CLASSES: dict[str, type[ClientMessage]] = {
    message_class.type: message_class for message_class in (Start, Resume, Flush, Ping, Finish)
}

_KEY_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "sample_rate": ((int,), "an integer"),
    "encoding": ((str,), "a string"),
    "channels": ((int,), "an integer"),
    "partials": ((bool,), "true or false"),
    "words": ((bool,), "true or false"),
    "endpoint_ms": ((int,), "an integer"),
    "hotwords": ((list, dict), "a list of strings, or an object with a weight for each phrase"),
    "session": ((str,), "a string"),
    "events": ((int,), "an integer"),
    "id": ((str, int), "a string or an integer"),
}
"""The accepted types of each key, and their description for error texts."""


def decode(text: str) -> ClientMessage:
    """Decode a client's text message.

    Raises:
        SessionError: the text is not a message of this protocol. The error names the fault and what is accepted.
    """
    values = load_message(text)
    message_type = values.pop("type", None)
    message_class = _MESSAGE_CLASSES.get(message_type) if isinstance(message_type, str) else None
    if message_class is None:
        reject_message(f"unknown type {format_value(message_type)}; accepted: {', '.join(_MESSAGE_CLASSES)}")
    accepted = {field.name: field for field in fields(message_class)}
    for key, value in values.items():
        if key not in accepted:
            keys = ", ".join(("type", *accepted))
            reject_message(f"unknown key {format_value(key)} in {message_type}; accepted: {keys}")
        types, description = _KEY_TYPES[key]
        if type(value) not in types:  # not isinstance: bool is a subclass of int
            reject_message(f"{key} is {format_value(value)}; it must be {description}")
    for name, field in accepted.items():
        if field.default is MISSING and name not in values:
            reject_message(f"{message_type} requires {name}, {_KEY_TYPES[name][1]}")
    if "hotwords" in values:
        values["hotwords"] = _parse_hotwords(values["hotwords"])
    message = message_class(**values)
    _check_values(message)
    return message


def _parse_hotwords(value: list[Any] | dict[str, Any]) -> dict[str, float]:
    if isinstance(value, list):
        for phrase in value:
            if not isinstance(phrase, str):
                reject_message(f"hotwords contains {format_value(phrase)}; a hotword must be a string")
        return dict.fromkeys(value, 1.0)
    weights = {}
    for phrase, weight in value.items():
        try:
            weights[phrase] = float(weight) if type(weight) in (int, float) else math.nan
        except OverflowError:
            weights[phrase] = math.nan
        if math.isnan(weights[phrase]):
            reject_message(f"the weight of {format_value(phrase)} is {format_value(weight)}; it must be a number")
    return weights


def _check_values(message: ClientMessage) -> None:
    if isinstance(message, Start) and message.encoding not in ENCODINGS:
        reject_message(f"unknown encoding {format_value(message.encoding)}; accepted: {', '.join(ENCODINGS)}")
    if isinstance(message, Resume) and message.events is not None and message.events < 0:
        reject_message(f"events is {format_value(message.events)}; it must not be negative")
    if isinstance(message, Ping) and len(str(message.id)) > NATIVE_MAX_PING_ID_CHARACTERS:
        length = len(str(message.id))
        reject_message(
            f"the id of a ping has {length} characters; at most {NATIVE_MAX_PING_ID_CHARACTERS} are accepted"
        )


# --- server to client -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """Accepts a `Start` or `Resume`; the first message.

    Attributes:
        session: session key for `Resume`.
        model: name of the model.
        sample_rate: sample rate of the recognizer in Hz. Event times are multiples of its sample period.
        second_pass: name of the second pass; None for none.
        received: after `Resume` only: samples of the client's audio that the server has, at the client's rate.
        events: after `Resume` only: number of events before the next one that the server will send.
    """

    type: ClassVar[str] = "ready"
    session: str
    model: str
    sample_rate: int
    second_pass: str | None = None
    received: int | None = None
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """Acknowledges audio: these samples need not be sent again after a lost connection.

    Attributes:
        received: samples per channel, at the client's rate.
    """

    type: ClassVar[str] = "ack"
    received: int


@dataclass(frozen=True, slots=True)
class Done:
    """Ends a complete session; a normal close follows.

    Attributes:
        received: samples per channel, at the client's rate.
        seconds: duration of the audio.
        trailing_bytes: bytes of an incomplete sample at the end of the audio; None if there are none.
    """

    type: ClassVar[str] = "done"
    received: int
    seconds: float
    trailing_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """Reports an error; an abnormal close follows.

    Attributes:
        code: stable error code, for programs.
        message: description, for people.
    """

    type: ClassVar[str] = "error"
    code: str
    message: str


ServerMessage: TypeAlias = Ready | Ack | Done | Error


def encode(message: ServerMessage) -> str:
    """Encode a message as JSON, without attributes that are None."""
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    return dump_message({"type": message.type, **{name: value for name, value in values.items() if value is not None}})


def encode_event(event: SessionEvent, *, words: bool) -> str:
    """Encode an event as JSON.

    Args:
        event: the event.
        words: include the words of finals.
    """
    if isinstance(event, MarkReached):
        return dump_message({"type": "pong", "id": event.tag}, ascii_only=True)
    message = event.to_json()
    if isinstance(event, Final) and not words:
        del message["words"]
    return dump_message(message)
