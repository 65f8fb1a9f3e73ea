"""Options that commands share: one dataclass in the code, options like others for users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import pytest
import typer
from typer.testing import CliRunner

from stream_asr.cli.app import app as stream_asr_app
from stream_asr.cli.grouping import grouped


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option("--colour", "-c", help="What it looks like.")] = "red"
    coats: Annotated[int, typer.Option("--coats", min=1, help="How often.", rich_help_panel="Work")] = 2


@dataclass(frozen=True)
class Brush:
    width_mm: Annotated[Optional[float], typer.Option("--width", help="Of the brush.")] = None
    new: Annotated[bool, typer.Option("--new", help="Buy one.")] = False


Asked = tuple[Path, int, Paint, Brush]


@pytest.fixture
def asked() -> list[Asked]:
    return []


@pytest.fixture
def app(asked: list[Asked]) -> typer.Typer:
    made = typer.Typer()

    @made.command()
    @grouped
    def paint(
        wall: Annotated[Path, typer.Argument(help="Which one.")],
        hours: Annotated[int, typer.Option("--hours")] = 8,
        *,
        paint: Paint,
        brush: Brush,
    ) -> None:
        """Paint a wall."""
        asked.append((wall, hours, paint, brush))

    return made


def test_the_command_gets_the_objects(app: typer.Typer, asked: list[Asked]) -> None:
    ran = CliRunner().invoke(app, ["north", "-c", "blue", "--width", "4.5", "--new"])
    assert ran.exit_code == 0, ran.output
    assert asked == [(Path("north"), 8, Paint("blue"), Brush(4.5, True))]


def test_defaults_are_those_of_the_dataclass(app: typer.Typer, asked: list[Asked]) -> None:
    assert CliRunner().invoke(app, ["north", "--hours", "3"]).exit_code == 0
    assert asked == [(Path("north"), 3, Paint(), Brush())]


@pytest.mark.parametrize("arguments", [["north", "--coats", "0"], ["north", "--paint", "x"], ["--new"]])
def test_values_are_checked_as_everywhere(app: typer.Typer, asked: list[Asked], arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert not asked


def test_help_shows_every_option_of_the_groups(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "TERM": "dumb"}).output
    for part in (
        "Paint a wall.",
        "Which one.",
        "--hours",
        "--colour",
        "-c",
        "What it looks like.",
        "--width",
        "--new",
        "Work",
    ):
        assert part in shown
    assert "brush" not in shown.replace("Of the brush.", "").lower(), "a group is no option itself"


def test_two_groups_with_the_same_name_are_a_mistake() -> None:
    @dataclass(frozen=True)
    class Ladder:
        new: Annotated[bool, typer.Option("--new-ladder")] = False

    def climb(*, brush: Brush, ladder: Ladder) -> None: ...

    climb.__annotations__ = {"brush": Brush, "ladder": Ladder, "return": None}
    with pytest.raises(ValueError, match="duplicate parameter name: 'new'"):
        grouped(climb)


@pytest.mark.parametrize("command", ["demo", "transcribe", "listen", "stream", "serve"])
def test_commands_that_recognise_share_their_options(command: str) -> None:
    shown = CliRunner().invoke(stream_asr_app, [command, "--help"], env={"COLUMNS": "120", "TERM": "dumb"}).output
    for option in (
        *("--model", "--device", "--precision", "--threads", "--lm", "--no-lm", "--hotwords", "--raw"),
        *("--vad", "--aggressiveness", "--endpoint-ms", "--max-utterance-ms"),
    ):
        assert option in shown
