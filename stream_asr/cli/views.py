"""Views: show the events of a stream as live captions in a terminal, as plain lines or as JSON lines."""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stream_asr.events import AudioDropped, Event, Final, Overload, Partial

_MIN_SHOWN_LAG_MS = 1500
"""The status line shows the lag above this value. Less is normal: a word appears after one or two previews."""

_METER_LEVELS = " ▁▂▃▄▅▆▇█"
"""Characters of a cell of the level meter, from empty to full."""

_METER_CELLS = 12
"""Width of the level meter in characters."""

_METER_FLOOR_DB = -60.0
"""The level meter is empty at this level and below; it is full at 0 dB."""

_CLIPPING_DB = -3.0
"""The level meter turns red at this level."""

_REFRESH_PER_S = 15
"""Updates of the terminal per second."""


class View(Protocol):
    """Shows the events of one stream."""

    def show(self, event: Event) -> None:
        """Show an event."""

    def warn(self, text: str) -> None:
        """Show a warning."""

    def update_status(self, received_s: float, level_db: float, lag_ms: int) -> None:
        """Update the status display. Called for every block.

        Args:
            received_s: length of the audio received so far in seconds.
            level_db: level of the block in dB relative to full scale.
            lag_ms: lag of the captions in milliseconds.
        """

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def format_time(seconds: float) -> str:
    """Return a time as 1:02:03 or 2:03."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def format_warning(event: Overload | AudioDropped) -> str:
    if isinstance(event, Overload):
        return f"this computer is too slow: captions are {event.lag_ms / 1000:.1f} s behind"
    return f"audio from {event.start:.1f} s to {event.end:.1f} s was dropped because the buffer was full"


class TerminalView:
    """Finals scroll up; the partial and a status line stay below them. Stable words are bright, the others dim.

    Args:
        console: the terminal; stdout unless given.
        title: shown in the status line.
    """

    def __init__(self, console: Console | None = None, title: str = "") -> None:
        self._console = console or Console(highlight=False)
        self._title = title
        self._live = Live(console=self._console, refresh_per_second=_REFRESH_PER_S, transient=True, auto_refresh=True)
        self._caption: RenderableType = Text()
        self._status: RenderableType = Text()

    def show(self, event: Event) -> None:
        if isinstance(event, Partial):
            self._caption = partial_text(event)
        elif isinstance(event, Final):
            # Clear the partial before printing the final, so that the caption is never visible twice.
            self._caption = Text()
            self._live.update(self._render())
            if event.text:
                self._live.console.print(final_text(event))
        elif isinstance(event, Overload | AudioDropped):
            self.warn(format_warning(event))
        self._live.update(self._render())

    def warn(self, text: str) -> None:
        self._live.console.print(Text(text, style="yellow"))

    def update_status(self, received_s: float, level_db: float, lag_ms: int) -> None:
        status = Text().append(f"{format_time(received_s):>7}  ", style="dim")
        status.append(level_meter(level_db), style="green" if level_db < _CLIPPING_DB else "red")
        status.append(f"  {self._title}", style="dim")
        if lag_ms > _MIN_SHOWN_LAG_MS:
            status.append(f"  {lag_ms / 1000:.1f} s behind", style="bold yellow")
        self._status = status
        self._live.update(self._render())

    def _render(self) -> Group:
        return Group(self._caption, self._status)

    def __enter__(self) -> TerminalView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._caption = self._status = Text()
        self._live.update(Text())
        self._live.stop()


class PlainView:
    """Print each final as a line with its time. Lines are flushed at once, for readers of a pipe.

    Warnings go to stderr.
    """

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output or sys.stdout

    def show(self, event: Event) -> None:
        if isinstance(event, Final) and event.text:
            print(f"{format_time(event.start):>7}  {event.text}", file=self._output, flush=True)
        elif isinstance(event, Overload | AudioDropped):
            self.warn(format_warning(event))

    def warn(self, text: str) -> None:
        print(f"stream-asr: {text}", file=sys.stderr)

    def update_status(self, received_s: float, level_db: float, lag_ms: int) -> None:
        """Plain lines have no status display."""

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to clean up."""


class JsonLinesView(PlainView):
    """Print each event as a line of JSON."""

    def show(self, event: Event) -> None:
        print(json.dumps(event.to_json(), ensure_ascii=False), file=self._output, flush=True)


def partial_text(partial: Partial) -> Table:
    """Return a partial with stable words bright and the others dim."""
    text = Text().append(partial.stable, style="bold")
    return _caption_row(partial.start, "dim", text.append(partial.text[len(partial.stable) :], style="dim"))


def final_text(final: Final) -> Table:
    return _caption_row(final.start, "cyan", Text(final.text))


def _caption_row(start_s: float, time_style: str, text: Text) -> Table:
    """Return the time and, in a column beside it, the wrapped text."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=7, justify="right", no_wrap=True)
    row.add_column()
    row.add_row(Text(format_time(start_s), style=time_style), text)
    return row


def level_meter(level_db: float) -> str:
    """Return a bar of block characters whose length grows with the level."""
    steps_per_cell = len(_METER_LEVELS) - 1
    share = min(1.0, max(0.0, 1 - level_db / _METER_FLOOR_DB))
    steps = round(share * _METER_CELLS * steps_per_cell)
    cells = [min(steps_per_cell, max(0, steps - cell * steps_per_cell)) for cell in range(_METER_CELLS)]
    return "".join(_METER_LEVELS[level] for level in cells)
