"""The messages of Vosk's websocket protocol: text messages to options and commands, events to replies.

Vosk's models write words in small letters and no punctuation, and so do the replies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from stream_asr.events import Final, Partial, Word, bare_text
from stream_asr.server.protocols.json_messages import dump_message, format_value, load_message, reject_message
from stream_asr.server.sessions.outbox import SessionEvent
from stream_asr.server.settings import VOSK_MAX_LOGGED_KEYS

_UNKNOWN_WORD = "[unk]"


@dataclass(frozen=True, slots=True)
class Options:
    """Options that a client sets with ``config``.

    Attributes:
        sample_rate: sample rate in Hz. The default is that of Vosk's server: browser clients rely on it.
        words: include the words of results, with their times.
        max_alternatives: if above 0, results have the form for several alternatives, with one entry.
        phrases: words and phrases to prefer, from ``phrase_list``.
        ignored_keys: the first few keys without an effect, for the log.
        ignored_count: number of all keys without an effect, with repetitions.
    """

    sample_rate: int = 8000
    words: bool = True
    max_alternatives: int = 0
    phrases: tuple[str, ...] = ()
    ignored_keys: tuple[str, ...] = ()
    ignored_count: int = 0


class Command(Enum):
    """Text messages other than ``config``."""

    RESET = "reset"
    """End the utterance now and reply with its result."""

    EOF = "eof"
    """Like `RESET`, at the end of the audio."""


def decode(text: str, options: Options) -> Options | Command:
    """Decode a client's text message.

    Args:
        text: the message.
        options: the current options.

    Returns:
        A command, or the options with the changes of a ``config`` message.

    Raises:
        SessionError: the text is not a message of this protocol. The error names the fault and what is accepted.
    """
    message = load_message(text)
    if "config" in message:
        return _apply_config(message["config"], options)
    command = next((command for command in Command if message.get(command.value)), None)
    if command is None:
        accepted = '{"config": {...}}, {"eof": 1}, {"reset": 1}, and binary audio'
        reject_message(f"unknown message {format_value(message)}; accepted: {accepted}")
    return command


def _apply_config(config: object, options: Options) -> Options:
    if not isinstance(config, dict):
        reject_message(f"config is {format_value(config)}; it must be an object")
    for key, value in config.items():
        if key == "sample_rate":
            options = replace(options, sample_rate=_parse_whole_number(key, value))
        elif key == "max_alternatives":
            options = replace(options, max_alternatives=_parse_whole_number(key, value))
        elif key == "words":
            options = replace(options, words=bool(_parse_whole_number(key, value)))
        elif key == "phrase_list":
            options = replace(options, phrases=_parse_phrases(value))
        else:
            options = _note_ignored_key(options, format_value(key))
    return options


def _note_ignored_key(options: Options, key: str) -> Options:
    keys = options.ignored_keys
    if len(keys) < VOSK_MAX_LOGGED_KEYS and key not in keys:
        keys = (*keys, key)
    return replace(options, ignored_keys=keys, ignored_count=options.ignored_count + 1)


def _parse_phrases(value: object) -> tuple[str, ...]:
    """Parse ``phrase_list``. In Vosk, its entry "[unk]" stands for all other words."""
    if not isinstance(value, list):
        reject_message(f"phrase_list is {format_value(value)}; it must be a list of strings")
    for phrase in value:
        if not isinstance(phrase, str):
            reject_message(f"phrase_list contains {format_value(phrase)}; a phrase must be a string")
    return tuple(phrase for phrase in value if phrase != _UNKNOWN_WORD)


def _parse_whole_number(key: str, value: object) -> int:
    """Parse a number as clients write it: 16000, 16000.0, "16000", and for booleans true or 1."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not (number >= 0 and number.is_integer()):
        reject_message(f"{key} is {format_value(value)}; it must be a whole number, 0 or greater")
    return int(number)


class ReplyEncoder:
    """Collects events and encodes replies.

    Attributes:
        options: the current options; may be replaced between two replies.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._partial_text = ""
        self._finals: list[Final] = []

    def on_event(self, event: SessionEvent) -> None:
        """Take an event into account in later replies."""
        if isinstance(event, Partial):
            self._partial_text = bare_text(event.text)
        elif isinstance(event, Final):
            self._finals.append(event)
            self._partial_text = ""

    @property
    def has_unsent_words(self) -> bool:
        """Whether there are words that no result contains yet."""
        return any(final.text for final in self._finals)

    def encode_audio_reply(self) -> str:
        """Encode the reply to audio: a result if an utterance ended since the last result, otherwise a partial."""
        return self.encode_result() if self._finals else dump_message({"partial": self._partial_text})

    def encode_result(self) -> str:
        """Encode all utterances since the last result as one; a message may end several short utterances."""
        finals, self._finals = self._finals, []
        text = bare_text(" ".join(final.text for final in finals))
        words = [word for final in finals for word in final.words if word.bare]
        if not self.options.max_alternatives:
            word_objects = [_word_object(word) for word in words] if self.options.words else []
            return dump_message({"result": word_objects, "text": text} if word_objects else {"text": text})
        confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
        alternative: dict[str, Any] = {"confidence": round(confidence, 3)}
        if self.options.words and words:
            alternative["result"] = [_word_object(word, confidence=False) for word in words]
        return dump_message({"alternatives": [{**alternative, "text": text}]})


def _word_object(word: Word, *, confidence: bool = True) -> dict[str, Any]:
    fields = {"start": round(word.start, 3), "end": round(word.end, 3), "word": word.bare}
    return {"conf": round(word.confidence, 3), **fields} if confidence else fields
