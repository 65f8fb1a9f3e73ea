"""`stream-asr lm`: language models from a user's own text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

_FEW_WORDS = 5_000

app = typer.Typer(no_args_is_help=True, help="Make a language model of your own text.")


@app.callback()
def _group() -> None:
    """Keeps `build` a command of its own while it is the only one."""


@app.command()
def build(
    texts: Annotated[
        list[Path], typer.Argument(help="Plain text in UTF-8; a folder stands for its *.txt.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    order: Annotated[int, typer.Option("--order", min=1, max=4, help="Words of the longest n-grams.")] = 3,
    cutoffs: Annotated[
        str,
        typer.Option(
            "--cutoffs",
            help="How often n-grams must occur to be kept: single words, pairs, threes ... A longer list of higher "
            "numbers makes a smaller file.",
        ),
    ] = "1,1,2",
    words: Annotated[
        Optional[list[Path]],
        typer.Option("--words", help="More words that may occur, one a line: a list of names, say. Repeatable."),
    ] = None,
    english: Annotated[
        bool,
        typer.Option("--english/--other", help="Spell out numbers and take off accents, or leave both to the text."),
    ] = True,
    about: Annotated[str, typer.Option("--about", help="Where the text is from; kept in the file.")] = "",
) -> None:
    """Make a language model that knows which words follow which.

    It helps most with text of the kind that will be spoken: minutes, manuals, letters. A few hundred pages do.
    One paragraph is one stretch of words.

    Examples:

      stream-asr lm build minutes/ --output minutes.lm

      stream-asr transcribe meeting.wav --lm minutes.lm
    """
    from stream_asr.lm import building

    model = building.build(
        texts,
        output,
        order=order,
        cutoffs=cutoffs,
        words=words or [],
        english=english,
        about=about,
    )
    grams = ", ".join(f"{len(level.words):,} of {length}" for length, level in enumerate(model.levels[1:], 2))
    size_mb = output.stat().st_size / 1e6
    print(
        f"{output}: {len(model.vocabulary):,} words; n-grams: {grams or 'none'}; {size_mb:.1f} MB",
        file=sys.stderr,
    )
    if len(model.vocabulary) < _FEW_WORDS:
        print(
            "stream-asr: these are few words, and with --lm they take the place of the bundled model's 65,000: other "
            "words will be spelt by ear. A few hundred pages of text do better; for names alone there is --hotwords",
            file=sys.stderr,
        )
