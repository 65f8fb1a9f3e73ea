"""``python -m recipes.embedded_en``: make an embedded model, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from recipes.embedded_en.base import encoder_file, read_encoder
from recipes.embedded_en.copies import Copy
from recipes.embedded_en.corpus import INDEX, Corpus, packed, with_pauses
from recipes.embedded_en.export import export
from recipes.embedded_en.running import BEST, processes
from recipes.embedded_en.settings import COPIES, PIECES, RARE_HOURS, SEED, SYNTHETIC_HOURS, TRAINING, embedded_model
from recipes.embedded_en.states import save_states
from recipes.embedded_en.synthesis import sentences, synthesised, with_rare_words
from recipes.embedded_en.train import Training, start_from, train
from recipes.embedded_en.units import learn_pieces, pieces
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.transformers import MoonshineForCTC
from stream_asr.errors import StreamASRError
from stream_asr.lm.text import paragraphs
from stream_asr.training.checkpoint import save_checkpoint

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

    A few hours on two cores. It may be interrupted at any time: the same command goes on where it was. Needs
    pip install --no-deps moonshine-voice==0.0.62 and pip install hibari-tts onnxruntime flatbuffers.
    """
    work.mkdir(parents=True, exist_ok=True)
    try:
        weights = _weights(work)
        recordings = _corpus(work / "recordings", lambda progress: _recordings(speech, aligner, progress))
        synthetic = _corpus(work / "synthetic", lambda progress: _synthetic(text, progress))
        rare = _corpus(work / "rare", lambda progress: _rare(text, (recordings, synthetic), progress))
        divided = _pieces(work / "pieces.json", recordings, text)
        model = MoonshineForCTC(embedded_model())
        start_from(model, weights)
        learned_from = [
            (_states(work / "states" / folder.name, Corpus.load(folder), model, copies), part)
            for folder, copies, part in (
                (recordings, COPIES, 1.0),
                (synthetic, COPIES[:1], TRAINING.synthetic),
                (rare, COPIES[:1], TRAINING.synthetic),
            )
        ]
        training = Training(work / "training", TRAINING, embedded_model(), weights, divided, recordings, learned_from)
        train(training, processes())
        export(training.folder / BEST, embedded_model(), pieces(divided), output)
    except StreamASRError as error:
        raise SystemExit(f"error: {error}") from error
    typer.echo(f"the model is in {output}: stream-asr transcribe --model {output} RECORDING")


def _weights(work: Path) -> Path:
    weights = work / "base.pt"
    if not weights.exists():
        save_checkpoint(weights, read_encoder(encoder_file()))
    return weights


def _corpus(folder: Path, make: Callable[[Progress], Corpus]) -> Path:
    if not (folder / INDEX).exists():
        with Progress() as progress:
            make(progress).save(folder)
    return folder


def _recordings(manifest: Path, aligner: str | None, progress: Progress) -> Corpus:
    reading, aligning = (progress.add_task(what) for what in ("reading recordings", "finding their pauses"))
    corpus = packed(manifest, lambda done, total: progress.update(reading, completed=done, total=total))
    model = load_model(aligner, precision="float32")
    return with_pauses(
        corpus, model, TRAINING.longest_s, lambda done, total: progress.update(aligning, completed=done, total=total)
    )


def _synthetic(texts: Path, progress: Progress) -> Corpus:
    return _read_aloud(sentences(_texts(texts), SEED), SYNTHETIC_HOURS, SEED, progress)


def _rare(texts: Path, heard: Sequence[Path], progress: Progress) -> Corpus:
    words = Counter(word for folder in heard for text in _said(folder) for word in text.split())
    return _read_aloud(with_rare_words(sentences(_texts(texts), SEED), words), RARE_HOURS, SEED + 1, progress)


def _read_aloud(spoken: Sequence[str], hours: float, seed: int, progress: Progress) -> Corpus:
    task = progress.add_task("reading texts aloud", total=hours)
    return synthesised(spoken, hours, seed, lambda done: progress.update(task, completed=done))


def _pieces(path: Path, recordings: Path, texts: Path) -> Path:
    if not path.exists():
        written_texts = (" ".join(words) for file in _texts(texts) for words in paragraphs(file.read_text("utf-8")))
        learn_pieces((*_said(recordings), *written_texts), PIECES).save(str(path))
    return path


def _states(folder: Path, corpus: Corpus, model: MoonshineForCTC, copies: Sequence[Copy]) -> Path:
    if not (folder / INDEX).exists():
        with Progress() as progress:
            task = progress.add_task(f"passing {folder.name} through the frozen layers")
            save_states(
                corpus,
                model,
                copies,
                SEED,
                folder,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    return folder


def _texts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.txt"))


def _said(folder: Path) -> list[str]:
    return [recording.text for recording in Corpus.load(folder).recordings]


if __name__ == "__main__":
    app()
