"""``python -m recipes.embedded_en``: train a model like the bundled one, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from recipes.embedded_en.augmentation import Variant
from recipes.embedded_en.corpus import INDEX, Corpus, find_pauses, pack_recordings
from recipes.embedded_en.decoder_weights import read_decoder_checkpoint
from recipes.embedded_en.encoder_states import save_encoder_states
from recipes.embedded_en.encoder_weights import read_encoder_weights
from recipes.embedded_en.export import export_model
from recipes.embedded_en.hooks import BEST
from recipes.embedded_en.package_files import DECODER, ENCODER, TOKENIZER, find_package_file
from recipes.embedded_en.parallel import available_cpus
from recipes.embedded_en.settings import (
    RARE_WORD_HOURS,
    SEED,
    SYNTHETIC_HOURS,
    TRAINING,
    VARIANTS,
    VOCABULARY_SIZE,
    model_config,
)
from recipes.embedded_en.synthesis import read_sentences, select_rare_words, synthesize
from recipes.embedded_en.tokenizer import load_tokenizer, train_tokenizer
from recipes.embedded_en.train import TrainingJob, load_initial_weights, train
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.transformers import MoonshineForCTC
from stream_asr.errors import StreamASRError
from stream_asr.lm.text import split_paragraphs
from stream_asr.training.checkpoint import save_checkpoint

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    speech: Annotated[
        Path, typer.Option(help="Manifest of the training recordings, with the columns path, text and speaker.")
    ],
    text: Annotated[Path, typer.Option(help="Folder of plain texts (*.txt) for synthetic speech.")],
    work: Annotated[Path, typer.Option(help="Folder for intermediate results. Steps whose result exists are skipped.")],
    output: Annotated[Path, typer.Option(help="Folder for the finished model.")],
    aligner: Annotated[
        str | None,
        typer.Option(
            help="CTC model of English that finds the pauses at which recordings are cut. Default: the bundled model."
        ),
    ] = None,
) -> None:
    """Train a model like the bundled English one, and write a folder for --model.

    Takes a few hours on two CPU cores. To continue an interrupted run, run the same command again. Needs
    pip install --no-deps moonshine-voice==0.0.62 and pip install hibari-tts flatbuffers.
    """
    work.mkdir(parents=True, exist_ok=True)
    try:
        weights = _prepare_weights(work)
        recordings = _prepare_corpus(work / "recordings", lambda progress: _pack(speech, aligner, progress))
        synthetic = _prepare_corpus(work / "synthetic", lambda progress: _synthesize_random(text, progress))
        rare_words = _prepare_corpus(
            work / "rare", lambda progress: _synthesize_rare_words(text, (recordings, synthetic), progress)
        )
        tokenizer = _prepare_tokenizer(work / "tokenizer.json", recordings, text)
        model = MoonshineForCTC(model_config())
        load_initial_weights(model, weights)
        sources = [
            (_prepare_states(work / "states" / folder.name, Corpus.load(folder), model, variants), share)
            for folder, variants, share in (
                (recordings, VARIANTS, 1.0),
                (synthetic, VARIANTS[:1], TRAINING.synthetic),
                (rare_words, VARIANTS[:1], TRAINING.synthetic),
            )
        ]
        job = TrainingJob(work / "training", TRAINING, model_config(), weights, tokenizer, recordings, sources)
        train(job, available_cpus())
        decoder = read_decoder_checkpoint(*map(find_package_file, (DECODER, ENCODER, TOKENIZER)))
        export_model(job.folder / BEST, model_config(), load_tokenizer(tokenizer), output, decoder)
    except StreamASRError as error:
        raise SystemExit(f"error: {error}") from error
    typer.echo(f"saved the model in {output}; try it: stream-asr transcribe --model {output} RECORDING")


def _prepare_weights(work: Path) -> Path:
    weights = work / "encoder.pt"
    if not weights.exists():
        save_checkpoint(weights, read_encoder_weights(find_package_file(ENCODER)))
    return weights


def _prepare_corpus(folder: Path, make: Callable[[Progress], Corpus]) -> Path:
    if not (folder / INDEX).exists():
        with Progress() as progress:
            make(progress).save(folder)
    return folder


def _pack(manifest: Path, aligner: str | None, progress: Progress) -> Corpus:
    packing, aligning = (progress.add_task(task) for task in ("reading recordings", "finding pauses"))
    corpus = pack_recordings(manifest, lambda done, total: progress.update(packing, completed=done, total=total))
    model = load_model(aligner, precision="float32")
    return find_pauses(
        corpus,
        model,
        TRAINING.max_segment_s,
        lambda done, total: progress.update(aligning, completed=done, total=total),
    )


def _synthesize_random(texts: Path, progress: Progress) -> Corpus:
    return _synthesize(read_sentences(_text_files(texts), SEED), SYNTHETIC_HOURS, SEED, progress)


def _synthesize_rare_words(texts: Path, spoken: Sequence[Path], progress: Progress) -> Corpus:
    words = Counter(word for folder in spoken for text in _texts_of(folder) for word in text.split())
    sentences = select_rare_words(read_sentences(_text_files(texts), SEED), words)
    return _synthesize(sentences, RARE_WORD_HOURS, SEED + 1, progress)


def _synthesize(sentences: Sequence[str], hours: float, seed: int, progress: Progress) -> Corpus:
    task = progress.add_task("synthesizing speech", total=hours)
    return synthesize(sentences, hours, seed, lambda done: progress.update(task, completed=done))


def _prepare_tokenizer(path: Path, recordings: Path, texts: Path) -> Path:
    if not path.exists():
        paragraphs = (
            " ".join(words) for file in _text_files(texts) for words in split_paragraphs(file.read_text("utf-8"))
        )
        train_tokenizer((*_texts_of(recordings), *paragraphs), VOCABULARY_SIZE).save(str(path))
    return path


def _prepare_states(folder: Path, corpus: Corpus, model: MoonshineForCTC, variants: Sequence[Variant]) -> Path:
    if not (folder / INDEX).exists():
        with Progress() as progress:
            task = progress.add_task(f"computing encoder states of {folder.name}")
            save_encoder_states(
                corpus,
                model,
                variants,
                SEED,
                folder,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    return folder


def _text_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.txt"))


def _texts_of(folder: Path) -> list[str]:
    return [recording.text for recording in Corpus.load(folder).recordings]


if __name__ == "__main__":
    app()
