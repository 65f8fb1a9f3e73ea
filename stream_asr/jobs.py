"""What a stream asks of the engine: windows to run, and how urgent they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from stream_asr.arrays import FloatArray
from stream_asr.captions import Caption
from stream_asr.windows import Window, WindowPlan


class Priority(IntEnum):
    """What the engine does first; lower is more urgent."""

    FINAL = 0
    """Windows of an utterance that has ended: somebody waits for its final."""

    COMMIT = 1
    PREVIEW = 2


@dataclass(slots=True)
class Utterance:
    """An utterance whose final is still to come."""

    start: int
    plan: WindowPlan
    caption: Caption
    pending: int = 0
    """Windows to be kept that wait for the model or are in it."""

    end: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A window that waits for the model; ``samples`` is float32 of shape (window.stop - window.start,)."""

    window: Window
    samples: FloatArray
    utterance: Utterance
    is_preview: bool

    @property
    def priority(self) -> Priority:
        if self.is_preview:
            return Priority.PREVIEW
        return Priority.COMMIT if self.utterance.end is None else Priority.FINAL
