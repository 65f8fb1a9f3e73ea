"""One live stream as its user sees it: audio in, events out."""

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
    """Made by `Recognizer.stream`. One thread (or task) feeds, flushes and finishes it; the same or another one reads.

    Leaving its ``with`` block closes it at once. To get the last words, call `finish` and read to the end first.
    """

    def __init__(
        self, session: Mailbox, converter: AudioConverter, wake: Callable[[], None], close: Callable[[], None]
    ) -> None:
        self._session = session
        self._converter = converter
        self._wake = wake
        self._close = close
        self._finished = False
        self._marks = 0

    def feed(self, block: AudioBlock) -> int:
        """Add audio, without ever waiting for the model.

        Args:
            block: bytes in the stream's encoding, or an array of int16, int32, float32 or float64, of shape
                (values,) interleaved or (samples, channels), of any length.

        Returns:
            How many samples (at 16 kHz) were dropped because the buffer is full; an `AudioDropped` event
            reports them, too. It stays 0 for audio that comes in real time on a machine that keeps up; to
            feed faster than that, call `drain` between blocks shorter than half the buffer.

        Raises:
            InputError: the block cannot be audio of this stream; nothing of it was taken.
            StreamASRError: the stream was finished or closed.
        """
        if self._finished:
            raise StreamASRError("this stream was finished; it takes no more audio")
        dropped = self._write(self._converter.push(block))
        self._wake()
        return dropped

    def _write(self, samples: FloatArray) -> int:
        return self._session.pipeline.buffer.write(samples)

    def flush(self) -> None:
        """Ask for a final of all audio fed so far, without waiting for the speaker to pause."""
        self._session.pipeline.flush()
        self._wake()

    def mark(self) -> int:
        """Ask for a `Marked` event once all audio fed so far has been recognised; returns the number it will carry."""
        self._marks += 1
        self._session.pipeline.mark(self._marks)
        self._wake()
        return self._marks

    def finish(self) -> None:
        """There is no more audio. The events that are left end with the last final. Calling it again does nothing."""
        if not self._finished:
            self._finished = True
            self._write(self._converter.finish())
            self._session.pipeline.end_of_audio()
            self._wake()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until at least half of the buffer is free; for sources that are faster than real time.

        A stream whose source waits reports no `Overload`.

        Returns:
            False if ``timeout_s`` passed before. Reading events is up to the caller: a stream whose events
            nobody reads stands still after a while.
        """
        buffer = self._session.pipeline.buffer
        self.source_waits = True
        return self._session.wait(lambda: buffer.free >= buffer.capacity // 2, timeout_s)

    def poll(self) -> list[Event]:
        """The events that are ready now, oldest first; never waits.

        Raises:
            StreamASRError: the stream failed; what was recognised before was returned by earlier calls.
        """
        was_full = not self._session.has_room
        events = self._session.take()
        if was_full:
            self._wake()
        return events

    def _next(self) -> Event | None:
        was_full = not self._session.has_room
        event = self._session.take_one()
        if was_full:
            self._wake()
        return event

    def __iter__(self) -> Iterator[Event]:
        """All events to come; ends after the last final, so another thread must feed or `finish` come first."""
        while True:
            self._session.wait_for_events()
            ended = self._session.ended
            # One at a time: a loop that is left and entered again goes on with the next event.
            if (event := self._next()) is not None:
                yield event
            elif ended:
                return

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The same for ``async for``; waits without blocking the event loop."""
        with self._changes() as changed:
            while True:
                changed.clear()
                ended = self._session.ended
                if (event := self._next()) is not None:
                    yield event
                elif ended:
                    return
                else:
                    await changed.wait()

    async def wait_for_room(self) -> None:
        """`drain` for coroutines: wait until at least half of the buffer is free, or the stream has ended.

        Unlike `drain` it leaves `source_waits` alone.
        """
        buffer = self._session.pipeline.buffer
        if buffer.free >= buffer.capacity // 2:
            return
        with self._changes() as changed:
            while buffer.free < buffer.capacity // 2 and not self._session.ended:
                await changed.wait()
                changed.clear()

    @contextmanager
    def _changes(self) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set whenever the stream has moved on."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody is waiting any more
                loop.call_soon_threadsafe(changed.set)

        unsubscribe = self._session.subscribe(notify)
        try:
            yield changed
        finally:
            unsubscribe()

    @property
    def source_waits(self) -> bool:
        """Whether the source is faster than real time and waits for us, so that `Overload` would say nothing."""
        return self._session.pipeline.source_waits

    @source_waits.setter
    def source_waits(self, waits: bool) -> None:
        self._session.pipeline.source_waits = waits

    @property
    def received_s(self) -> float:
        """Seconds of audio taken in so far, dropped ones included."""
        return samples_to_s(self._session.pipeline.buffer.captured)

    @property
    def lag_ms(self) -> int:
        """How far the captions are behind the newest audio."""
        return samples_to_ms(self._session.pipeline.lag_samples)

    @property
    def partials_coalesced(self) -> int:
        """Partials that were never read because a newer one took their place."""
        return self._session.coalesced

    @property
    def counts(self) -> Counts:
        """Where the samples went; exact once the last event was read."""
        return self._session.pipeline.counts

    @property
    def trailing_bytes(self) -> int:
        """Bytes fed that do not make up a whole sample of every channel."""
        return self._converter.trailing_bytes

    def close(self) -> None:
        """Give up what was not recognised yet. Calling it again does nothing."""
        self._finished = True
        self._session.fail(StreamASRError("this stream was closed"))
        self._close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
