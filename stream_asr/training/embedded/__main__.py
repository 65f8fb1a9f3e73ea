"""``python -m stream_asr.training.embedded``: make an embedded model, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress

from stream_asr.acoustic.loading import load_model
from stream_asr.errors import StreamASRError
from stream_asr.training.embedded.base import encoder_file, read_encoder
from stream_asr.training.embedded.corpus import INDEX, Corpus, packed, with_pauses
from stream_asr.training.embedded.export import export
from stream_asr.training.embedded.settings import SEED, STAGES, SYNTHETIC_HOURS
from stream_asr.training.embedded.synthesis import sentences, synthesised
from stream_asr.training.embedded.train import BEST, Stage, processes, train

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    speech: Annotated[
        Path, typer.Option(help="Manifest of the recordings to learn from: columns path, text, speaker.")
    ],
    text: Annotated[Path, typer.Option(help="Folder of plain texts (*.txt) to synthesise speech from.")],
    work: Annotated[
        Path, typer.Option(help="Folder for everything in between; what is there already is not made again.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the finished model.")],
    aligner: Annotated[
        str | None,
        typer.Option(
            help="Model that finds the pauses to cut at: the embedded one, or any other CTC model of English."
        ),
    ] = None,
) -> None:
    """Make an embedded English model, from packages and a folder of recordings to a folder for --model.

    Many hours on two cores. It may be interrupted at any time: the same command goes on where it was. Needs
    pip install --no-deps moonshine-voice==0.0.62 and pip install hibari-tts onnxruntime flatbuffers.
    """
    work.mkdir(parents=True, exist_ok=True)
    try:
        weights = work / "base.pt"
        if not weights.exists():
            torch.save(read_encoder(encoder_file()), weights)
        recordings = _corpus(work / "recordings", lambda progress: _recordings(speech, aligner, progress))
        synthetic = _corpus(work / "synthetic", lambda progress: _synthetic(text, progress))
        for name, settings in STAGES.items():
            train(Stage(work / name, settings, weights, recordings, synthetic), processes())
            weights = work / name / BEST
        export(weights, output)
    except StreamASRError as error:
        raise SystemExit(f"error: {error}") from error
    typer.echo(f"the model is in {output}: stream-asr transcribe --model {output} RECORDING")


def _corpus(folder: Path, make: Callable[[Progress], Corpus]) -> Path:
    if not (folder / INDEX).exists():
        with Progress() as progress:
            make(progress).save(folder)
    return folder


def _recordings(manifest: Path, aligner: str | None, progress: Progress) -> Corpus:
    reading, aligning = (progress.add_task(what) for what in ("reading recordings", "finding their pauses"))
    corpus = packed(manifest, lambda done, total: progress.update(reading, completed=done, total=total))
    longest_s = max(settings.longest_s for settings in STAGES.values())
    model = load_model(aligner)
    return with_pauses(
        corpus, model, longest_s, lambda done, total: progress.update(aligning, completed=done, total=total)
    )


def _synthetic(texts: Path, progress: Progress) -> Corpus:
    reading_aloud = progress.add_task("reading texts aloud", total=SYNTHETIC_HOURS)
    spoken = sentences(sorted(texts.glob("*.txt")), SEED)
    return synthesised(spoken, SYNTHETIC_HOURS, SEED, lambda hours: progress.update(reading_aloud, completed=hours))


if __name__ == "__main__":
    app()
