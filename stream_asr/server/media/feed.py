"""Decode audio in a thread and feed it to a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import anyio
import anyio.to_thread

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError
from stream_asr.server.errors import CloseCode, SessionError
from stream_asr.server.sessions.session import Session


async def feed_blocks(
    session: Session,
    blocks: Iterator[FloatArray],
    feed: Callable[[bytes], Awaitable[None]],
    *,
    unblock: Callable[[], None] = lambda: None,
    limiter: anyio.CapacityLimiter | None = None,
) -> None:
    """Feed decoded blocks to a session whose encoding is ``pcm_f32le``, and finish the session.

    Each block is decoded in a thread, so that other sessions do not wait for the decoder. If the audio turns out to be
    damaged, the session is finished with an error after everything that could be decoded.

    Args:
        session: session to feed.
        blocks: float32 arrays. No thread uses the iterator any more when this function returns or is cancelled.
        feed: feeds a block to the session; the next block is decoded afterwards.
        unblock: called on cancellation, to release a thread that waits for input in ``blocks``.
        limiter: limits the number of threads; None for anyio's default limiter, which all tasks share.
    """
    try:
        while (block := await _decode_next(blocks, unblock, limiter)) is not None:
            await feed(block.astype("<f4", copy=False).tobytes())
    except InputError as error:
        session.finish_with_error(SessionError("bad_audio", str(error), CloseCode.INVALID_DATA))
    session.finish()


async def _decode_next(
    blocks: Iterator[FloatArray], unblock: Callable[[], None], limiter: anyio.CapacityLimiter | None
) -> FloatArray | None:
    decoding = asyncio.ensure_future(anyio.to_thread.run_sync(next, blocks, None, limiter=limiter))
    try:
        return await asyncio.shield(decoding)
    except asyncio.CancelledError:
        unblock()
        # Wait for the thread: the caller closes the decoder next.
        with suppress(InputError):
            await decoding
        raise
