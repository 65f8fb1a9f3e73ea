"""The mailbox of a stream: events on their way from the engine's thread to the reader."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from stream_asr.errors import StreamASRError
from stream_asr.events import Event, Partial
from stream_asr.streaming.pipeline import Pipeline


class Mailbox:
    """Holds the unread events of one pipeline. Safe to use from several threads.

    **Coalescing.** Once the mailbox is half full, a partial replaces an unread partial of the same utterance directly
    before it. Nothing else is ever left out.

    **Backpressure.** While the mailbox is full, the engine does not advance the stream. Its audio waits in the bounded
    buffer of the pipeline until the reader takes events.

    Args:
        pipeline: where the events come from.
        max_unread: number of unread events at which the mailbox is full.

    Attributes:
        coalesced: number of partials that were replaced before they were read.
    """

    def __init__(self, pipeline: Pipeline, max_unread: int) -> None:
        self.pipeline = pipeline
        self.coalesced = 0
        self._max_unread = max_unread
        self._unread: deque[Event] = deque()
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._error: StreamASRError | None = None
        self._ended = False
        self._released = 0

    @property
    def has_room(self) -> bool:
        return len(self._unread) < self._max_unread

    @property
    def ended(self) -> bool:
        """Whether no more events will be added."""
        return self._ended

    # --- called by the engine ---

    def publish(self) -> None:
        """Add the pipeline's new events, and wake threads that wait for events or for room in the buffer."""
        events, released = self.pipeline.take_events(), self.pipeline.buffer.released
        with self._changed:
            if self._ended:
                return
            for event in events:
                self._put(event)
            self._ended = self.pipeline.finished
            # Notify only of changes: a reader that polls wakes the engine, which would publish and notify endlessly.
            if events or self._ended or released != self._released:
                self._released = released
                self._notify()

    def fail(self, error: StreamASRError) -> None:
        """End the stream. The reader gets the events so far, then the error."""
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

    # --- called by the reader ---

    def take_all(self) -> list[Event]:
        """Remove and return all unread events.

        Raises:
            StreamASRError: the stream failed and all its events have been read.
        """
        with self._changed:
            events = list(self._unread)
            self._unread.clear()
            if not events and self._error is not None:
                raise self._error
            return events

    def take_next(self) -> Event | None:
        """Remove and return the oldest unread event; None if there is none.

        Raises:
            StreamASRError: the stream failed and all its events have been read.
        """
        with self._changed:
            if not self._unread and self._error is not None:
                raise self._error
            return self._unread.popleft() if self._unread else None

    def wait(self, is_ready: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Block until ``is_ready()`` is true or the stream has ended; return False after a timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended or is_ready(), timeout_s)

    def wait_for_events(self) -> None:
        """Block until there are unread events or the stream has ended."""
        self.wait(lambda: bool(self._unread))

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after every change, from the thread that makes it.

        Returns:
            A function that removes the listener.
        """
        with self._changed:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._changed:
                self._listeners.remove(listener)

        return unsubscribe
