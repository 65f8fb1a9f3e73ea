"""Find the weights of the language model for an acoustic model.

    python benchmarks/tune_lm.py --data FOLDER --limit 150
    python benchmarks/tune_lm.py --data FOLDER --lm-weights 0.5,0.75,1 --word-bonuses 0.5,1,2 --unknown-penalties 6,9

Use recordings with transcripts that neither model was trained on, and that are not used to report accuracy. Each
recording passes through the acoustic model once, as a whole. Its frames are then decoded with every combination of
weights, in steps of a commit window. A weight without an option keeps its value from `BeamConfig` in
stream_asr/config.py. Set the best weights there, or pass the weight of the language model with `--lm-weight`. The
real-time factor is that of the beam search alone.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product

import numpy as np
import options
from corpus import read_corpus
from report import Table, format_count, print_tables, track_progress, write_json
from scoring import score

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE, BeamConfig, WindowConfig, ms_to_samples
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.factory import make_decoder
from stream_asr.lm.ngram import NgramModel

_OPTIONS = {
    "lm_weight": "--lm-weights",
    "word_bonus": "--word-bonuses",
    "unknown_penalty": "--unknown-penalties",
}
"""The option of each weight in `BeamConfig`."""


def parse_numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def decode(decoder: Decoder, log_probs: FloatArray, step_frames: int) -> str:
    """Decode the frames of a recording in steps, as a stream commits them."""
    state = decoder.start(0)
    for start in range(0, len(log_probs), step_frames):
        chunk = log_probs[start : start + step_frames]
        state = state.commit(chunk, start + len(chunk))
    return state.finish().text


def main() -> None:
    parser = options.make_parser(__doc__)
    options.add_data_options(parser)
    options.add_model_options(parser)
    parser.add_argument("--width", type=int, help="width of the beam (default: as in stream_asr/config.py)")
    for name, option in _OPTIONS.items():
        parser.add_argument(option, dest=name, type=parse_numbers, metavar="A,B,...")
    arguments = parser.parse_args()
    arguments.second_pass = "none"  # it does not use language models
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
        raise SystemExit("there is no language model to tune; select one with --lm")
    outputs: list[FloatArray] = []
    audio_s = 0.0
    for utterance in track_progress(utterances, "acoustic model"):
        samples = utterance.read_samples()
        audio_s += len(samples) / SAMPLE_RATE
        outputs += model.log_probs([np.pad(samples, (0, -len(samples) % model.frame_samples))])
    windows = recognizer.config.windows or WindowConfig()
    step_frames = ms_to_samples(windows.commit_ms) // model.frame_samples

    def measure(config: BeamConfig, lm: NgramModel | None) -> tuple[float, float]:
        """Return the WER in percent and the real-time factor."""
        decoder = make_decoder(model.labels, model.frame_samples, config, lm)
        start_s = time.process_time()
        texts = [decode(decoder, log_probs, step_frames) for log_probs in outputs]
        return score(references, texts).wer, (time.process_time() - start_s) / audio_s

    greedy_wer, _ = measure(defaults, None)
    results = []
    combinations = list(product(*(getattr(arguments, name) or [getattr(defaults, name)] for name in _OPTIONS)))
    for weights in track_progress(combinations, "beam search"):
        config = replace(defaults, **dict(zip(_OPTIONS, weights, strict=True)))
        results.append((*measure(config, lm), *weights))
    results.sort()
    recordings = format_count(len(utterances), "recording")
    table = Table(
        f"{model.name}: {recordings}, {audio_s / 60:.0f} min; greedy {greedy_wer:.2f} %",
        ("WER", "RTF", *_OPTIONS),
        [(f"{wer:.2f} %", f"{rtf:.4f}", *(f"{weight:g}" for weight in weights)) for wer, rtf, *weights in results],
    )
    print_tables(table)
    if arguments.json:
        data = {"folder": arguments.data, "recordings": len(utterances), "audio_s": audio_s}
        tried = [dict(zip(("wer_percent", "rtf", *_OPTIONS), result, strict=True)) for result in results]
        measured = {"greedy_wer_percent": greedy_wer, "tried": tried}
        write_json(arguments.json, "tune_lm", {**settings, "width": defaults.width}, data, measured, [table])


if __name__ == "__main__":
    options.run_main(main)
