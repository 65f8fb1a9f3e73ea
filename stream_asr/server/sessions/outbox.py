"""Events on their way to one client: what waits, what was sent, and what has to be sent again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from stream_asr.events import Event, Final, Partial


@dataclass(frozen=True, slots=True)
class MarkReached:
    """All audio before the point that the client tagged has been recognised."""

    tag: str | int


SessionEvent: TypeAlias = Event | MarkReached


class Outbox:
    """Counts events from the first one on, so that a client can say how many it has.

    A partial that is still waiting gives way to the next caption of its utterance; nothing else is left out.

    Args:
        max_kept: events that are remembered after they were sent.
    """

    def __init__(self, max_kept: int) -> None:
        self._unsent: deque[SessionEvent] = deque()
        self._leaving: SessionEvent | None = None
        self._kept: deque[SessionEvent] = deque(maxlen=max_kept)
        self.sent = 0
        self.coalesced = 0
        """Partials that were never sent because a newer caption took their place."""

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    def put(self, event: SessionEvent) -> None:
        self.coalesced += self._place(event)

    def _place(self, event: SessionEvent) -> bool:
        """Whether it took the place of a partial."""
        last = self._unsent[-1] if self._unsent else None
        if isinstance(last, Partial) and isinstance(event, Partial | Final) and last.utterance == event.utterance:
            self._unsent[-1] = event
            return True
        self._unsent.append(event)
        return False

    def take(self) -> SessionEvent | None:
        """The next event to send, None when nothing waits; call `confirm` when it was sent."""
        self._leaving = self._unsent.popleft() if self._unsent else None
        return self._leaving

    def confirm(self) -> None:
        """The event that was taken last is on its way."""
        if self._leaving is not None:
            self._kept.append(self._leaving)
            self._leaving = None
            self.sent += 1

    def rewind(self, received: int | None = None) -> None:
        """Go on behind the first ``received`` events, as the client counts them: what came after them waits again.

        Args:
            received: None for all that were confirmed.

        Raises:
            LookupError: the client cannot have that many, or what it lacks is not remembered any more.
        """
        received = self.sent if received is None else received
        self.confirm()  # it may have arrived even so
        missing = self.sent - received
        if missing < 0:
            raise LookupError(f"{received} events cannot have arrived: {self.sent} were sent")
        if missing > len(self._kept):
            raise LookupError(
                f"{missing} events did not arrive, of which only the last {len(self._kept)} are remembered"
            )
        again = [self._kept.pop() for _ in range(missing)][::-1]
        waiting, self._unsent = self._unsent, deque()
        self.sent = received
        for event in (*again, *waiting):
            self._place(event)  # what gives way now was sent before
