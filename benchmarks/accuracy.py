"""Word error rate of the live path, of file transcription and of passes over whole recordings by the same model.

    python benchmarks/accuracy.py --data FOLDER [--model M] [--json out/accuracy.json]
    python benchmarks/accuracy.py --data FOLDER --no-lm                 greedy, or another --lm
    python benchmarks/accuracy.py --data FOLDER --contexts "4 1.6 0.8, 2 1.6 0.8"
    python benchmarks/accuracy.py --data FOLDER --grid "1 2 4, 0.8 1.6, 0.2 0.4 0.8" --plot out/grid.png
    python benchmarks/accuracy.py --data FOLDER --snr 10                with noise
    python benchmarks/accuracy.py --data FOLDER --by-speaker

WER is micro-averaged over upper-case A to Z and the apostrophe, everything else being a space. The streaming
penalty is the live path's WER less that of passes over whole recordings. Live and file transcripts are also compared
utterance by utterance: they must be the same. Real-time factors are wall-clock seconds for a second of audio,
one recording after the other. Noise is pink, as far below the recording as --snr says, and the same in every run.

--contexts compares windows: seconds of left context, of what is kept at a time, and of right context. --grid takes
lists of the three and compares all combinations, in a table and a plot.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import options
from corpus import Utterance, read_corpus
from grid import Windows, draw_grid, grid, grid_tables, listed
from report import Table, peak_memory_mib, show, write_json
from rich.progress import track
from scoring import Score, score
from sound import pink_noise

from stream_asr import Final, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.decoding.hotwords import read_hotwords

PATHS = ("whole recording", "whole utterances", "transcribe", "live")
"""The first is one pass over a recording as it is, the second `transcribe` with one over each utterance found in it."""

_CHUNK_S = (0.01, 0.3)
"""Range of the random block lengths that the live path is fed with."""


@dataclass(slots=True)
class Measured:
    """What was found for each way, by its name, in the order of running."""

    scores: dict[str, Score] = field(default_factory=dict)
    rtfs: dict[str, float] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def identical(self) -> int | None:
        """How many live transcripts are those of `transcribe`; None unless both ways were run."""
        both = [self.texts[way] for way in ("transcribe", "live") if way in self.texts]
        return sum(a == b for a, b in zip(*both, strict=True)) if len(both) == 2 else None

    @property
    def penalty(self) -> float | None:
        """Points that streaming costs; None unless both ways were run."""
        if not {"live", "whole recording"} <= self.scores.keys():
            return None
        return self.scores["live"].wer - self.scores["whole recording"].wer


def whole(recognizer: Recognizer, samples: FloatArray) -> str:
    """One pass over everything; long recordings in pieces of the model's longest input."""
    model = recognizer.model
    padded = np.pad(samples, (0, -len(samples) % model.frame_samples))
    longest = (model.longest_samples or len(padded)) // model.frame_samples * model.frame_samples
    outputs = (model.log_probs([padded[at : at + longest]])[0] for at in range(0, len(padded), longest))
    return " ".join(recognizer.decoder.start(0).commit(frames, len(frames)).finish().text for frames in outputs)


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
    """The ratio is that of mean powers over the whole recording."""
    wanted = np.mean(np.square(samples, dtype=np.float64)) / 10 ** (snr_db / 10)
    return (samples + pink_noise(len(samples), np.random.default_rng(seed)) * np.sqrt(wanted)).astype(np.float32)


def by_speaker(utterances: Sequence[Utterance], texts: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """From a speaker to the way to the word error rate."""
    found: dict[str, dict[str, float]] = {}
    for speaker in sorted({utterance.speaker for utterance in utterances}):
        own = [place for place, utterance in enumerate(utterances) if utterance.speaker == speaker]
        references = [utterances[place].text for place in own]
        found[speaker] = {
            way: score(references, [written[place] for place in own]).wer for way, written in texts.items()
        }
    return found


def timed(recognize: Callable[[FloatArray], str], audio: Iterable[FloatArray], what: str) -> tuple[list[str], float]:
    texts, seconds = [], 0.0
    for samples in track(list(audio), what, transient=True):
        start = time.perf_counter()
        texts.append(recognize(samples))
        seconds += time.perf_counter() - start
    return texts, seconds


def tables(title: str, found: Measured, speakers: dict[str, dict[str, float]], count: int) -> list[Table]:
    rows = [
        (
            way,
            f"{result.wer:.2f} %",
            *map(str, (result.substitutions, result.insertions, result.deletions)),
            f"{found.rtfs[way]:.4f}",
        )
        for way, result in found.scores.items()
    ]
    if found.penalty is not None:
        rows.append(("streaming penalty", f"{found.penalty:+.2f} points"))
    if found.identical is not None:
        rows.append(("live text is that of transcribe", f"{found.identical} of {count}"))
    made = [Table(title, ("", "WER", "S", "I", "D", "RTF"), rows)]
    if speakers:
        by_way = [(speaker, *(f"{rate:.2f} %" for rate in rates.values())) for speaker, rates in speakers.items()]
        made.append(Table("word error rates of speakers", ("speaker", *found.texts), by_way))
    return made


def windows_of(parse: Callable[[str], list[Windows]]) -> Callable[[str], list[Windows]]:
    """For argparse, which would not tell what is wrong."""

    def read(text: str) -> list[Windows]:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return read


def parsed() -> argparse.Namespace:
    parser = options.parser(__doc__)
    options.add_plot(parser, "the grid")
    options.add_data(parser)
    options.add_model(parser)
    parser.add_argument("--hotwords", help="file of words and phrases to listen for")
    windows = parser.add_mutually_exclusive_group()
    windows.add_argument("--contexts", type=windows_of(listed), default=[], metavar='"L C R, ..."')
    windows.add_argument("--grid", type=windows_of(grid), default=[], metavar='"L ..., C ..., R ..."')
    windows.add_argument("--path", choices=PATHS, action="append", help="only this one; may be repeated (all)")
    parser.add_argument("--snr", type=float, metavar="DB", help="add noise, so many decibels below each recording")
    parser.add_argument("--by-speaker", action="store_true", help="also the figures of every speaker")
    arguments = parser.parse_args()
    if arguments.plot and not arguments.grid:
        parser.error("--plot draws the grid, so it needs --grid")
    return arguments


def main() -> None:
    arguments = parsed()
    utterances = read_corpus(arguments.data, arguments.limit)
    audio = [utterance.samples() for utterance in utterances]
    if arguments.snr is not None:
        audio = [with_pink_noise(samples, arguments.snr, seed) for seed, samples in enumerate(audio)]
    references = [utterance.text for utterance in utterances]
    audio_s = sum(map(len, audio)) / SAMPLE_RATE
    hotwords = read_hotwords(arguments.hotwords) if arguments.hotwords else {}
    found = Measured()

    def run(recognizer: Recognizer, path: str, name: str) -> None:
        rng = np.random.default_rng(1)
        ways: dict[str, Callable[[FloatArray], str]] = {
            "whole recording": lambda samples: whole(recognizer, samples),
            "whole utterances": lambda samples: recognizer.transcribe(samples, whole_utterances=True).text,
            "transcribe": lambda samples: recognizer.transcribe(samples).text,
            "live": lambda samples: live(recognizer, samples, rng),
        }
        found.texts[name], seconds = timed(ways[path], audio, name)
        found.scores[name], found.rtfs[name] = score(references, found.texts[name]), seconds / audio_s

    with options.recognizer(arguments, hotwords=hotwords) as recognizer:
        settings = options.model_settings(arguments, recognizer)
        chosen: list[Windows] = arguments.contexts or arguments.grid
        for windows in chosen:
            with Recognizer(recognizer.model, windows.config(), lm=recognizer.lm, hotwords=hotwords) as other:
                run(other, "transcribe", f"transcribe {windows}")
        for path in [] if chosen else arguments.path or PATHS:
            run(recognizer, path, path)

    words = next(iter(found.scores.values())).words
    by = "greedy" if settings["lm"] is None else f"language model {settings['lm']}"
    noise = "" if arguments.snr is None else f", noise at {arguments.snr:g} dB"
    title = f"{settings['model']}, {by}: {len(utterances)} recordings, {audio_s / 3600:.2f} h, {words} words{noise}"
    speakers = by_speaker(utterances, found.texts) if arguments.by_speaker else {}
    shown = tables(title, found, speakers, len(utterances))
    if arguments.grid:
        wers = {windows: found.scores[f"transcribe {windows}"].wer for windows in arguments.grid}
        shown += grid_tables(wers)
        if arguments.plot:
            draw_grid(arguments.plot, f"What context is worth: WER of {settings['model']}", wers)
    show(*shown)
    if arguments.json:
        results: dict[str, Any] = {
            "scores": {name: {**asdict(result), "rtf": found.rtfs[name]} for name, result in found.scores.items()},
            "streaming_penalty": found.penalty,
            "identical": found.identical,
            "speakers": speakers,
            "peak_memory_mib": peak_memory_mib(),
        }
        data = {"folder": arguments.data, "recordings": len(utterances), "audio_s": audio_s, "snr_db": arguments.snr}
        write_json(arguments.json, "accuracy", settings, data, results, shown)


if __name__ == "__main__":
    options.run(main)
