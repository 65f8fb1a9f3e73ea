"""Sound that is decoded while it is recognised: in a thread, so that no other session has to wait for it."""

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
    take: Callable[[bytes], Awaitable[None]],
    *,
    release: Callable[[], None] = lambda: None,
    limiter: anyio.CapacityLimiter | None = None,
) -> None:
    """Feed a session whose encoding is ``pcm_f32le``, block by block, and finish it.

    When the sound turns out to be damaged, the session is concluded once all that could be decoded was fed.

    Args:
        blocks: float32; each is made in a thread, and when this returns or is cancelled, no thread is inside it.
        take: feeds the session with a block; the next one is not asked for before.
        release: called when this is cancelled: lets a block that waits for something come to its end.
        limiter: of threads; those that all share, unless given.
    """
    try:
        while (block := await _next(blocks, release, limiter)) is not None:
            await take(block.astype("<f4", copy=False).tobytes())
    except InputError as error:
        session.finish_with_error(SessionError("bad_audio", str(error), CloseCode.INVALID_DATA))
    session.finish()


async def _next(
    blocks: Iterator[FloatArray], release: Callable[[], None], limiter: anyio.CapacityLimiter | None
) -> FloatArray | None:
    decoding = asyncio.ensure_future(anyio.to_thread.run_sync(next, blocks, None, limiter=limiter))
    try:
        return await asyncio.shield(decoding)
    except asyncio.CancelledError:
        release()
        # The decoder must not be closed under the thread that is inside it.
        with suppress(InputError):
            await decoding
        raise
