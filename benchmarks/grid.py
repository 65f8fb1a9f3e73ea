"""Windows to compare: how much the model hears before and after what is kept, and how much is kept at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from report import Table, panels

from stream_asr.config import EngineConfig, RecognizerConfig, WindowConfig

_SLACK_MS = 2000


@dataclass(frozen=True, slots=True)
class Windows:
    """Seconds of left context, of what is kept, and of right context."""

    left_s: float
    commit_s: float
    right_s: float

    def __str__(self) -> str:
        return f"{self.left_s:g} s + {self.commit_s:g} s + {self.right_s:g} s"

    def config(self) -> RecognizerConfig:
        """With a buffer for the longest of them."""
        left_ms, commit_ms, right_ms = (round(1000 * value) for value in (self.left_s, self.commit_s, self.right_s))
        return RecognizerConfig(
            windows=WindowConfig(left_context_ms=left_ms, commit_ms=commit_ms, right_context_ms=right_ms),
            engine=EngineConfig(overload_lag_ms=commit_ms + right_ms + _SLACK_MS, buffer_ms=120_000),
        )


def listed(text: str) -> list[Windows]:
    """ "4 1.6 0.8, 2 1.6 0.8": windows one by one.

    Raises:
        ValueError: one of them does not have three numbers.
    """
    return [Windows(*map(float, windows.split())) for windows in _split(text, 3)]


def grid(text: str) -> list[Windows]:
    """ "2 4, 0.8 1.6, 0.4 0.8": left contexts, commit strides and right contexts, in all combinations.

    Raises:
        ValueError: there are not three lists.
    """
    lists = text.split(",")
    if len(lists) != 3 or not all(part.split() for part in lists):
        raise ValueError("three lists are needed: left contexts, commit strides, right contexts")
    return [Windows(*values) for values in product(*([float(value) for value in part.split()] for part in lists))]


def _split(text: str, numbers: int) -> list[str]:
    parts = text.split(",")
    if any(len(part.split()) != numbers for part in parts):
        raise ValueError(f"each needs {numbers} numbers: left context, commit stride, right context")
    return parts


def axes_of(windows: Sequence[Windows]) -> tuple[list[float], list[float], list[float]]:
    """The different left contexts, commit strides and right contexts, in order."""
    return (
        sorted({each.left_s for each in windows}),
        sorted({each.commit_s for each in windows}),
        sorted({each.right_s for each in windows}),
    )


def grid_tables(wers: dict[Windows, float]) -> list[Table]:
    """For each left context, word error rates over commit strides and right contexts."""
    lefts, commits, rights = axes_of(list(wers))
    tables = []
    for left_s in lefts:
        rows = [
            (f"{commit_s:g} s kept", *(_percent(wers.get(Windows(left_s, commit_s, right_s))) for right_s in rights))
            for commit_s in commits
        ]
        columns = (f"left context {left_s:g} s", *(f"right {right_s:g} s" for right_s in rights))
        tables.append(Table(f"WER with {left_s:g} s of left context", columns, rows))
    return tables


def _percent(wer: float | None) -> str:
    return "" if wer is None else f"{wer:.2f} %"


def draw_grid(path: Path, title: str, wers: dict[Windows, float]) -> None:
    """A map for each left context: the darker, the more errors; the colours mean the same in all of them."""
    lefts, commits, rights = axes_of(list(wers))
    low, high = min(wers.values()), max(wers.values())
    with panels(path, title, len(lefts)) as maps:
        for axes, left_s in zip(maps, lefts, strict=True):
            cells = [
                [wers.get(Windows(left_s, commit_s, right_s), float("nan")) for right_s in rights]
                for commit_s in commits
            ]
            axes.grid(visible=False)
            image = axes.imshow(cells, cmap="cividis_r", vmin=low, vmax=high, aspect="auto", origin="lower")
            for row, values in enumerate(cells):
                for column, wer in enumerate(values):
                    dark = wer > (low + high) / 2
                    axes.text(column, row, f"{wer:.1f}", ha="center", va="center", color="white" if dark else "black")
            axes.set_xticks(range(len(rights)), [f"{right_s:g}" for right_s in rights])
            axes.set_yticks(range(len(commits)), [f"{commit_s:g}" for commit_s in commits])
            axes.set_ylabel(f"kept (s), left context {left_s:g} s")
            axes.figure.colorbar(image, ax=axes, label="WER (%)")
        maps[-1].set_xlabel("right context (s)")
