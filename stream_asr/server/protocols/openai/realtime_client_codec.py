"""What clients of the Realtime API send: events of transcription sessions to frozen dataclasses.

The API has two versions. Its beta version has ``transcription_session.update`` with flat settings, the current
version has ``session.update`` with nested settings.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.json_messages import format_value, load_message
from stream_asr.server.protocols.openai.common_codec import RequestError
from stream_asr.server.settings import REALTIME_MAX_TEXT_CHARACTERS

_TRANSCRIPTION_KEYS = ("model", "language", "prompt")


@dataclass(frozen=True, slots=True)
class InputFormat:
    """An audio format.

    Attributes:
        encoding: this package's name of the encoding.
        sample_rate: sample rate in Hz.
        beta_name: name in the beta version of the API.
        name: name in the current version.
    """

    encoding: str
    sample_rate: int
    beta_name: str
    name: str


INPUT_FORMATS = (
    InputFormat("pcm_s16le", 24_000, "pcm16", "audio/pcm"),
    InputFormat("mulaw", 8_000, "g711_ulaw", "audio/pcmu"),
    InputFormat("alaw", 8_000, "g711_alaw", "audio/pcma"),
)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Settings of a session that a client can change.

    Attributes:
        format: format of the audio.
        turn_detection: whether pauses end items; otherwise only commits end them.
        transcription: model, language and prompt as the client sent them, to be echoed. They have no effect.
        endpoint_ms: silence that ends an utterance; None for the server's default.
    """

    format: InputFormat = INPUT_FORMATS[0]
    turn_detection: bool = True
    transcription: dict[str, str] = field(default_factory=dict)
    endpoint_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SessionUpdate:
    """Changes settings. The attributes are those of `SessionSettings`; None leaves a setting unchanged.

    Attributes:
        beta: whether the event has the form of the beta version.
    """

    beta: bool
    format: InputFormat | None = None
    turn_detection: bool | None = None
    transcription: dict[str, str] | None = None
    endpoint_ms: int | None = None

    def apply(self, settings: SessionSettings) -> SessionSettings:
        """Return changed settings."""
        return replace(
            settings,
            format=self.format or settings.format,
            turn_detection=settings.turn_detection if self.turn_detection is None else self.turn_detection,
            transcription={**settings.transcription, **(self.transcription or {})},
            endpoint_ms=settings.endpoint_ms if self.endpoint_ms is None else self.endpoint_ms,
        )


@dataclass(frozen=True, slots=True)
class Append:
    """Adds audio.

    Attributes:
        audio: bytes in the session's format; may end inside a sample.
    """

    audio: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """Ends the current item."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Discards the audio since the last item."""


ClientEvent: TypeAlias = SessionUpdate | Append | Commit | Clear

_EVENT_TYPES = (
    "session.update",
    "transcription_session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
)


class EventError(RequestError):
    """An invalid event of a client; the session continues.

    Attributes:
        event_id: the client's id of the event, if it has one.
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, event_id: str | None = None) -> None:
        super().__init__(code, message, param=param)
        self.event_id = event_id


def decode(message: str | bytes) -> ClientEvent:
    """Decode a client's message.

    Raises:
        EventError: the message is not an event of a transcription session. The error names the fault and what is
            accepted.
    """
    if isinstance(message, bytes):
        raise EventError("invalid_event", "binary message; send audio as base64 in input_audio_buffer.append")
    try:
        event = load_message(message)
    except SessionError as error:
        raise EventError(error.code, error.message) from None
    try:
        return _decode_event(event)
    except EventError as error:
        event_id = event.get("event_id")
        error.event_id = event_id if isinstance(event_id, str) else None
        raise


def _decode_event(event: dict[str, Any]) -> ClientEvent:
    event_type = event.get("type")
    if event_type == "input_audio_buffer.append":
        return Append(_decode_audio(event.get("audio")))
    if event_type == "input_audio_buffer.commit":
        return Commit()
    if event_type == "input_audio_buffer.clear":
        return Clear()
    if event_type == "session.update":
        return _decode_update(_get_object(event, "session", "session"))
    if event_type == "transcription_session.update":
        return _decode_beta_update(_get_object(event, "session", "session"))
    raise EventError(
        "invalid_value",
        f"type is {format_value(event_type)}; this server has transcription sessions only; "
        f"accepted: {', '.join(_EVENT_TYPES)}",
        param="type",
    )


def _decode_audio(audio: object) -> bytes:
    if not isinstance(audio, str):
        message = f"audio is {format_value(audio)}; it must be a base64 string"
        raise EventError("invalid_type", message, param="audio")
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EventError("invalid_value", f"audio is not base64: {error}", param="audio") from None


def _decode_update(session: dict[str, Any]) -> SessionUpdate:
    """Decode the settings of ``session.update``."""
    if session.get("type", "transcription") != "transcription":
        message = f"type is {format_value(session['type'])}; this server has sessions of type transcription only"
        raise EventError("invalid_value", message, param="session.type")
    audio = _get_object(session, "audio", "session.audio")
    settings = _get_object(audio, "input", "session.audio.input")
    update = _decode_common_settings(settings, "session.audio.input", "transcription", beta=False)
    if settings.get("format") is None:
        return update
    format_object = _get_object(settings, "format", "session.audio.input.format")
    names = [input_format.name for input_format in INPUT_FORMATS]
    input_format = _find_format(names, format_object.get("type"), "session.audio.input.format.type")
    rate = format_object.get("rate", input_format.sample_rate)
    if rate != input_format.sample_rate:
        message = f"rate is {format_value(rate)}; {input_format.name} requires {input_format.sample_rate}"
        raise EventError("invalid_value", message, param="session.audio.input.format.rate")
    return replace(update, format=input_format)


def _decode_beta_update(session: dict[str, Any]) -> SessionUpdate:
    """Decode the settings of ``transcription_session.update``."""
    update = _decode_common_settings(session, "session", "input_audio_transcription", beta=True)
    if (name := session.get("input_audio_format")) is None:
        return update
    names = [input_format.beta_name for input_format in INPUT_FORMATS]
    return replace(update, format=_find_format(names, name, "session.input_audio_format"))


def _find_format(names: list[str], name: object, param: str) -> InputFormat:
    if name not in names:
        key = param.rpartition(".")[2]
        message = f"{key} is {format_value(name)}; accepted: {', '.join(names)}"
        raise EventError("invalid_value", message, param=param)
    return INPUT_FORMATS[names.index(str(name))]


def _decode_common_settings(
    settings: dict[str, Any], path: str, transcription_key: str, *, beta: bool
) -> SessionUpdate:
    """Decode the settings that both versions have. Unknown keys are ignored: the API often gets new ones."""
    turn_detection = settings["turn_detection"] is not None if "turn_detection" in settings else None
    detection = _get_object(settings, "turn_detection", f"{path}.turn_detection")
    detection_type = detection.get("type", "server_vad")
    if detection_type != "server_vad":
        raise EventError(
            "invalid_value",
            f"turn_detection has type {format_value(detection_type)}; accepted: server_vad, or turn_detection null",
            param=f"{path}.turn_detection.type",
        )
    silence_ms = detection.get("silence_duration_ms")
    if silence_ms is not None and type(silence_ms) is not int:  # not isinstance: bool is a subclass of int
        raise EventError(
            "invalid_type",
            f"silence_duration_ms is {format_value(silence_ms)}; it must be an integer",
            param=f"{path}.turn_detection.silence_duration_ms",
        )
    transcription_path = f"{path}.{transcription_key}"
    values = _get_object(settings, transcription_key, transcription_path)
    transcription = {key: _get_text(values, key, transcription_path) for key in _TRANSCRIPTION_KEYS if key in values}
    return SessionUpdate(beta, turn_detection=turn_detection, transcription=transcription, endpoint_ms=silence_ms)


def _get_text(parent: dict[str, Any], key: str, path: str) -> str:
    """Return a string in ``parent``; an empty one for null."""
    value = parent[key]
    if value is None:
        return ""
    if not isinstance(value, str):
        message = f"{key} is {format_value(value)}; it must be a string"
        raise EventError("invalid_type", message, param=f"{path}.{key}")
    if len(value) > REALTIME_MAX_TEXT_CHARACTERS:
        message = f"{key} has {len(value)} characters; at most {REALTIME_MAX_TEXT_CHARACTERS} are accepted"
        raise EventError("invalid_value", message, param=f"{path}.{key}")
    return value


def _get_object(parent: dict[str, Any], key: str, path: str) -> dict[str, Any]:
    """Return an object in ``parent``; an empty one if it is missing or null."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EventError("invalid_type", f"{key} is {format_value(value)}; it must be an object", param=path)
    return value
