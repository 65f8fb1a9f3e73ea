"""What ``--help`` says of commands: their docstrings, broken where the terminal ends and not where the source does."""

from __future__ import annotations

import inspect

import typer


def unwrap_help(app: typer.Typer) -> None:
    """Join the lines of each paragraph of its commands' help; lines that are indented, as examples are, stay."""
    for command in app.registered_commands:
        text = inspect.getdoc(command.callback) or ""
        paragraphs = (part if part.startswith(" ") else part.replace("\n", " ") for part in text.split("\n\n"))
        command.help = "\n\n".join(paragraphs)
