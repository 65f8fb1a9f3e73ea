"""``python -m recipes.embedded_en.add_decoder``: add the pretrained attention decoder to a model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recipes.embedded_en.decoder_weights import read_decoder_checkpoint
from recipes.embedded_en.export import export_decoder
from recipes.embedded_en.package_files import DECODER, ENCODER, TOKENIZER, find_package_file
from stream_asr.errors import StreamASRError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="Folder of a model whose lower layers are Moonshine's encoder.")],
) -> None:
    """Write the decoder of Moonshine tiny, and graphs for ONNX Runtime, into a model's folder.

    Needs pip install --no-deps moonshine-voice==0.0.62 and pip install flatbuffers.
    """
    try:
        export_decoder(read_decoder_checkpoint(*map(find_package_file, (DECODER, ENCODER, TOKENIZER))), folder)
    except StreamASRError as error:
        raise SystemExit(f"error: {error}") from error
    typer.echo(f"saved the decoder in {folder}")


if __name__ == "__main__":
    app()
