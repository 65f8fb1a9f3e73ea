"""What all benchmarks leave behind: a table on the screen, a JSON file of one shape, and plots of one style.

The JSON file says what was measured (``benchmark``, ``settings``, ``data``), where and when (``machine``, ``date``),
the figures (``results``) and the tables as they were printed, so that `tables.py` can put them into a document.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

import stream_asr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart with any kind of colour vision: Okabe and Ito, "Color Universal Design", 2008."""

_STYLE: Any = {
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
_FILE_COLUMNS = 160


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is shown.

    Attributes:
        columns: the first is for names and is aligned to the left, the others for figures.
        rows: of as many texts as there are columns, or fewer.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As a table of GitHub's Markdown, the title above it in bold."""
        ruler = ["---", *["---:"] * (len(self.columns) - 1)]
        padded = [[cell for cell, _ in zip_longest(row, self.columns, fillvalue="")] for row in self.rows]
        lines = ("| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in (self.columns, ruler, *padded))
        return "\n".join([f"**{self.title}**", "", *lines])


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def show(*tables: Table) -> None:
    """Print tables to the terminal; they are as wide as they need to be where the output is a file."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_FILE_COLUMNS)
    for table in tables:
        shown = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
        for place, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if place else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def machine() -> dict[str, object]:
    """Where, and with which versions, figures were measured. Versions of what is not installed are None."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "usable_threads": usable_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "stream_asr": stream_asr.__version__,
    }


def usable_threads() -> int:
    """Of the processor, by this process, which may be confined to some of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Linux has the name that people know in a file; elsewhere Python knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _gpu() -> str | None:
    import torch  # not at the top: some benchmarks need none of it, and it takes seconds

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def peak_memory_mib() -> float:
    """The most memory that this process has ever had resident."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows, which counts it among the figures of a process
        return float(psutil.Process().memory_info().peak_wset / _MIB)
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MIB


def memory_mib() -> float:
    """What this process has resident now."""
    return float(psutil.Process().memory_info().rss / _MIB)


def write_json(
    path: Path,
    benchmark: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    results: Any,
    tables: Sequence[Table] = (),
) -> None:
    """Write what was measured; the folder is made where there is none.

    Args:
        benchmark: its name, as in ``benchmarks/NAME.py``.
        settings: all that was chosen: model, options, threads.
        data: what was recognised: where it is from, how many recordings and seconds.
        results: the figures, units in the names of their keys; dataclasses are written as objects, paths as text.
        tables: as they were printed.
    """
    written = {
        "benchmark": benchmark,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": settings,
        "data": data,
        "results": results,
        "tables": [asdict(table) for table in tables],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written, indent=2, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # a number or an array of NumPy's
        return value.tolist()
    return asdict(value)


@contextmanager
def panels(path: Path, title: str, count: int, *, sharex: bool = True) -> Iterator[list[Axes]]:
    """``count`` pairs of axes, one above the other, to draw into; saved to ``path`` after the ``with`` block.

    Raises:
        SystemExit: matplotlib is not installed; says how to get it.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise SystemExit("plots need matplotlib, which comes with: pip install -e '.[bench]'") from None
    width, height = _PANEL_INCHES
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height if count == 1 else 0.75 * height * count), layout="constrained")
        axes = list(figure.subplots(count, sharex=sharex, squeeze=False)[:, 0])
        axes[0].set_title(title)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


@contextmanager
def plot(path: Path, title: str, x: str, y: str) -> Iterator[Axes]:
    """One pair of axes, labelled; the labels name their units. Otherwise as `panels`."""
    with panels(path, title, 1) as (axes,):
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield axes
