"""Points in the audio of which somebody wants to know when everything before them has been recognised."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stream_asr.events import Marked


@dataclass(frozen=True, slots=True)
class _Reached:
    """A mark up to which the audio was heard, and what the model still had to do then."""

    mark: int
    position: int
    windows: int


class Marks:
    """Holds the marks that were heard, oldest first, until the model has caught up with them."""

    def __init__(self) -> None:
        self._reached: deque[_Reached] = deque()
        self._planned = self._delivered = 0

    def planned(self) -> None:
        """Another window whose frames will be kept waits for the model."""
        self._planned += 1

    def delivered(self) -> None:
        """The oldest of them came back; they come back in their order."""
        self._delivered += 1

    def reach(self, mark: int, position: int) -> None:
        """All audio up to ``position``, where ``mark`` was set, has been heard, and its windows are planned."""
        self._reached.append(_Reached(mark, position, self._planned))

    def passed(self, reflected: int, idle: bool) -> list[Marked]:
        """The marks whose windows are all done, in order, each once.

        Args:
            reflected: newest sample that the captions reflect.
            idle: no preview is due or out, so that more can only come of more audio.
        """
        passed = []
        while self._reached and self._is_done(self._reached[0], reflected, idle):
            passed.append(Marked(self._reached.popleft().mark))
        return passed

    def _is_done(self, reached: _Reached, reflected: int, idle: bool) -> bool:
        return self._delivered >= reached.windows and (idle or reflected >= reached.position)
