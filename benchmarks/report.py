"""Output of benchmarks: tables on the terminal, JSON reports and plots.

A JSON report contains what was measured (``benchmark``, ``settings``, ``data``), on which machine and when
(``machine``, ``date``), the results, and the printed tables, which `tables.py` converts to Markdown.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil  # type: ignore[import-untyped]
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable

import stream_asr
from stream_asr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colors that are distinguishable with every kind of color vision: Okabe and Ito, "Color Universal Design", 2008."""

_PLOT_STYLE: Any = {
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)})",
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
_PANEL_INCHES = (8.0, 4.2)
_PACKAGES = ("torch", "transformers", "onnxruntime", "numpy")
_MIB = 1 << 20
_FILE_WIDTH = 1000
"""Maximum width of tables that are not printed to a terminal."""

_MAX_DECIMAL = 1000
"""Larger figures are printed as integers."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text cells.

    Attributes:
        columns: headings. The first column has names and is aligned left; the others have figures.
        rows: cells of each row; missing cells at the end are empty.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Format as a GitHub Markdown table below its title in bold."""
        ruler = ["---", *["---:"] * (len(self.columns) - 1)]
        padded = [[cell for cell, _ in zip_longest(row, self.columns, fillvalue="")] for row in self.rows]
        lines = ("| " + " | ".join(_escape(cell) for cell in row) + " |" for row in (self.columns, ruler, *padded))
        return "\n".join([f"**{self.title}**", "", *lines])


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")


def print_tables(*tables: Table) -> None:
    """Print tables to stdout, wide enough for all columns if stdout is not a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_FILE_WIDTH)
    for table in tables:
        rich_table = RichTable(box=box.SIMPLE_HEAD)
        for index, column in enumerate(table.columns):
            rich_table.add_column(column, justify="right" if index else "left", no_wrap=index == 0)
        for row in table.rows:
            rich_table.add_row(*row)
        console.print(table.title, style="bold", markup=False)
        console.print(rich_table)


def track_progress(items: Iterable[_Item], description: str) -> Iterable[_Item]:
    """Iterate with a progress bar on stderr."""
    return track(list(items), description, console=Console(stderr=True), transient=True)


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun, such as "1 stream" or "2 streams"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_figure(figure: float) -> str:
    """Format a figure with four significant digits, or as an integer if it is large."""
    return f"{figure:.0f}" if abs(figure) >= _MAX_DECIMAL else f"{figure:.4g}"


def describe_machine() -> dict[str, object]:
    """Return the hardware, the system and the versions of packages; None for packages that are not installed."""
    return {
        "processor": _cpu_name(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "usable_threads": usable_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": _gpu_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "stream_asr": stream_asr.__version__,
    }


def usable_threads() -> int:
    """Return the number of CPUs that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    # On Linux, platform.processor() is empty or names only the architecture.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu_name() -> str | None:
    import torch  # not at the top: some benchmarks do not need it, and the import takes seconds

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def peak_memory_mib() -> float:
    """Return the maximum resident memory of this process since its start."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return float(psutil.Process().memory_info().peak_wset / _MIB)
    unit_bytes = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / _MIB


def memory_mib() -> float:
    """Return the current resident memory of this process."""
    return float(psutil.Process().memory_info().rss / _MIB)


def write_json(
    path: Path,
    benchmark: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    results: Any,
    tables: Sequence[Table] = (),
) -> None:
    """Write a report. Missing parent folders are created.

    Args:
        benchmark: name of the script, without its suffix.
        settings: model, options and threads.
        data: source, number of recordings and duration of the audio.
        results: figures; keys include units. Dataclasses become objects and paths become strings.
        tables: tables as printed.

    Raises:
        InputError: the file cannot be written.
    """
    report = {
        "benchmark": benchmark,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "settings": settings,
        "data": data,
        "results": results,
        "tables": [asdict(table) for table in tables],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2, default=_to_json) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from None


def _to_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy scalar or array
        return value.tolist()
    return asdict(value)


@contextmanager
def panels(path: Path, title: str, count: int, *, sharex: bool = True) -> Iterator[list[Axes]]:
    """Plot into ``count`` axes, one above another; the file is written at the end of the ``with`` block.

    Raises:
        InputError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise InputError("--plot needs matplotlib: pip install -e '.[bench]'") from None
    width, height = _PANEL_INCHES
    with matplotlib.rc_context(_PLOT_STYLE):
        figure = Figure(figsize=(width, height if count == 1 else 0.75 * height * count), layout="constrained")
        axes = list(figure.subplots(count, sharex=sharex, squeeze=False)[:, 0])
        axes[0].set_title(title)
        yield axes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error}") from None


@contextmanager
def plot(path: Path, title: str, x_label: str, y_label: str) -> Iterator[Axes]:
    """Plot into one pair of axes; labels include units. Otherwise as `panels`."""
    with panels(path, title, 1) as (axes,):
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        yield axes
