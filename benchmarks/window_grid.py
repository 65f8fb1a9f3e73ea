"""Window sizes to compare: parsing, tables and heat maps of word error rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from report import Table, panels

from stream_asr.config import EngineConfig, RecognizerConfig, WindowConfig

_BUFFER_MS = 120_000
"""Large enough for every window size."""

_OVERLOAD_MARGIN_MS = 2000


@dataclass(frozen=True, slots=True)
class WindowSizes:
    """Durations of left context, committed audio and right context, in seconds."""

    left_s: float
    commit_s: float
    right_s: float

    def __str__(self) -> str:
        return f"{self.left_s:g} s + {self.commit_s:g} s + {self.right_s:g} s"

    def config(self) -> RecognizerConfig:
        """Return a configuration with these windows and a sufficiently large buffer."""
        left_ms, commit_ms, right_ms = (round(1000 * value) for value in (self.left_s, self.commit_s, self.right_s))
        return RecognizerConfig(
            windows=WindowConfig(left_context_ms=left_ms, commit_ms=commit_ms, right_context_ms=right_ms),
            engine=EngineConfig(overload_lag_ms=commit_ms + right_ms + _OVERLOAD_MARGIN_MS, buffer_ms=_BUFFER_MS),
        )


def parse_list(text: str) -> list[WindowSizes]:
    """Parse a list of window sizes, such as "4 1.6 0.8, 2 1.6 0.8".

    Raises:
        ValueError: an item does not consist of three numbers.
    """
    items = [item.split() for item in text.split(",")]
    if any(len(item) != 3 for item in items):
        raise ValueError("each item needs three numbers: left context, commit stride, right context")
    return [WindowSizes(*map(float, item)) for item in items]


def parse_grid(text: str) -> list[WindowSizes]:
    """Parse lists of left contexts, commit strides and right contexts, such as "2 4, 0.8 1.6, 0.4 0.8".

    Returns:
        All combinations.

    Raises:
        ValueError: the text does not consist of three lists of numbers.
    """
    lists = [part.split() for part in text.split(",")]
    if len(lists) != 3 or not all(lists):
        raise ValueError("three lists are needed: left contexts, commit strides, right contexts")
    return [WindowSizes(*combination) for combination in product(*([float(item) for item in part] for part in lists))]


def _axes_of(sizes: Sequence[WindowSizes]) -> tuple[list[float], list[float], list[float]]:
    """Return the distinct left contexts, commit strides and right contexts, sorted."""
    return (
        sorted({each.left_s for each in sizes}),
        sorted({each.commit_s for each in sizes}),
        sorted({each.right_s for each in sizes}),
    )


def grid_tables(wers: dict[WindowSizes, float]) -> list[Table]:
    """Make a table for each left context: word error rates by commit stride and right context."""
    lefts, commits, rights = _axes_of(list(wers))
    tables = []
    for left_s in lefts:
        rows = [
            (
                f"commit {commit_s:g} s",
                *(_percent(wers.get(WindowSizes(left_s, commit_s, right_s))) for right_s in rights),
            )
            for commit_s in commits
        ]
        columns = ("", *(f"right context {right_s:g} s" for right_s in rights))
        tables.append(Table(f"WER with a left context of {left_s:g} s", columns, rows))
    return tables


def _percent(wer: float | None) -> str:
    return "" if wer is None else f"{wer:.2f} %"


def plot_grid(path: Path, title: str, wers: dict[WindowSizes, float]) -> None:
    """Plot a heat map for each left context, all with the same color scale."""
    lefts, commits, rights = _axes_of(list(wers))
    low, high = min(wers.values()), max(wers.values())
    with panels(path, title, len(lefts)) as maps:
        for axes, left_s in zip(maps, lefts, strict=True):
            cells = [
                [wers.get(WindowSizes(left_s, commit_s, right_s), float("nan")) for right_s in rights]
                for commit_s in commits
            ]
            axes.grid(visible=False)
            image = axes.imshow(cells, cmap="cividis_r", vmin=low, vmax=high, aspect="auto", origin="lower")
            for row, values in enumerate(cells):
                for column, wer in enumerate(values):
                    color = "white" if wer > (low + high) / 2 else "black"
                    axes.text(column, row, f"{wer:.1f}", ha="center", va="center", color=color)
            axes.set_xticks(range(len(rights)), [f"{right_s:g}" for right_s in rights])
            axes.set_yticks(range(len(commits)), [f"{commit_s:g}" for commit_s in commits])
            axes.set_ylabel(f"commit (s), left context {left_s:g} s")
            axes.figure.colorbar(image, ax=axes, label="WER (%)")
        maps[-1].set_xlabel("right context (s)")
