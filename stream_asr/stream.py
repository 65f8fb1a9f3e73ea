"""One stream as the user sees it: audio in, events out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from stream_asr.array_types import FloatArray
from stream_asr.audio.pcm import AudioBlock, AudioConverter
from stream_asr.config import samples_to_ms, samples_to_s
from stream_asr.errors import StreamASRError
from stream_asr.events import Event
from stream_asr.streaming.accounting import Counts
from stream_asr.streaming.mailbox import Mailbox

if TYPE_CHECKING:
    from types import TracebackType


class Stream:
    """A live stream, opened with `Recognizer.stream`.

    One thread or task feeds, flushes and finishes the stream. The same one or another one reads the events.

    Leaving the ``with`` block closes the stream at once. To get the last words, call `finish` and read all events
    before.
    """

    def __init__(
        self, mailbox: Mailbox, converter: AudioConverter, wake: Callable[[], None], close: Callable[[], None]
    ) -> None:
        self._mailbox = mailbox
        self._converter = converter
        self._wake = wake
        self._close = close
        self._finished = False
        self._marks = 0

    def feed(self, block: AudioBlock) -> int:
        """Add audio. Never waits for the model.

        Args:
            block: bytes in the stream's encoding, or an array of int16, int32, float32 or float64, of shape (values,)
                with interleaved channels or of shape (samples, channels). Blocks may have any length.

        Returns:
            The number of samples (at 16 kHz) that were dropped because the buffer is full. An `AudioDropped` event
            reports them as well. Audio that arrives in real time is not dropped on a machine that keeps up. To feed
            faster than real time, call `drain` between blocks that are shorter than half of the buffer.

        Raises:
            InputError: the block is not valid audio for this stream; none of it was added.
            StreamASRError: the stream was finished or closed.
        """
        if self._finished:
            raise StreamASRError("this stream was finished; it takes no more audio")
        dropped = self._write(self._converter.push(block))
        self._wake()
        return dropped

    def _write(self, samples: FloatArray) -> int:
        return self._mailbox.pipeline.buffer.write(samples)

    def flush(self) -> None:
        """Request a final for the audio fed so far, without waiting for the speaker to pause."""
        self._mailbox.pipeline.flush()
        self._wake()

    def mark(self) -> int:
        """Request a `Marked` event that follows once the audio fed so far has been recognized.

        Returns:
            The number of the mark, which the event repeats.
        """
        self._marks += 1
        self._mailbox.pipeline.mark(self._marks)
        self._wake()
        return self._marks

    def finish(self) -> None:
        """Announce the end of the audio. The last event is a final, if there is one to come. Idempotent."""
        if not self._finished:
            self._finished = True
            self._write(self._converter.finish())
            self._mailbox.pipeline.end_of_audio()
            self._wake()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until at least half of the buffer is free. For sources that are faster than real time.

        From then on the stream reports no `Overload`. Events must still be read: a stream with too many unread events
        pauses.

        Returns:
            False if ``timeout_s`` elapsed first.
        """
        buffer = self._mailbox.pipeline.buffer
        self.source_waits = True
        return self._mailbox.wait(lambda: buffer.free >= buffer.capacity // 2, timeout_s)

    def poll(self) -> list[Event]:
        """Return the events that are ready, oldest first. Never waits.

        Raises:
            StreamASRError: the stream failed, and earlier calls have returned all of its events.
        """
        was_full = not self._mailbox.has_room
        events = self._mailbox.take_all()
        if was_full:
            self._wake()
        return events

    def _next(self) -> Event | None:
        was_full = not self._mailbox.has_room
        event = self._mailbox.take_next()
        if was_full:
            self._wake()
        return event

    def __iter__(self) -> Iterator[Event]:
        """Wait for each event; end after the last one.

        `finish` must have been called before, or be called by another thread.
        """
        while True:
            self._mailbox.wait_for_events()
            ended = self._mailbox.ended
            # One event per turn, so that a second loop continues where the first one stopped.
            if (event := self._next()) is not None:
                yield event
            elif ended:
                return

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Wait for each event without blocking the event loop; end after the last one."""
        with self._changes() as changed:
            while True:
                changed.clear()
                ended = self._mailbox.ended
                if (event := self._next()) is not None:
                    yield event
                elif ended:
                    return
                else:
                    await changed.wait()

    async def wait_for_room(self, *, live_source: bool = False) -> None:
        """Wait until at least half of the buffer is free or the stream has ended, without blocking the event loop.

        The asynchronous form of `drain`: from then on the stream reports no `Overload`.

        Args:
            live_source: whether the source may be live, so that `source_waits` stays as it is.
        """
        buffer = self._mailbox.pipeline.buffer
        if not live_source:
            self.source_waits = True
        if buffer.free >= buffer.capacity // 2:
            return
        with self._changes() as changed:
            while buffer.free < buffer.capacity // 2 and not self._mailbox.ended:
                await changed.wait()
                changed.clear()

    @contextmanager
    def _changes(self) -> Iterator[asyncio.Event]:
        """Yield an event of the running loop that is set at every change of the mailbox."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with suppress(RuntimeError):  # the loop was closed, so there are no waiters
                loop.call_soon_threadsafe(changed.set)

        unsubscribe = self._mailbox.subscribe(notify)
        try:
            yield changed
        finally:
            unsubscribe()

    @property
    def source_waits(self) -> bool:
        """Whether the source is faster than real time and waits for the stream, so that no `Overload` is reported."""
        return self._mailbox.pipeline.source_waits

    @source_waits.setter
    def source_waits(self, waits: bool) -> None:
        self._mailbox.pipeline.source_waits = waits

    @property
    def received_s(self) -> float:
        """Duration of the audio fed so far, including dropped samples, in seconds."""
        return samples_to_s(self._mailbox.pipeline.buffer.captured)

    @property
    def lag_ms(self) -> int:
        """How far the captions are behind the newest audio."""
        return samples_to_ms(self._mailbox.pipeline.lag_samples)

    @property
    def partials_coalesced(self) -> int:
        """Number of partials that were replaced by newer ones before they were read."""
        return self._mailbox.coalesced

    @property
    def counts(self) -> Counts:
        """Sample counts, exact once the last event was read."""
        return self._mailbox.pipeline.counts

    @property
    def trailing_bytes(self) -> int:
        """Number of bytes fed that do not complete a sample of every channel."""
        return self._converter.trailing_bytes

    def close(self) -> None:
        """Close the stream and discard audio that has not been recognized. Idempotent."""
        self._finished = True
        self._mailbox.fail(StreamASRError("this stream was closed"))
        self._close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
