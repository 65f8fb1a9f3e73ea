"""The protocol of Vosk's websocket server: its messages in, and the one reply that each of them is owed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from stream_asr.events import Final, Partial, Word
from stream_asr.server.protocols.json_messages import dump, load, refuse, shown
from stream_asr.server.sessions.outbox import SessionEvent

_MAX_IGNORED = 8
"""Names that are remembered for the log."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a client has configured.

    Attributes:
        sample_rate: in Hz. The default is that of Vosk's server: browser clients record at it and say nothing.
        words: send the words of results, with their times.
        max_alternatives: above 0, results come in the form for several alternatives, of which there is one.
        ignored: the first few keys that change nothing here.
        ignored_count: how many there were, with repetitions.
    """

    sample_rate: int = 8000
    words: bool = True
    max_alternatives: int = 0
    ignored: tuple[str, ...] = ()
    ignored_count: int = 0


class Command(Enum):
    RESET = "reset"
    """End the utterance now; its result is the reply."""

    EOF = "eof"
    """The same, and there is no more audio."""


def decode(text: str, options: Options) -> Options | Command:
    """Read a client's text message.

    Args:
        options: in force until now; a ``config`` changes what it names.

    Raises:
        SessionError: it is no message of this protocol; says what was wrong and what is accepted.
    """
    message = load(text)
    if "config" in message:
        return _configured(message["config"], options)
    command = next((command for command in Command if message.get(command.value)), None)
    if command is None:
        refuse(f'{shown(message)}; accepted are {{"config": {{...}}}}, {{"eof": 1}}, {{"reset": 1}}, and binary audio')
    return command


def _configured(config: object, options: Options) -> Options:
    if not isinstance(config, dict):
        refuse(f"config is {shown(config)}; it takes an object")
    for key, value in config.items():
        if key == "sample_rate":
            options = replace(options, sample_rate=_whole(key, value))
        elif key == "max_alternatives":
            options = replace(options, max_alternatives=_whole(key, value))
        elif key == "words":
            options = replace(options, words=bool(_whole(key, value)))
        else:
            options = replace(options, ignored=_noted(options.ignored, key), ignored_count=options.ignored_count + 1)
    return options


def _noted(names: tuple[str, ...], key: str) -> tuple[str, ...]:
    return names if len(names) == _MAX_IGNORED or shown(key) in names else (*names, shown(key))


def _whole(key: str, value: object) -> int:
    """Clients write numbers as 16000, 16000.0 and "16000", and booleans as 1."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not (number >= 0 and number.is_integer()):
        refuse(f"{key} is {shown(value)}; it takes a whole number from 0")
    return int(number)


class Replies:
    """Gathers events until a reply is due.

    Attributes:
        options: may be replaced between two replies.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._partial = ""
        self._finals: list[Final] = []

    def hear(self, event: SessionEvent) -> None:
        if isinstance(event, Partial):
            self._partial = event.text
        elif isinstance(event, Final):
            self._finals.append(event)
            self._partial = ""

    @property
    def pending(self) -> bool:
        """There are words that no result has told."""
        return any(final.text for final in self._finals)

    def to_audio(self) -> str:
        """The result, if an utterance has ended since the last one; else the caption of the current utterance."""
        return self.result() if self._finals else dump({"partial": self._partial})

    def result(self) -> str:
        """All that has ended since the last result: one reply may have to tell of two short utterances."""
        finals, self._finals = [final for final in self._finals if final.text], []
        text = " ".join(final.text for final in finals)
        words = [word for final in finals for word in final.words]
        if not self.options.max_alternatives:
            told = [_word(word) for word in words] if self.options.words else []
            return dump({"result": told, "text": text} if told else {"text": text})
        confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
        alternative: dict[str, Any] = {"confidence": round(confidence, 3)}
        if self.options.words and words:
            alternative["result"] = [_word(word, confidence=False) for word in words]
        return dump({"alternatives": [{**alternative, "text": text}]})


def _word(word: Word, *, confidence: bool = True) -> dict[str, Any]:
    times = {"start": round(word.start, 3), "end": round(word.end, 3), "word": word.word}
    return {"conf": round(word.confidence, 3), **times} if confidence else times
