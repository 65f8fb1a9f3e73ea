"""`stream-asr lm`: build a language model from text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

_SMALL_VOCABULARY = 5_000
"""Words below which a warning says that the model replaces the bundled one."""

app = typer.Typer(no_args_is_help=True, help="Build a language model from your own text.")


@app.callback()
def _group() -> None:
    """Make `build` a subcommand although it is the only one."""


@app.command()
def build(
    texts: Annotated[
        list[Path],
        typer.Argument(help="Plain text in UTF-8. Of a folder, all *.txt files are read.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    order: Annotated[int, typer.Option("--order", min=1, max=4, help="Number of words in the longest n-grams.")] = 3,
    cutoffs: Annotated[
        str,
        typer.Option(
            "--cutoffs",
            help="Number of occurrences below which n-grams are dropped: for single words, pairs, triples ... Higher "
            "numbers make a smaller file.",
        ),
    ] = "1,1,2",
    words: Annotated[
        Optional[list[Path]],
        typer.Option("--words", help="File of additional words, for example names. Repeatable."),
    ] = None,
    english: Annotated[
        bool,
        typer.Option(
            "--english/--other",
            help="Spell out numbers and remove accents, or keep accents and split the text at numbers.",
        ),
    ] = True,
    about: Annotated[str, typer.Option("--about", help="Description of the text, which is stored in the file.")] = "",
) -> None:
    """Build a language model, which knows the words of your text and which words follow each other.

    Use text of the kind that will be spoken, such as minutes, manuals or letters. A few hundred pages are enough.
    Separate paragraphs by empty lines.

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
    ngrams = ", ".join(f"{len(level.words):,} of {length}" for length, level in enumerate(model.levels[1:], 2))
    size_mb = output.stat().st_size / 1e6
    print(
        f"{output}: {len(model.vocabulary):,} words; n-grams: {ngrams or 'none'}; {size_mb:.1f} MB",
        file=sys.stderr,
    )
    if len(model.vocabulary) < _SMALL_VOCABULARY:
        print(
            "stream-asr: the vocabulary is small, and with --lm it replaces the 65,000 words of the bundled model. "
            "Words that are not in it are recognized less often. Use a few hundred pages of text, or use --hotwords "
            "if you only need names",
            file=sys.stderr,
        )
