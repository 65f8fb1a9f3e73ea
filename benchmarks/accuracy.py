"""Word error rate of live streams, of file transcription and of passes over whole recordings, with the same model.

    python benchmarks/accuracy.py --data FOLDER [--model M] [--json out/accuracy.json]
    python benchmarks/accuracy.py --data FOLDER --no-lm                 greedy decoding; --lm for another model
    python benchmarks/accuracy.py --data FOLDER --contexts "4 1.6 0.8, 2 1.6 0.8"
    python benchmarks/accuracy.py --data FOLDER --grid "1 2 4, 0.8 1.6, 0.2 0.4 0.8" --plot out/grid.png
    python benchmarks/accuracy.py --data FOLDER --snr 10                with added noise
    python benchmarks/accuracy.py --data FOLDER --by-speaker

WER is micro-averaged over upper-case A to Z and the apostrophe; all other characters are spaces. The streaming penalty
is the WER of live streams minus the WER of passes over whole recordings. Live and file transcripts are also compared
with each other; they must be identical. The real-time factor (RTF) is wall-clock time divided by the duration of the
audio, one recording after another. The noise of --snr is pink and the same in every run.

--contexts compares window sizes: seconds of left context, of committed audio and of right context. --grid takes a list
for each of the three and compares all combinations, in tables and a plot.
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
from report import Table, format_count, peak_memory_mib, print_tables, track_progress, write_json
from scoring import Score, score
from signals import pink_noise
from window_grid import WindowSizes, grid_tables, parse_grid, parse_list, plot_grid

from stream_asr import Final, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.decoding.hotwords import read_hotwords

PATHS = ("whole recording", "whole utterances", "transcribe", "live")
"""Ways to recognize a recording: in one model pass; in one pass for each utterance; in windows; as a live stream."""

_BLOCK_RANGE_S = (0.01, 0.3)
"""Range of the random block durations of live streams."""


@dataclass(slots=True)
class Measurements:
    """Results by the name of the path, in the order of measurement."""

    scores: dict[str, Score] = field(default_factory=dict)
    rtfs: dict[str, float] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def identical(self) -> int | None:
        """Number of recordings with the same live and file transcript; None unless both were measured."""
        both = [self.texts[path] for path in ("transcribe", "live") if path in self.texts]
        return sum(a == b for a, b in zip(*both, strict=True)) if len(both) == 2 else None

    @property
    def streaming_penalty(self) -> float | None:
        """Streaming penalty in percentage points; None unless both paths were measured."""
        if not {"live", "whole recording"} <= self.scores.keys():
            return None
        return self.scores["live"].wer - self.scores["whole recording"].wer


def recognize_whole(recognizer: Recognizer, samples: FloatArray) -> str:
    """Recognize a recording in one pass, or in the longest windows that the model accepts."""
    model = recognizer.model
    padded = np.pad(samples, (0, -len(samples) % model.frame_samples))
    longest = (model.max_window_samples or len(padded)) // model.frame_samples * model.frame_samples
    outputs = (model.log_probs([padded[at : at + longest]])[0] for at in range(0, len(padded), longest))
    return " ".join(recognizer.decoder.start(0).commit(frames, len(frames)).finish().text for frames in outputs)


def recognize_live(recognizer: Recognizer, samples: FloatArray, rng: np.random.Generator) -> str:
    """Recognize a recording as a stream with partials that is fed in blocks of random duration."""
    finals: list[str] = []
    with recognizer.stream() as stream:
        at = 0
        while at < len(samples):
            size = int(rng.uniform(*_BLOCK_RANGE_S) * SAMPLE_RATE)
            stream.feed(samples[at : at + size])
            stream.drain()
            finals += [event.text for event in stream.poll() if isinstance(event, Final)]
            at += size
        stream.finish()
        finals += [event.text for event in stream if isinstance(event, Final)]
    return " ".join(filter(None, finals))


def add_pink_noise(samples: FloatArray, snr_db: float, seed: int) -> FloatArray:
    """Add noise; the ratio relates the mean powers over the whole recording."""
    power = np.mean(np.square(samples, dtype=np.float64)) / 10 ** (snr_db / 10)
    noise = pink_noise(len(samples), np.random.default_rng(seed))
    return np.asarray(samples + noise * np.sqrt(power), dtype=np.float32)


def score_speakers(utterances: Sequence[Utterance], texts: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """Return the word error rate of each speaker by path."""
    rates: dict[str, dict[str, float]] = {}
    for speaker in sorted({utterance.speaker for utterance in utterances}):
        indices = [index for index, utterance in enumerate(utterances) if utterance.speaker == speaker]
        references = [utterances[index].text for index in indices]
        rates[speaker] = {
            path: score(references, [hypotheses[index] for index in indices]).wer for path, hypotheses in texts.items()
        }
    return rates


def recognize_all(
    recognize: Callable[[FloatArray], str], audio: Iterable[FloatArray], description: str
) -> tuple[list[str], float]:
    """Recognize recordings; return the texts and the elapsed seconds."""
    texts, elapsed_s = [], 0.0
    for samples in track_progress(audio, description):
        start = time.perf_counter()
        texts.append(recognize(samples))
        elapsed_s += time.perf_counter() - start
    return texts, elapsed_s


def make_tables(
    title: str, measurements: Measurements, speakers: dict[str, dict[str, float]], recordings: int
) -> list[Table]:
    """Make the table of paths and, unless ``speakers`` is empty, the table of speakers."""
    rows = [
        (
            path,
            f"{result.wer:.2f} %",
            *map(str, (result.substitutions, result.insertions, result.deletions)),
            f"{measurements.rtfs[path]:.4f}",
        )
        for path, result in measurements.scores.items()
    ]
    if measurements.streaming_penalty is not None:
        rows.append(("streaming penalty", f"{measurements.streaming_penalty:+.2f} points"))
    if measurements.identical is not None:
        rows.append(("live identical to transcribe", f"{measurements.identical} of {recordings}"))
    tables = [Table(title, ("", "WER", "S", "I", "D", "RTF"), rows)]
    if speakers:
        speaker_rows = [(speaker, *(f"{rate:.2f} %" for rate in rates.values())) for speaker, rates in speakers.items()]
        tables.append(Table("WER by speaker", ("speaker", *measurements.texts), speaker_rows))
    return tables


def window_sizes(parse: Callable[[str], list[WindowSizes]]) -> Callable[[str], list[WindowSizes]]:
    """Wrap a parser for argparse, which would replace the message of a ValueError by its own."""

    def parse_option(text: str) -> list[WindowSizes]:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parse_option


def parse_arguments() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    options.add_plot_option(parser, "the grid")
    options.add_data_options(parser)
    options.add_model_options(parser)
    parser.add_argument("--hotwords", metavar="FILE", help="words and phrases to boost, one per line")
    selection = parser.add_mutually_exclusive_group()
    selection.add_argument(
        "--contexts",
        type=window_sizes(parse_list),
        default=[],
        metavar='"L C R, ..."',
        help="window sizes to compare: left context, committed audio and right context in seconds",
    )
    selection.add_argument(
        "--grid",
        type=window_sizes(parse_grid),
        default=[],
        metavar='"L ..., C ..., R ..."',
        help="lists of left contexts, committed audio and right contexts; all combinations are compared",
    )
    selection.add_argument("--path", choices=PATHS, action="append", help="path to measure; repeatable (default: all)")
    parser.add_argument("--snr", type=float, metavar="DB", help="add noise with this signal-to-noise ratio")
    parser.add_argument("--by-speaker", action="store_true", help="also print the WER of each speaker")
    arguments = parser.parse_args()
    if arguments.plot and not arguments.grid:
        parser.error("--plot requires --grid")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    hotwords = read_hotwords(arguments.hotwords) if arguments.hotwords else {}
    utterances = read_corpus(arguments.data, arguments.limit)
    audio = [utterance.read_samples() for utterance in utterances]
    if arguments.snr is not None:
        audio = [add_pink_noise(samples, arguments.snr, seed) for seed, samples in enumerate(audio)]
    references = [utterance.text for utterance in utterances]
    audio_s = sum(map(len, audio)) / SAMPLE_RATE
    measurements = Measurements()

    def measure(recognizer: Recognizer, path: str, name: str) -> None:
        rng = np.random.default_rng(1)
        recognize: dict[str, Callable[[FloatArray], str]] = {
            "whole recording": lambda samples: recognize_whole(recognizer, samples),
            "whole utterances": lambda samples: recognizer.transcribe(samples, whole_utterances=True).text,
            "transcribe": lambda samples: recognizer.transcribe(samples).text,
            "live": lambda samples: recognize_live(recognizer, samples, rng),
        }
        measurements.texts[name], elapsed_s = recognize_all(recognize[path], audio, name)
        measurements.scores[name] = score(references, measurements.texts[name])
        measurements.rtfs[name] = elapsed_s / audio_s

    with options.load_recognizer(arguments, hotwords) as recognizer:
        settings = options.model_settings(arguments, recognizer)
        sizes: list[WindowSizes] = arguments.contexts or arguments.grid
        for each in sizes:
            with Recognizer(
                recognizer.model,
                each.config(),
                lm=recognizer.lm,
                hotwords=hotwords,
                second_pass=recognizer.second_pass,
            ) as other:
                measure(other, "transcribe", f"transcribe {each}")
        for path in [] if sizes else arguments.path or PATHS:
            measure(recognizer, path, path)

    words = next(iter(measurements.scores.values())).words
    decoding = {None: "greedy", "auto": "with language model"}.get(settings["lm"], f"language model {settings['lm']}")
    noise = "" if arguments.snr is None else f", noise at {arguments.snr:g} dB SNR"
    recordings = format_count(len(utterances), "recording")
    title = f"{settings['model']}, {decoding}: {recordings}, {audio_s / 3600:.2f} h, {words} words{noise}"
    speakers = score_speakers(utterances, measurements.texts) if arguments.by_speaker else {}
    tables = make_tables(title, measurements, speakers, len(utterances))
    if arguments.grid:
        wers = {each: measurements.scores[f"transcribe {each}"].wer for each in arguments.grid}
        tables += grid_tables(wers)
        if arguments.plot:
            plot_grid(arguments.plot, f"WER of {settings['model']} by window size", wers)
    print_tables(*tables)
    if arguments.json:
        results: dict[str, Any] = {
            "scores": {
                name: {**asdict(result), "rtf": measurements.rtfs[name]} for name, result in measurements.scores.items()
            },
            "streaming_penalty": measurements.streaming_penalty,
            "identical": measurements.identical,
            "speakers": speakers,
            "peak_memory_mib": peak_memory_mib(),
        }
        data = {"folder": arguments.data, "recordings": len(utterances), "audio_s": audio_s, "snr_db": arguments.snr}
        write_json(arguments.json, "accuracy", settings, data, results, tables)


if __name__ == "__main__":
    options.run_main(main)
