"""The rows of the terminal view."""

from __future__ import annotations

import pytest
from rich.console import Console, RenderableType

from stream_asr.cli.views import final_text, partial_text
from stream_asr.events import Final, Partial

TEXT = "“Titian, Holbein, Turner, and [sic] Tintarett,” he said; “and almost in the same terms.”"


def render(row: RenderableType) -> str:
    console = Console(width=50, highlight=False)
    with console.capture() as capture:
        console.print(row)
    return capture.get()


@pytest.mark.parametrize("stable", ["", "“Titian", "“Titian,", "“Titian, Holbein,", TEXT])
def test_words_keep_their_place_when_they_become_stable_and_final(stable: str) -> None:
    final = render(final_text(Final(0, 61.0, 66.0, TEXT, 0.9, ())))
    assert render(partial_text(Partial(0, 61.0, 66.0, stable, TEXT))) == final
    assert " ".join(final.split()) == f"1:01 {TEXT}"
