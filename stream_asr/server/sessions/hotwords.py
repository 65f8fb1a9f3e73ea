"""Limits on the hotwords of one session."""

from __future__ import annotations

from collections.abc import Mapping

from stream_asr.server.errors import SessionError
from stream_asr.server.settings import MAX_HOTWORD_CHARACTERS, MAX_HOTWORD_LENGTH, MAX_HOTWORDS

_MAX_SHOWN_CHARACTERS = 40


def check_hotwords(hotwords: Mapping[str, float]) -> None:
    """Check the size of hotwords, before the recognizer compiles them.

    Raises:
        SessionError: there are too many phrases or characters, or a phrase has a character that cannot be displayed,
            such as half of a surrogate pair.
    """
    if len(hotwords) > MAX_HOTWORDS:
        raise _error(f"{len(hotwords)} hotwords; at most {MAX_HOTWORDS} are accepted")
    characters = sum(map(len, hotwords))
    if characters > MAX_HOTWORD_CHARACTERS:
        raise _error(f"the hotwords have {characters} characters; at most {MAX_HOTWORD_CHARACTERS} are accepted")
    for phrase in hotwords:
        shown = repr(phrase[:_MAX_SHOWN_CHARACTERS])
        if len(phrase) > MAX_HOTWORD_LENGTH:
            raise _error(f"hotword {shown} has {len(phrase)} characters; at most {MAX_HOTWORD_LENGTH} are accepted")
        if not "".join(phrase.split()).isprintable():
            raise _error(f"hotword {shown} has a character that cannot be displayed")


def _error(message: str) -> SessionError:
    return SessionError("bad_hotwords", message)
