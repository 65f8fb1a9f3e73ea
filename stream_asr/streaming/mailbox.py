"""A stream's place in the engine, and the mailbox between the engine's thread and the stream's reader."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from stream_asr.errors import StreamASRError
from stream_asr.events import Event, Partial
from stream_asr.streaming.pipeline import Pipeline


class Mailbox:
    """Holds the events that were not read yet.

    At most ``max_unread`` of them wait. From half of that on, a partial replaces an unread partial before it.
    When it is full even so, the engine leaves the stream alone until somebody reads: finals are never dropped,
    and the audio waits in the stream's bounded buffer.
    """

    def __init__(self, pipeline: Pipeline, max_unread: int) -> None:
        self.pipeline = pipeline
        self._max_unread = max_unread
        self._unread: deque[Event] = deque()
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._error: StreamASRError | None = None
        self._ended = False
        self._released = 0
        self.coalesced = 0
        """Partials that were replaced before anybody read them."""

    @property
    def has_room(self) -> bool:
        return len(self._unread) < self._max_unread

    @property
    def ended(self) -> bool:
        """No event will be added any more."""
        return self._ended

    # --- the engine's side --------------------------------------------------------------------------------

    def publish(self) -> None:
        """Move the pipeline's new events into the mailbox and wake whoever waits for events or for room."""
        events, released = self.pipeline.take_events(), self.pipeline.buffer.released
        with self._changed:
            if self._ended:
                return
            for event in events:
                self._put(event)
            self._ended = self.pipeline.finished
            # Nobody is woken for nothing: a reader that polls would wake the engine, and so on for ever.
            if events or self._ended or released != self._released:
                self._released = released
                self._notify()

    def fail(self, error: StreamASRError) -> None:
        """End the stream: its reader gets what was recognised so far, then the error."""
        with self._changed:
            self._error = self._error or error
            self._ended = True
            self._notify()

    def _put(self, event: Event) -> None:
        if (
            self._unread
            and len(self._unread) >= self._max_unread // 2
            and isinstance(event, Partial)
            and isinstance(self._unread[-1], Partial)
            and self._unread[-1].utterance == event.utterance
        ):
            self._unread[-1] = event
            self.coalesced += 1
        else:
            self._unread.append(event)

    def _notify(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener()

    # --- the reader's side --------------------------------------------------------------------------------

    def take(self) -> list[Event]:
        """All unread events, at once.

        Raises:
            StreamASRError: the stream failed, and all its events were read.
        """
        with self._changed:
            events = list(self._unread)
            self._unread.clear()
            if not events and self._error is not None:
                raise self._error
            return events

    def take_one(self) -> Event | None:
        """The oldest unread event; None when there is none.

        Raises:
            StreamASRError: as `take` does.
        """
        with self._changed:
            if not self._unread and self._error is not None:
                raise self._error
            return self._unread.popleft() if self._unread else None

    def wait(self, ready: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Block until ``ready()``, the end of the stream, or the timeout; False for the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended or ready(), timeout_s)

    def wait_for_events(self) -> None:
        """Block until something can be taken or the stream has ended."""
        self.wait(lambda: bool(self._unread))

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` at every change, from whatever thread makes it; returns what ends that."""
        with self._changed:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._changed:
                self._listeners.remove(listener)

        return unsubscribe
