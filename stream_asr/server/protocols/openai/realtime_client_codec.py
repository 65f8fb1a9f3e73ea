"""OpenAI's Realtime API, transcription sessions: what clients send, to frozen dataclasses.

It exists in two shapes. The older one (beta) has ``transcription_session.update`` with flat settings, the current one
``session.update`` with nested ones.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.json_messages import load, shown
from stream_asr.server.protocols.openai.common_codec import RequestError

SAMPLE_RATE = 24_000
"""Of ``pcm16``; that of the telephone encodings is 8000."""

MAX_TEXT_CHARACTERS = 4096
"""Of each setting that is kept to be given back."""

_TRANSCRIPTION = ("model", "language", "prompt")


@dataclass(frozen=True, slots=True)
class Format:
    """An audio format by its three names: of this package, of the beta shape and of the current one."""

    encoding: str
    sample_rate: int
    flat: str
    nested: str


FORMATS = (
    Format("pcm_s16le", SAMPLE_RATE, "pcm16", "audio/pcm"),
    Format("mulaw", 8_000, "g711_ulaw", "audio/pcmu"),
    Format("alaw", 8_000, "g711_alaw", "audio/pcma"),
)


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of a session that a client can change.

    Attributes:
        detects_turns: utterances end with the speaker's pauses; else only a commit ends an item.
        transcription: model, language and prompt as the client gave them. They change nothing, and are given back.
        endpoint_ms: the pause that ends an utterance; None for the server's own choice.
    """

    format: Format = FORMATS[0]
    detects_turns: bool = True
    transcription: dict[str, str] = field(default_factory=dict)
    endpoint_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Changes settings; what is None stays as it is.

    Attributes:
        beta: it came in the older shape, so the client understands that one.
    """

    beta: bool
    format: Format | None = None
    detects_turns: bool | None = None
    transcription: dict[str, str] | None = None
    endpoint_ms: int | None = None

    def applied(self, setup: Setup) -> Setup:
        return replace(
            setup,
            format=self.format or setup.format,
            detects_turns=setup.detects_turns if self.detects_turns is None else self.detects_turns,
            transcription={**setup.transcription, **(self.transcription or {})},
            endpoint_ms=setup.endpoint_ms if self.endpoint_ms is None else self.endpoint_ms,
        )


@dataclass(frozen=True, slots=True)
class Append:
    """Audio in the session's format; whole samples or not."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """Ends the current item."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Forgets the audio since the last item."""


ClientEvent: TypeAlias = Update | Append | Commit | Clear

_ACCEPTED = (
    "session.update",
    "transcription_session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
)


class EventError(RequestError):
    """A client's event that cannot be obeyed; the session goes on.

    Attributes:
        event_id: the client's own name of the event, if it gave one.
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, event_id: str | None = None) -> None:
        super().__init__(code, message, param=param)
        self.event_id = event_id


def decode(message: str | bytes) -> ClientEvent:
    """Read a client's message.

    Raises:
        EventError: it is no event of a transcription session; says what was wrong and what is accepted.
    """
    if isinstance(message, bytes):
        raise EventError("invalid_event", "a binary message; audio comes as base64 in input_audio_buffer.append")
    try:
        event = load(message)
    except SessionError as error:
        raise EventError(error.code, error.message) from None
    try:
        return _event(event)
    except EventError as error:
        event_id = event.get("event_id")
        error.event_id = event_id if isinstance(event_id, str) else None
        raise


def _event(event: dict[str, Any]) -> ClientEvent:
    kind = event.get("type")
    if kind == "input_audio_buffer.append":
        return Append(_audio(event.get("audio")))
    if kind == "input_audio_buffer.commit":
        return Commit()
    if kind == "input_audio_buffer.clear":
        return Clear()
    if kind == "session.update":
        return _nested(_object(event, "session", "session"))
    if kind == "transcription_session.update":
        return _flat(_object(event, "session", "session"))
    raise EventError(
        "invalid_value",
        f"type is {shown(kind)}; this server has transcription sessions only, with {', '.join(_ACCEPTED)}",
        param="type",
    )


def _audio(audio: object) -> bytes:
    if not isinstance(audio, str):
        raise EventError("invalid_type", f"audio is {shown(audio)}; it takes a base64 string", param="audio")
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EventError("invalid_value", f"audio is not base64: {error}", param="audio") from None


def _nested(session: dict[str, Any]) -> Update:
    if session.get("type", "transcription") != "transcription":
        raise EventError(
            "invalid_value",
            f"type is {shown(session['type'])}; this server has sessions of type transcription only",
            param="session.type",
        )
    audio = _object(session, "audio", "session.audio")
    settings = _object(audio, "input", "session.audio.input")
    made = _update(settings, "session.audio.input", "transcription", beta=False)
    if settings.get("format") is None:
        return made
    given = _object(settings, "format", "session.audio.input.format")
    found = _format([form.nested for form in FORMATS], given.get("type"), "session.audio.input.format.type")
    rate = given.get("rate", found.sample_rate)
    if rate != found.sample_rate:
        raise EventError(
            "invalid_value",
            f"rate is {shown(rate)}; {found.sample_rate} is accepted for {found.nested}",
            param="session.audio.input.format.rate",
        )
    return replace(made, format=found)


def _flat(session: dict[str, Any]) -> Update:
    made = _update(session, "session", "input_audio_transcription", beta=True)
    if (given := session.get("input_audio_format")) is None:
        return made
    return replace(made, format=_format([form.flat for form in FORMATS], given, "session.input_audio_format"))


def _format(names: list[str], given: object, param: str) -> Format:
    if given not in names:
        name = param.rpartition(".")[2]
        raise EventError("invalid_value", f"{name} is {shown(given)}; accepted are {', '.join(names)}", param=param)
    return FORMATS[names.index(str(given))]


def _update(settings: dict[str, Any], path: str, transcription: str, *, beta: bool) -> Update:
    """What both shapes have under the same names. Keys that are not known here are no errors: new ones come often."""
    detects_turns = settings["turn_detection"] is not None if "turn_detection" in settings else None
    detection = _object(settings, "turn_detection", f"{path}.turn_detection")
    detector = detection.get("type", "server_vad")
    if detector != "server_vad":
        raise EventError(
            "invalid_value",
            f"turn_detection has the type {shown(detector)}; accepted are server_vad, and null in its place",
            param=f"{path}.turn_detection.type",
        )
    silence_ms = detection.get("silence_duration_ms")
    if silence_ms is not None and type(silence_ms) is not int:  # not isinstance: true is no duration
        raise EventError(
            "invalid_type",
            f"silence_duration_ms is {shown(silence_ms)}; it takes an integer",
            param=f"{path}.turn_detection.silence_duration_ms",
        )
    given = _object(settings, transcription, f"{path}.{transcription}")
    kept = {name: _text(given, name, f"{path}.{transcription}") for name in _TRANSCRIPTION if name in given}
    return Update(beta, detects_turns=detects_turns, transcription=kept, endpoint_ms=silence_ms)


def _text(parent: dict[str, Any], key: str, path: str) -> str:
    value = parent[key]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise EventError("invalid_type", f"{key} is {shown(value)}; it takes a string", param=f"{path}.{key}")
    if len(value) > MAX_TEXT_CHARACTERS:
        reason = f"{key} has {len(value)} characters; {MAX_TEXT_CHARACTERS} are accepted"
        raise EventError("invalid_value", reason, param=f"{path}.{key}")
    return value


def _object(parent: dict[str, Any], key: str, path: str) -> dict[str, Any]:
    """An object in ``parent``; an empty one where there is none, or null."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EventError("invalid_type", f"{key} is {shown(value)}; it takes an object", param=path)
    return value
