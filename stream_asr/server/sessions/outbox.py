"""Queue of events for one client, with replay after a lost connection."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from stream_asr.events import Event, Final, Partial


@dataclass(frozen=True, slots=True)
class MarkReached:
    """All audio received before the mark has been recognized.

    Attributes:
        tag: identifies the mark; chosen by the protocol.
    """

    tag: str | int


SessionEvent: TypeAlias = Event | MarkReached


@dataclass(frozen=True, slots=True)
class SamplesReceived:
    """Acknowledgement of audio. Not an event: not queued, counted or replayed.

    Attributes:
        samples: samples per channel received in the session, at the client's rate.
    """

    samples: int


class Outbox:
    """Queue of events, numbered from the start of the session.

    A queued partial is replaced by the next caption of its utterance. All other events are sent.

    Args:
        max_sent: number of sent events that are kept for replay.

    Attributes:
        sent: number of events sent.
        coalesced: number of partials that were replaced before they were sent.
    """

    def __init__(self, max_sent: int) -> None:
        self._queue: deque[SessionEvent] = deque()
        self._in_flight: SessionEvent | None = None
        self._history: deque[SessionEvent] = deque(maxlen=max_sent)
        self.sent = 0
        self.coalesced = 0

    @property
    def unsent(self) -> int:
        """Number of queued events."""
        return len(self._queue)

    def put(self, event: SessionEvent) -> None:
        """Add an event to the queue."""
        self.coalesced += self._enqueue(event)

    def _enqueue(self, event: SessionEvent) -> bool:
        """Add an event; return whether it replaced a partial."""
        last = self._queue[-1] if self._queue else None
        if isinstance(last, Partial) and isinstance(event, Partial | Final) and last.utterance == event.utterance:
            self._queue[-1] = event
            return True
        self._queue.append(event)
        return False

    def take(self) -> SessionEvent | None:
        """Return the next event to send; None if the queue is empty. Call `confirm` once the event has been sent."""
        self._in_flight = self._queue.popleft() if self._queue else None
        return self._in_flight

    def confirm(self) -> None:
        """Record that the event returned by `take` has been sent."""
        if self._in_flight is not None:
            self._history.append(self._in_flight)
            self._in_flight = None
            self.sent += 1

    def rewind(self, received: int | None = None) -> None:
        """Queue again the events that the client has not received.

        Args:
            received: number of events that the client has received; None for all confirmed events.

        Raises:
            LookupError: the number is impossible, or a missing event is no longer kept.
        """
        received = self.sent if received is None else received
        self.confirm()  # the client may have received the event although sending failed
        missing = self.sent - received
        if missing < 0:
            raise LookupError(f"the client cannot have received {received} events; {self.sent} were sent")
        if missing > len(self._history):
            raise LookupError(f"{missing} events are missing, but only the last {len(self._history)} are kept")
        replayed = [self._history.pop() for _ in range(missing)][::-1]
        queued, self._queue = self._queue, deque()
        self.sent = received
        for event in (*replayed, *queued):
            self._enqueue(event)  # not counted as coalesced: a partial replaced here has been sent once
