"""Word error rate of the live path, of file transcription and of whole-utterance passes by the same model.

    python benchmarks/accuracy.py --data FOLDER [--model M] [--json out/accuracy.json]
    python benchmarks/accuracy.py --data FOLDER --no-lm                 greedy, or another --lm
    python benchmarks/accuracy.py --data FOLDER --contexts "4 1.6 0.8, 2 1.6 0.8"
    python benchmarks/accuracy.py --data FOLDER --snr 10                with noise
    python benchmarks/accuracy.py --data FOLDER --by-speaker

WER is micro-averaged over upper-case A to Z and the apostrophe, everything else being a space. The streaming
penalty is the live path's WER less that of whole-utterance passes. Live and file transcripts are also compared
utterance by utterance: they must be the same. Real-time factors are wall-clock seconds for a second of audio,
one recording after the other. Noise is pink, as far below the recording as --snr says, and the same in every run.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
import numpy as np
from corpus import Utterance, read_corpus
from report import machine
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stream_asr import EngineConfig, Final, Recognizer, RecognizerConfig, WindowConfig
from stream_asr.arrays import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.lm.files import read_hotwords

PATHS = ("whole utterance", "transcribe", "live")

_CHUNK_S = (0.01, 0.3)
"""Range of the random block lengths that the live path is fed with."""


@dataclass(frozen=True, slots=True)
class Score:
    wer: float
    substitutions: int
    insertions: int
    deletions: int
    words: int
    rtf: float


def normalized(text: str) -> str:
    return " ".join(re.sub(r"[^A-Z']", " ", text.upper()).split())


def score(references: list[str], hypotheses: list[str], seconds: float, audio_s: float) -> Score:
    output = jiwer.process_words([normalized(text) for text in references], [normalized(text) for text in hypotheses])
    words = output.hits + output.substitutions + output.deletions
    return Score(100 * output.wer, output.substitutions, output.insertions, output.deletions, words, seconds / audio_s)


def whole(recognizer: Recognizer, samples: FloatArray) -> str:
    """One pass over everything; long recordings in pieces of the model's longest input."""
    model = recognizer.model
    padded = np.pad(samples, (0, -len(samples) % model.frame_samples))
    longest = (model.longest_samples or len(padded)) // model.frame_samples * model.frame_samples
    outputs = (model.log_probs([padded[at : at + longest]])[0] for at in range(0, len(padded), longest))
    return " ".join(recognizer.decoder.start(0).keep(frames, len(frames)).finish().text for frames in outputs)


def live(recognizer: Recognizer, samples: FloatArray, rng: np.random.Generator) -> str:
    """Fed in blocks of random length; partials and all."""
    finals: list[str] = []
    with recognizer.stream() as stream:
        at = 0
        while at < len(samples):
            size = int(rng.uniform(*_CHUNK_S) * SAMPLE_RATE)
            stream.feed(samples[at : at + size])
            stream.drain()
            finals += [event.text for event in stream.poll() if isinstance(event, Final)]
            at += size
        stream.finish()
        finals += [event.text for event in stream if isinstance(event, Final)]
    return " ".join(filter(None, finals))


def with_pink_noise(samples: FloatArray, snr_db: float, seed: int) -> FloatArray:
    """The power of the noise falls as 1/f; the ratio is that of mean powers over the whole recording."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(samples)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), len(samples))
    wanted = np.mean(np.square(samples, dtype=np.float64)) / 10 ** (snr_db / 10)
    return (samples + noise * np.sqrt(wanted / np.mean(np.square(noise)))).astype(np.float32)


def by_speaker(utterances: list[Utterance], texts: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """From a speaker to the path to the word error rate."""
    found: dict[str, dict[str, float]] = {}
    for speaker in sorted({utterance.speaker for utterance in utterances}):
        own = [place for place, utterance in enumerate(utterances) if utterance.speaker == speaker]
        references = [utterances[place].text for place in own]
        found[speaker] = {
            path: score(references, [written[place] for place in own], 0, 1).wer for path, written in texts.items()
        }
    return found


def timed(recognize: Callable[[FloatArray], str], audio: Iterable[FloatArray], what: str) -> tuple[list[str], float]:
    texts, seconds = [], 0.0
    for samples in track(list(audio), what, transient=True):
        start = time.perf_counter()
        texts.append(recognize(samples))
        seconds += time.perf_counter() - start
    return texts, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings (see corpus.py)")
    parser.add_argument("--limit", type=int, help="utterances used (all)")
    parser.add_argument("--model", help="hub name or folder (the embedded model)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", default="auto")
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--lm", default="auto", help="language model (the bundled one for the embedded model)")
    words.add_argument("--no-lm", dest="lm", action="store_const", const=None, help="without one")
    parser.add_argument("--hotwords", type=Path, help="file of words and phrases to listen for")
    parser.add_argument(
        "--contexts", default="", help='seconds of left context, commit and right context: "4 1.6 0.8, ..."'
    )
    parser.add_argument("--path", choices=PATHS, action="append", help="only this one; may be repeated (all three)")
    parser.add_argument("--snr", type=float, metavar="DB", help="add noise, so many decibels below each recording")
    parser.add_argument("--by-speaker", action="store_true", help="also the figures of every speaker")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    utterances: list[Utterance] = read_corpus(arguments.data, arguments.limit)
    audio = [utterance.samples() for utterance in utterances]
    if arguments.snr is not None:
        audio = [with_pink_noise(samples, arguments.snr, seed) for seed, samples in enumerate(audio)]
    references = [utterance.text for utterance in utterances]
    audio_s = sum(map(len, audio)) / SAMPLE_RATE
    hotwords = read_hotwords(arguments.hotwords) if arguments.hotwords else {}
    base = Recognizer.from_pretrained(
        arguments.model, threads=arguments.threads, precision=arguments.precision, lm=arguments.lm
    )
    model, lm = base.model, base.lm
    base.close()

    def measured(recognizer: Recognizer, path: str) -> tuple[Score, list[str]]:
        rng = np.random.default_rng(1)
        ways: dict[str, Callable[[FloatArray], str]] = {
            "whole utterance": lambda samples: whole(recognizer, samples),
            "transcribe": lambda samples: recognizer.transcribe(samples).text,
            "live": lambda samples: live(recognizer, samples, rng),
        }
        texts, seconds = timed(ways[path], audio, path)
        return score(references, texts, seconds, audio_s), texts

    scores: dict[str, Score] = {}
    texts: dict[str, list[str]] = {}
    if arguments.contexts:
        for setting in arguments.contexts.split(","):
            left_ms, commit_ms, right_ms = (round(float(value) * 1000) for value in setting.split())
            config = RecognizerConfig(
                windows=WindowConfig(left_context_ms=left_ms, commit_ms=commit_ms, right_context_ms=right_ms),
                engine=EngineConfig(overload_lag_ms=commit_ms + right_ms + 2000, buffer_ms=60_000),
            )
            with Recognizer(model, config, lm=lm, hotwords=hotwords) as recognizer:
                path = f"transcribe {setting.strip()}"
                scores[path], texts[path] = measured(recognizer, "transcribe")
    else:
        with Recognizer(model, lm=lm, hotwords=hotwords) as recognizer:
            for path in arguments.path or PATHS:
                scores[path], texts[path] = measured(recognizer, path)

    both = [texts[path] for path in ("transcribe", "live") if path in texts]
    identical = sum(a == b for a, b in zip(*both, strict=True)) if len(both) == 2 else None
    words = next(iter(scores.values())).words
    words_by = "greedy" if lm is None else f"language model {arguments.lm}"
    noise = "" if arguments.snr is None else f", noise at {arguments.snr:g} dB"
    table = Table(
        title=f"{model.name}, {words_by}: {len(utterances)} recordings, {audio_s / 3600:.2f} h, {words} words{noise}"
    )
    for column in ("", "WER", "S", "I", "D", "RTF"):
        table.add_column(column, justify="right")
    for name, result in scores.items():
        counts = (result.substitutions, result.insertions, result.deletions)
        table.add_row(name, f"{result.wer:.2f} %", *map(str, counts), f"{result.rtf:.4f}")
    console = Console()
    console.print(table)
    if {"live", "whole utterance"} <= scores.keys():
        console.print(f"streaming penalty: {scores['live'].wer - scores['whole utterance'].wer:+.2f} points")
    if identical is not None:
        console.print(f"live transcripts identical to transcribe's: {identical} of {len(utterances)}")
    speakers = by_speaker(utterances, texts) if arguments.by_speaker else {}
    if speakers:
        table = Table("speaker", *(f"{path}, WER" for path in texts))
        for speaker, rates in speakers.items():
            table.add_row(speaker, *(f"{rate:.2f} %" for rate in rates.values()))
        console.print(table)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        report = {
            "model": model.name,
            "lm": None if lm is None else arguments.lm,
            "data": str(arguments.data),
            "snr_db": arguments.snr,
            "recordings": len(utterances),
            "audio_s": audio_s,
            "machine": machine(),
            "identical": identical,
            "speakers": speakers,
            "scores": {name: asdict(result) for name, result in scores.items()},
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
