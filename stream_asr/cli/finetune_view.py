"""Progress of a fine-tuning run on stderr: a progress bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from stream_asr.cli.interrupt import Interrupt
from stream_asr.cli.views import format_time
from stream_asr.training.progress import Report
from stream_asr.training.scoring import ErrorRates
from stream_asr.training.settings import PLAIN_REPORT_INTERVAL_S


class FineTuneView:
    """Implements `stream_asr.training.progress.ProgressDisplay`.

    Args:
        interrupt: true once the user wants to stop. Before training begins there is nothing to save, so the view
            raises KeyboardInterrupt.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._training = False
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("loading the model", total=1.0, status="")
        self._last_line_s = -PLAIN_REPORT_INTERVAL_S

    def show_message(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def show_task(self, task: str, done: int, total: int) -> None:
        if self._interrupt and not self._training:
            raise KeyboardInterrupt
        self._bar.update(self._task, description=task, completed=done / max(1, total), status="")

    def show_report(self, report: Report) -> None:
        self._training = True
        remaining = "" if report.remaining_s is None else f"  {format_time(report.remaining_s)} to go"
        status = (
            f"step {report.step}  epoch {report.epochs:.1f}  loss {report.loss:.3f}  rate {report.learning_rate:.1e}  "
            f"{report.audio_rate:.1f} s/s{remaining}" + (f"  {report.skipped} skipped" if report.skipped else "")
        )
        self._bar.update(self._task, description="training", completed=report.progress, status=status)
        if not self._console.is_terminal and time.monotonic() - self._last_line_s >= PLAIN_REPORT_INTERVAL_S:
            self._last_line_s = time.monotonic()
            self.show_message(f"{report.progress:.0%}  {status}")

    def show_evaluation(self, label: str, rates: ErrorRates) -> None:
        self.show_message(f"{label}: WER {rates.wer:.2f} %  CER {rates.cer:.2f} %")

    def __enter__(self) -> FineTuneView:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
