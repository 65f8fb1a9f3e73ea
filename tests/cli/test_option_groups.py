"""Tests of option groups: dataclasses whose fields are the options of several commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import pytest
import typer
from typer.testing import CliRunner

from stream_asr.cli.app import app as stream_asr_app
from stream_asr.cli.option_groups import expand_option_groups

WIDE_TERMINAL = {"COLUMNS": "120", "TERM": "dumb"}


@dataclass(frozen=True)
class Paint:
    color: Annotated[str, typer.Option("--color", "-c", help="Color of the paint.")] = "red"
    coats: Annotated[int, typer.Option("--coats", min=1, help="Number of coats.", rich_help_panel="Work")] = 2


@dataclass(frozen=True)
class Brush:
    width_mm: Annotated[Optional[float], typer.Option("--width", help="Width of the tool.")] = None
    new: Annotated[bool, typer.Option("--new", help="Buy a new tool.")] = False


Call = tuple[Path, int, Paint, Brush]


@pytest.fixture
def calls() -> list[Call]:
    """The arguments of each call of the command in `app`."""
    return []


@pytest.fixture
def app(calls: list[Call]) -> typer.Typer:
    created = typer.Typer()

    @created.command()
    @expand_option_groups
    def paint(
        wall: Annotated[Path, typer.Argument(help="Wall to paint.")],
        hours: Annotated[int, typer.Option("--hours")] = 8,
        *,
        paint: Paint,
        brush: Brush,
    ) -> None:
        """Paint a wall."""
        calls.append((wall, hours, paint, brush))

    return created


def test_command_receives_the_dataclasses(app: typer.Typer, calls: list[Call]) -> None:
    result = CliRunner().invoke(app, ["north", "-c", "blue", "--width", "4.5", "--new"])
    assert result.exit_code == 0, result.output
    assert calls == [(Path("north"), 8, Paint("blue"), Brush(4.5, True))]


def test_defaults_are_those_of_the_dataclasses(app: typer.Typer, calls: list[Call]) -> None:
    assert CliRunner().invoke(app, ["north", "--hours", "3"]).exit_code == 0
    assert calls == [(Path("north"), 3, Paint(), Brush())]


@pytest.mark.parametrize("arguments", [["north", "--coats", "0"], ["north", "--paint", "x"], ["--new"]])
def test_values_are_validated(app: typer.Typer, calls: list[Call], arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert not calls


def test_help_shows_the_options_of_the_groups_but_not_the_groups(app: typer.Typer) -> None:
    help_text = CliRunner().invoke(app, ["--help"], env=WIDE_TERMINAL).output
    for part in (
        "Paint a wall.",
        "Wall to paint.",
        "--hours",
        "--color",
        "-c",
        "Color of the paint.",
        "--width",
        "--new",
        "Work",
    ):
        assert part in help_text
    assert "brush" not in help_text.lower()


def test_groups_with_the_same_field_name_are_rejected() -> None:
    @dataclass(frozen=True)
    class Ladder:
        new: Annotated[bool, typer.Option("--new-ladder")] = False

    def climb(*, brush: Brush, ladder: Ladder) -> None: ...

    climb.__annotations__ = {"brush": Brush, "ladder": Ladder, "return": None}
    with pytest.raises(ValueError, match="duplicate parameter name: 'new'"):
        expand_option_groups(climb)


@pytest.mark.parametrize("command", ["demo", "transcribe", "listen", "stream", "serve"])
def test_commands_that_recognize_speech_share_their_options(command: str) -> None:
    help_text = CliRunner().invoke(stream_asr_app, [command, "--help"], env=WIDE_TERMINAL).output
    for option in (
        *("--model", "--device", "--precision", "--threads", "--lm", "--no-lm", "--hotwords", "--raw"),
        *("--vad", "--aggressiveness", "--endpoint-ms", "--max-utterance-ms"),
    ):
        assert option in help_text
