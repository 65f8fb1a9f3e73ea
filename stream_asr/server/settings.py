"""Every setting of the server, once, with its unit in its name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stream_asr.errors import InputError

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Limits, and who may come in.

    Raises:
        InputError: a setting is outside its range.
    """

    max_sessions: int = 16
    """Sessions at once, those included that wait for their client to resume them."""

    max_speed: float = 10.0
    """Audio is taken at up to this many times real time; who sends faster has to wait."""

    max_message_bytes: int = 1 << 20
    """The longest websocket message."""

    max_upload_bytes: int = 1 << 28
    """The longest request with a recording; it waits on disk, where Python keeps temporary files."""

    start_timeout_s: float = 10.0
    """For a client's first message."""

    idle_timeout_s: float = 60.0
    """A client that sends nothing for so long is sent away, after its last final."""

    max_duration_s: float = 4 * 3600.0
    """Audio of one session."""

    max_unsent_events: int = 1024
    """Events that wait for a slow reader, with newer partials in the place of older ones; past it he is sent away.

    Half as many sent ones are remembered, in case a connection is lost before they arrive.
    """

    resume_window_s: float = 30.0
    """How long a session waits for a client that has lost its connection."""

    close_timeout_s: float = 5.0
    """For the client to take in the reason why it is sent away."""

    grace_s: float = 10.0
    """For the last finals, when the server is told to stop."""

    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Any of them lets a client in; with none, everybody may. They are of ASCII characters, as headers are."""

    allow_origins: tuple[str, ...] = ()
    """Web pages from elsewhere that may connect, like https://example.org; ``*`` is all of them."""

    def __post_init__(self) -> None:
        for name in ("max_sessions", "max_message_bytes", "max_upload_bytes", "max_unsent_events"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("start_timeout_s", "idle_timeout_s", "max_duration_s", "close_timeout_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not self.max_speed >= 1:
            raise InputError(f"max_speed is {self.max_speed}; below 1, live audio could not be followed")
        for name in ("resume_window_s", "grace_s"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it cannot be negative")
        for origin in self.allow_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InputError(f"{origin!r} is no origin; accepted are SCHEME://HOST, SCHEME://HOST:PORT and *")
        if not all(self.tokens):
            raise InputError("a token is empty")
        if not all(token.isascii() and token.isprintable() and token == token.strip() for token in self.tokens):
            raise InputError("a token has characters that no header can carry; use visible ones of ASCII")
