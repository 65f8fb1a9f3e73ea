"""How captions look: live in a terminal, or plain lines elsewhere."""

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

_LAG_SHOWN_MS = 1500
"""Lag is normal below this: a word takes a preview or two to appear."""

_METER = " ▁▂▃▄▅▆▇█"
_METER_CELLS = 12
_METER_FLOOR_DB = -60.0
_REFRESH_PER_S = 15


class View(Protocol):
    """Shows the events of one stream."""

    def show(self, event: Event) -> None: ...

    def warn(self, text: str) -> None:
        """Something that the user should know now."""

    def tick(self, heard_s: float, level_db: float, lag_ms: int) -> None:
        """Called with every block: the clock, the loudness of the block in dBFS, the lag."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def warning(event: Overload | AudioDropped) -> str:
    if isinstance(event, Overload):
        return f"this machine does not keep up: captions are {event.lag_ms / 1000:.1f} s behind"
    return f"audio from {event.start:.1f} to {event.end:.1f} s was lost: it came while the buffer was full"


class TerminalView:
    """Finals scroll by with their time; below them the caption in progress, stable words bright, others dim."""

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
            # The caption goes before its final comes, or both would be seen for a moment.
            self._caption = Text()
            self._live.update(self._render())
            if event.text:
                self._live.console.print(final_text(event))
        elif isinstance(event, Overload | AudioDropped):
            self.warn(warning(event))
        self._live.update(self._render())

    def warn(self, text: str) -> None:
        self._live.console.print(Text(text, style="yellow"))

    def tick(self, heard_s: float, level_db: float, lag_ms: int) -> None:
        status = Text().append(f"{clock(heard_s):>7}  ", style="dim")
        status.append(meter(level_db), style="green" if level_db < -3 else "red")
        status.append(f"  {self._title}", style="dim")
        if lag_ms > _LAG_SHOWN_MS:
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
    """One line a final, with its time, flushed at once so that a pipe gets it live. Warnings go to stderr."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output or sys.stdout

    def show(self, event: Event) -> None:
        if isinstance(event, Final) and event.text:
            print(f"{clock(event.start):>7}  {event.text}", file=self._output, flush=True)
        elif isinstance(event, Overload | AudioDropped):
            self.warn(warning(event))

    def warn(self, text: str) -> None:
        print(f"stream-asr: {text}", file=sys.stderr)

    def tick(self, heard_s: float, level_db: float, lag_ms: int) -> None:
        """Nothing moves in plain lines."""

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to take down."""


class JsonLinesView(PlainView):
    """Every event, one JSON object a line."""

    def show(self, event: Event) -> None:
        print(json.dumps(event.to_json(), ensure_ascii=False), file=self._output, flush=True)


def partial_text(partial: Partial) -> Table:
    """Stable words bright, the others dim."""
    text = Text().append(partial.stable, style="bold")
    return _timed(partial.start, "dim", text.append(partial.text[len(partial.stable) :], style="dim"))


def final_text(final: Final) -> Table:
    return _timed(final.start, "cyan", Text(final.text))


def _timed(start: float, style: str, text: Text) -> Table:
    """The time, and beside it the text, which wraps under itself."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=7, justify="right", no_wrap=True)
    row.add_column()
    row.add_row(Text(clock(start), style=style), text)
    return row


def meter(level_db: float) -> str:
    share = min(1.0, max(0.0, 1 - level_db / _METER_FLOOR_DB))
    steps = round(share * _METER_CELLS * (len(_METER) - 1))
    cells = [min(len(_METER) - 1, max(0, steps - at * (len(_METER) - 1))) for at in range(_METER_CELLS)]
    return "".join(_METER[cell] for cell in cells)
