"""The native protocol of ``/v1/stream``: JSON messages to frozen dataclasses and back."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import ClassVar, TypeAlias

from stream_asr.audio.pcm import ENCODINGS
from stream_asr.events import Final
from stream_asr.server.protocols.json_messages import dump, load, refuse, shown
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent

MAX_TAG_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Start:
    """Begins a session; binary messages with audio in this format follow.

    Attributes:
        sample_rate: in Hz.
        channels: interleaved.
        partials: send partial captions.
        words: send the words of finals, with their times.
        endpoint_ms: the silence that ends an utterance; None for the server's.
    """

    type: ClassVar[str] = "start"
    sample_rate: int
    encoding: str = "pcm_s16le"
    channels: int = 1
    partials: bool = True
    words: bool = True
    endpoint_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Goes on with a session whose connection was lost.

    Attributes:
        events: how many of the session's events have arrived, on all its connections; None for all that were sent.
    """

    type: ClassVar[str] = "resume"
    session: str
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Flush:
    """Asks for a final of all audio so far."""

    type: ClassVar[str] = "flush"


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a `pong` once all audio before it has been recognised."""

    type: ClassVar[str] = "ping"
    id: str | int


@dataclass(frozen=True, slots=True)
class Finish:
    """There is no more audio."""

    type: ClassVar[str] = "finish"


ClientMessage: TypeAlias = Start | Resume | Flush | Ping | Finish

_MESSAGES: dict[str, type[ClientMessage]] = {kind.type: kind for kind in (Start, Resume, Flush, Ping, Finish)}

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "sample_rate": ((int,), "an integer"),
    "encoding": ((str,), "a string"),
    "channels": ((int,), "an integer"),
    "partials": ((bool,), "true or false"),
    "words": ((bool,), "true or false"),
    "endpoint_ms": ((int,), "an integer"),
    "session": ((str,), "a string"),
    "events": ((int,), "an integer"),
    "id": ((str, int), "a string or an integer"),
}


def decode(text: str) -> ClientMessage:
    """Read a client's text message.

    Raises:
        SessionError: it is no message of this protocol; says what was wrong and what is accepted.
    """
    message = load(text)
    kind = message.pop("type", None)
    made = _MESSAGES.get(kind) if isinstance(kind, str) else None
    if made is None:
        refuse(f"type {shown(kind)}; accepted are {', '.join(_MESSAGES)}")
    accepted = {field.name: field for field in fields(made)}
    for key, value in message.items():
        if key not in accepted:
            refuse(f"unknown key {shown(key)} in {kind}; accepted are {', '.join(('type', *accepted))}")
        types, wanted = _TYPES[key]
        if type(value) not in types:  # not isinstance: true is no sample rate
            refuse(f"{key} is {shown(value)}; it takes {wanted}")
    for name, field in accepted.items():
        if field.default is MISSING and name not in message:
            refuse(f"{kind} lacks {name}, {_TYPES[name][1]}")
    decoded = made(**message)
    _check(decoded)
    return decoded


def _check(message: ClientMessage) -> None:
    if isinstance(message, Start) and message.encoding not in ENCODINGS:
        refuse(f"encoding {shown(message.encoding)}; accepted are {', '.join(ENCODINGS)}")
    if isinstance(message, Resume) and message.events is not None and message.events < 0:
        refuse(f"events is {shown(message.events)}; it cannot be negative")
    if isinstance(message, Ping) and len(str(message.id)) > MAX_TAG_CHARACTERS:
        refuse(f"the id of a ping has {len(str(message.id))} characters; {MAX_TAG_CHARACTERS} are accepted")


# --- server to client -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The first answer.

    Attributes:
        sample_rate: of the recognizer; times of events are multiples of its samples.
        received, events: after `Resume` only: samples of the client's audio that the server has, and how many
            events came before the next one that it will send.
    """

    type: ClassVar[str] = "ready"
    session: str
    model: str
    sample_rate: int
    received: int | None = None
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """The server has so many samples (of every channel, at the client's rate); they need not be sent again."""

    type: ClassVar[str] = "ack"
    received: int


@dataclass(frozen=True, slots=True)
class Done:
    """All was recognised and sent; a normal close follows.

    Attributes:
        seconds: of audio.
        trailing_bytes: at the end of the audio that make up no sample of every channel, if there were any.
    """

    type: ClassVar[str] = "done"
    received: int
    seconds: float
    trailing_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """What was wrong; a close with a code that is not 1000 follows."""

    type: ClassVar[str] = "error"
    code: str
    message: str


ServerMessage: TypeAlias = Ready | Ack | Done | Error


def encode(message: ServerMessage) -> str:
    """As JSON; what is None is left out."""
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    return dump({"type": message.type, **{name: value for name, value in values.items() if value is not None}})


def encode_event(event: SessionEvent, *, words: bool) -> str:
    """An event as JSON, a final without its ``words`` if they are not wanted."""
    if isinstance(event, MarkReached):
        return dump({"type": "pong", "id": event.tag}, ascii_only=True)
    message = event.to_json()
    if isinstance(event, Final) and not words:
        del message["words"]
    return dump(message)
