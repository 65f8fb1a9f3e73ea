"""How a fine-tuning run shows itself on stderr: a bar in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from stream_asr.cli.interrupt import Interrupt
from stream_asr.cli.views import clock
from stream_asr.training.progress import Report
from stream_asr.training.scoring import Score

_LINE_S = 30.0
"""Without a terminal, from one line about training to the next."""


class FineTuneView:
    """See `stream_asr.training.run.Display`.

    Args:
        interrupt: true once the user wants to stop. Before the training there is nothing to store, so it raises
            KeyboardInterrupt here.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._training = False
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("loading the model", total=1.0, state="")
        self._line_at = -_LINE_S

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def working(self, what: str, done: int, total: int) -> None:
        if self._interrupt and not self._training:
            raise KeyboardInterrupt
        self._bar.update(self._task, description=what, completed=done / max(1, total), state="")

    def report(self, report: Report) -> None:
        self._training = True
        left = "" if report.remaining_s is None else f"  {clock(report.remaining_s)} to go"
        state = (
            f"step {report.step}  epoch {report.epochs:.1f}  loss {report.loss:.3f}  rate {report.learning_rate:.1e}  "
            f"{report.audio_rate:.1f} s/s{left}" + (f"  {report.skipped} skipped" if report.skipped else "")
        )
        self._bar.update(self._task, description="training", completed=report.progress, state=state)
        if not self._console.is_terminal and time.monotonic() - self._line_at >= _LINE_S:
            self._line_at = time.monotonic()
            self.note(f"{report.progress:.0%}  {state}")

    def evaluated(self, when: str, score: Score) -> None:
        self.note(f"{when}: WER {score.wer:.2f} %  CER {score.cer:.2f} %")

    def __enter__(self) -> FineTuneView:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
