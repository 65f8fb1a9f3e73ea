"""Find the weights of the language model for an acoustic model, on recordings with transcripts.

    python benchmarks/tune_lm.py --data FOLDER --limit 150
    python benchmarks/tune_lm.py --data FOLDER --lm-weights 0.5,0.75,1 --word-bonuses 0.5,1,2 --unknown-penalties 6,9

The recordings should be none that either model was made of, and none that accuracy is reported on. Each is
recognised once, in one pass; then its frames are decoded with every combination, kept as much at a time as in a
stream. What is not named is tried as it is in `BeamConfig` in stream_asr/config.py, where the best goes, unless it is
given to `--lm-weight`. The real-time factor is the search's alone.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product

import numpy as np
import options
from corpus import read_corpus
from report import Table, print_tables, write_json
from rich.progress import track
from scoring import score

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE, BeamConfig, WindowConfig, ms_to_samples
from stream_asr.decoding.base import Decoder, DecoderState
from stream_asr.decoding.factory import make_decoder
from stream_asr.lm.ngram import NgramModel

_OPTIONS = {
    "lm_weight": "--lm-weights",
    "word_bonus": "--word-bonuses",
    "unknown_penalty": "--unknown-penalties",
}
"""By what they are called in `BeamConfig`."""


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def decoded(decoder: Decoder, log_probs: FloatArray, step: int) -> DecoderState:
    """Kept in pieces of ``step`` frames."""
    decoding = decoder.start(0)
    for at in range(0, len(log_probs), step):
        piece = log_probs[at : at + step]
        decoding = decoding.commit(piece, at + len(piece))
    return decoding


def main() -> None:
    parser = options.make_parser(__doc__)
    options.add_data_options(parser)
    options.add_model_options(parser)
    parser.add_argument("--width", type=int, help="of the beam (as in stream_asr/config.py)")
    for name, option in _OPTIONS.items():
        parser.add_argument(option, dest=name, type=numbers, metavar="A,B,...")
    arguments = parser.parse_args()
    defaults = BeamConfig()
    if arguments.width is not None:
        preview_width = min(defaults.preview_width, arguments.width)
        defaults = replace(defaults, width=arguments.width, preview_width=preview_width)

    utterances = read_corpus(arguments.data, arguments.limit)
    references = [utterance.text for utterance in utterances]
    with options.load_recognizer(arguments) as recognizer:
        model, lm = recognizer.model, recognizer.lm
        settings = options.model_settings(arguments, recognizer)
    if lm is None:
        raise SystemExit("there is no language model to find weights for; name one with --lm")
    frames, audio_s = [], 0.0
    for utterance in track(utterances, "the acoustic model", transient=True):
        samples = utterance.read_samples()
        audio_s += len(samples) / SAMPLE_RATE
        frames.append(model.log_probs([np.pad(samples, (0, -len(samples) % model.frame_samples))])[0])
    windows = recognizer.config.windows or WindowConfig()
    step = ms_to_samples(windows.commit_ms) // model.frame_samples

    def measured(config: BeamConfig, lm: NgramModel | None) -> tuple[float, float]:
        decoder = make_decoder(model.labels, model.frame_samples, config, lm)
        start = time.process_time()
        texts = [decoded(decoder, log_probs, step).finish().text for log_probs in frames]
        return score(references, texts).wer, (time.process_time() - start) / audio_s

    greedy, _ = measured(defaults, None)
    results = []
    combinations = list(product(*(getattr(arguments, name) or [getattr(defaults, name)] for name in _OPTIONS)))
    for combination in track(combinations, "the search", transient=True):
        config = replace(defaults, **dict(zip(_OPTIONS, combination, strict=True)))
        results.append((*measured(config, lm), *combination))
    table = Table(
        f"{model.name}: {len(utterances)} recordings, {audio_s / 60:.0f} min; greedy {greedy:.2f} %",
        ("WER", "RTF", *_OPTIONS),
        [
            (f"{error:.2f} %", f"{rtf:.4f}", *(f"{weight:g}" for weight in weights))
            for error, rtf, *weights in sorted(results)
        ],
    )
    print_tables(table)
    if arguments.json:
        data = {"folder": arguments.data, "recordings": len(utterances), "audio_s": audio_s}
        tried = [dict(zip(("wer_percent", "rtf", *_OPTIONS), result, strict=True)) for result in sorted(results)]
        written = {"greedy_wer_percent": greedy, "tried": tried}
        write_json(arguments.json, "tune_lm", {**settings, "width": defaults.width}, data, written, [table])


if __name__ == "__main__":
    options.run_main(main)
