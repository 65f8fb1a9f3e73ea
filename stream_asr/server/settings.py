"""Settings of the server.

`ServerSettings` holds what an operator chooses for one server. The constants below it are internal limits and
intervals, the same for every server. Names end in their unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stream_asr.errors import InputError

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Limits, timeouts and access control of one server.

    Raises:
        InputError: a setting is out of range.
    """

    max_sessions: int = 16
    """Maximum number of open sessions, including detached sessions that wait to be resumed."""

    max_speed: float = 10.0
    """Maximum rate of incoming audio, in multiples of real time. Faster clients are slowed down by backpressure."""

    max_message_bytes: int = 1 << 20
    """Maximum size of a websocket message."""

    max_upload_bytes: int = 1 << 28
    """Maximum size of an uploaded recording. Uploads are stored in Python's directory for temporary files."""

    start_timeout_s: float = 10.0
    """Time limit for the first message of a client."""

    idle_timeout_s: float = 60.0
    """Time without a message from the client after which its connection is closed. It still gets its last final."""

    max_duration_s: float = 4 * 3600.0
    """Maximum duration of the audio of one session."""

    max_unsent_events: int = 1024
    """Maximum number of events queued for a slow client. Above the limit, the connection is closed.

    Queued partials are replaced by newer ones. Half as many sent events are kept for clients that reconnect.
    """

    resume_window_s: float = 30.0
    """How long a session is kept after its connection was lost."""

    close_timeout_s: float = 5.0
    """Time limit for sending the error message and the close frame to a client."""

    grace_s: float = 10.0
    """Time limit for the last finals at shutdown."""

    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Accepted access tokens, visible ASCII characters only. If empty, no token is required."""

    allow_origins: tuple[str, ...] = ()
    """Other origins whose pages may connect, such as ``https://example.org``; ``*`` allows all origins."""

    def __post_init__(self) -> None:
        for name in ("max_sessions", "max_message_bytes", "max_upload_bytes", "max_unsent_events"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("start_timeout_s", "idle_timeout_s", "max_duration_s", "close_timeout_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be greater than 0")
        if not self.max_speed >= 1:
            raise InputError(f"max_speed is {self.max_speed}; it must be at least 1, the speed of live audio")
        for name in ("resume_window_s", "grace_s"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must not be negative")
        for origin in self.allow_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InputError(f"{origin!r} is not an origin; accepted: SCHEME://HOST, SCHEME://HOST:PORT and *")
        if not all(self.tokens):
            raise InputError("a token is empty")
        if not all(token.isascii() and token.isprintable() and token == token.strip() for token in self.tokens):
            raise InputError("a token has characters that are not allowed in a header; use visible ASCII characters")


# --- transport ------------------------------------------------------------------------------------------------

LISTEN_BACKLOG = 1024
"""Connections that the kernel queues before the server accepts them."""

SEND_BUFFER_BYTES = 1 << 17
"""Kernel send buffer of a connection. Small, so that a client that stops reading is detected within minutes."""

TCP_USER_TIMEOUT_MS = 60_000
"""Time without a TCP acknowledgement after which a connection counts as lost."""

PING_INTERVAL_S = 20.0
"""Interval of websocket pings. They keep proxies from closing silent connections."""

TRANSPORT_SIZE_FACTOR = 4
"""Messages of up to this many times ``max_message_bytes`` are received, so that the error can state the limit."""

SHUTDOWN_POLL_S = 0.1
"""How often a server that shuts down checks for a second Ctrl-C."""

# --- pacing ---------------------------------------------------------------------------------------------------

BURST_S = 2.0
"""Audio that a client may send ahead of ``max_speed``."""

MESSAGE_COST_S = 0.002
"""Each message counts as at least this much audio, which slows down floods of tiny messages."""

FEED_CHUNK_S = 0.25
"""Maximum audio fed to the recognizer in one call. Long messages are split, so that each chunk waits for room."""

LIVE_LEAD_S = 1.0
"""Audio that is this far ahead of real time does not come from a microphone; its lag is not reported as overload."""

ARRIVAL_SPAN_S = 90.0
"""Audio for which arrival times are kept, to measure the latency of finals."""

ARRIVAL_STEP_S = 0.1
"""Minimum audio between two recorded arrival times."""

LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Buckets of the latency histograms in ``/metrics``."""

# --- sessions and uploads -------------------------------------------------------------------------------------

MAX_PENDING_MARKS = 64
"""Maximum number of marks of a session whose audio has not been recognized yet."""

MAX_HOTWORDS = 500
"""Maximum number of hotwords of one session. Compiling as many takes about a second of CPU time."""

MAX_HOTWORD_CHARACTERS = 20_000
"""Maximum number of characters of all hotwords of one session."""

MAX_HOTWORD_LENGTH = 100
"""Maximum number of characters of one hotword. The time to compile a word grows with the square of its length."""

CONTAINER_PIPE_BYTES = 1 << 16
"""Bytes of a streamed container that are buffered for the decoder before the client has to wait."""

MAX_FORM_FIELDS = 100
"""Maximum number of fields in a multipart form."""

# --- protocols ------------------------------------------------------------------------------------------------

NATIVE_ACK_INTERVAL_S = 0.5
"""Audio between two ``ack`` messages."""

NATIVE_MAX_PING_ID_CHARACTERS = 100
"""Maximum length of the ``id`` of a ``ping``."""

VOSK_MAX_PENDING_REPLIES = 32
"""Maximum number of replies in flight to a client that does not wait for them; then it has to wait."""

VOSK_MAX_LOGGED_KEYS = 8
"""Maximum number of ignored ``config`` keys that are named in the log."""

DEEPGRAM_MARK_INTERVAL_S = 0.1
"""Audio between two marks that measure silence for ``utterance_end_ms``."""

DEEPGRAM_MAX_PENDING_MARKS = 16
"""Maximum number of these marks in flight. More would not make ``utterance_end_ms`` more precise."""

REALTIME_MAX_CLIENT_ERRORS = 100
"""Maximum number of invalid events in one session."""

REALTIME_MAX_TEXT_CHARACTERS = 4096
"""Maximum length of a text setting that the session echoes to the client."""

REALTIME_FLUSH_TOLERANCE_S = 0.1
"""A flushed utterance ends up to this long before the commit: at the last complete frame."""
