"""Speed of file transcription with one thread and with all threads, compared with the pipeline of Transformers.

    python benchmarks/offline.py                                        the bundled recording
    python benchmarks/offline.py --data FOLDER --seconds 300 --json out/offline.json --plot out/offline.png

The pipeline ("automatic-speech-recognition", with chunk_length_s and stride_length_s) runs the same weights with the
same precision (float16 on CUDA, otherwise float32) in the same process: in chunks of 10 s with strides of 4 and 2 s,
and in chunks of 30 s with strides of 5 s. stream_asr is measured with greedy decoding, as in the pipeline, and with the
language model; with one model pass per utterance (--whole-utterances of `stream-asr transcribe`) and with the windows
of live captions. "difference" is the word error rate relative to the greedy text of whole utterances. Part of the
difference is due to segmentation: stream_asr splits the audio at pauses and the pipeline does not.

A model of the size of wav2vec2-base with random weights represents larger models; only its speed is meaningful, so its
texts are not compared. Each method runs --repeat times, and the fastest run is reported.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import options
import torch
from corpus import Playlist, make_playlist, read_corpus
from recognizers.adapters.transformers_pipeline import TransformersPipeline
from report import Table, format_count, peak_memory_mib, plot, print_tables, usable_threads, write_json
from rich.console import Console
from scoring import score
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
)
from transformers.utils import logging

from stream_asr import Recognizer
from stream_asr.acoustic.options import pick_device
from stream_asr.acoustic.pretrained import Pretrained, load_pretrained
from stream_asr.array_types import FloatArray

_PIPELINE_CHUNKS = ((10.0, (4.0, 2.0)), (30.0, (5.0, 5.0)))
"""Chunk lengths with left and right strides, in seconds."""

_VOCABULARY = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")

Transcribe = Callable[[FloatArray], str]


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of one method.

    Attributes:
        rtf: elapsed seconds per second of audio.
        difference: word error rate in percent relative to the greedy text of whole utterances; None for random models.
    """

    model: str
    method: str
    threads: int
    rtf: float
    difference: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures for the JSON report."""
        return {
            "model": self.model,
            "way": self.method,
            "threads": self.threads,
            "rtf": self.rtf,
            "differs": self.difference,
        }


@contextmanager
def random_wav2vec2_base() -> Iterator[Path]:
    """Create the folder of a checkpoint with the architecture of wav2vec2-base and random weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "random-wav2vec2-base"
        torch.manual_seed(1)
        Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(_VOCABULARY))).save_pretrained(folder)
        Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
        vocabulary = folder / "vocab.json"
        vocabulary.write_text(json.dumps({token: index for index, token in enumerate(_VOCABULARY)}), encoding="utf-8")
        Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
        yield folder


def transcribe_text(recognizer: Recognizer, samples: FloatArray, *, whole_utterances: bool) -> str:
    """Transcribe samples and return the text."""
    return recognizer.transcribe(samples, whole_utterances=whole_utterances).text


def measure_fastest(transcribe: Transcribe, playlist: Playlist, repeat: int) -> tuple[str, float]:
    """Transcribe ``repeat`` times; return the text and the real-time factor of the fastest run."""
    text, elapsed_s = "", []
    for _ in range(repeat):
        start = time.perf_counter()
        text = transcribe(playlist.samples)
        elapsed_s.append(time.perf_counter() - start)
    return text, min(elapsed_s) / playlist.duration_s


def compare_methods(
    recognizer: Recognizer,
    pretrained: Pretrained,
    device: torch.device,
    playlist: Playlist,
    threads: int,
    repeat: int,
    *,
    is_trained: bool,
) -> list[Speed]:
    """Measure all methods with one model.

    Args:
        pretrained: the recognizer's model, loaded by Transformers.
        is_trained: whether the weights are trained, so that texts can be compared.
    """
    greedy = Recognizer(recognizer.model)
    methods: dict[str, Transcribe] = {}
    recognizers = {"greedy": greedy} if recognizer.lm is None else {"greedy": greedy, "language model": recognizer}
    for decoding, each in recognizers.items():
        methods[f"stream_asr, {decoding}, whole utterances"] = partial(transcribe_text, each, whole_utterances=True)
        methods[f"stream_asr, {decoding}, live windows"] = partial(transcribe_text, each, whole_utterances=False)
    pipeline = TransformersPipeline(pretrained, device)
    for chunk_s, strides_s in _PIPELINE_CHUNKS:
        methods[f"pipeline, {chunk_s:g} s chunks"] = partial(pipeline.transcribe, chunk_s=chunk_s, strides_s=strides_s)
    speeds: list[Speed] = []
    reference = ""
    description = f"{pretrained.name}, {format_count(threads, 'thread')}"
    with greedy, Console(stderr=True).status(description) as status:
        for method, transcribe in methods.items():
            status.update(f"{description}: {method}")
            text, rtf = measure_fastest(transcribe, playlist, repeat)
            reference = reference or text
            difference = score([reference], [text]).wer if is_trained and reference else None
            speeds.append(Speed(pretrained.name, method, threads, rtf, difference))
    return speeds


def speed_table(speeds: list[Speed], audio_s: float) -> Table:
    """Make a table. Speeds are relative to the first method with the same model and number of threads."""
    rows, first = [], speeds[0]
    for speed in speeds:
        if (speed.model, speed.threads) != (first.model, first.threads):
            first = speed
        difference = "" if speed.difference is None else f"{speed.difference:.1f} %"
        relative = f"{speed.rtf / first.rtf:.2f}"
        name = f"{Path(speed.model).name}, {speed.method}"
        rows.append((name, str(speed.threads), f"{speed.rtf:.4f}", relative, difference))
    columns = ("", "threads", "real-time factor", "relative to first", "difference")
    return Table(f"Transcription of {audio_s:.0f} s of audio", columns, rows)


def plot_speeds(path: Path, speeds: list[Speed]) -> None:
    """Plot the real-time factor of each method as a bar."""
    with plot(path, "Speed of transcription", "elapsed seconds per second of audio", "") as axes:
        names = [
            f"{Path(speed.model).name}\n{speed.method}, {format_count(speed.threads, 'thread')}" for speed in speeds
        ]
        axes.barh(names, [speed.rtf for speed in speeds])
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelsize=7)


def main() -> None:
    parser = options.make_parser(__doc__)
    options.add_plot_option(parser, "the real-time factors")
    options.add_data_options(parser)
    options.add_playlist_options(parser, 30)
    parser.add_argument("--model", help="hub name or folder (default: the bundled model)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument(
        "--repeat",
        type=options.positive_integer,
        default=3,
        help="runs per method, of which the fastest is reported (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=options.positive_integer,
        action="append",
        help="number of CPU threads; repeatable (default: 1, and all)",
    )
    parser.add_argument("--no-base", action="store_true", help="omit the random model of the size of wav2vec2-base")
    arguments = parser.parse_args()

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    playlist = make_playlist(read_corpus(arguments.data, arguments.limit), arguments.seconds, arguments.seed)
    device = pick_device(arguments.device)
    precision = "float16" if device.type == "cuda" else "float32"
    speeds: list[Speed] = []
    with ExitStack() as stack:
        models = [(arguments.model, True)]
        if not arguments.no_base:
            models.append((str(stack.enter_context(random_wav2vec2_base())), False))
        for model, is_trained in models:
            for threads in arguments.threads or sorted({1, usable_threads()}):
                with Recognizer.from_pretrained(
                    model, device=device.type, threads=threads, precision=precision, second_pass=None
                ) as recognizer:
                    pretrained = load_pretrained(model, dtype=getattr(torch, precision))
                    speeds += compare_methods(
                        recognizer, pretrained, device, playlist, threads, arguments.repeat, is_trained=is_trained
                    )
    table = speed_table(speeds, playlist.duration_s)
    print_tables(table)
    if arguments.plot:
        plot_speeds(arguments.plot, speeds)
    if arguments.json:
        settings = {
            "model": arguments.model,
            "device": device.type,
            "precision": precision,
            "repeat": arguments.repeat,
        }
        data = {"folder": arguments.data, "recordings": len(playlist.items), "audio_s": playlist.duration_s}
        results = {"speeds": [speed.to_json() for speed in speeds], "peak_memory_mib": peak_memory_mib()}
        write_json(arguments.json, "offline", settings, data, results, [table])


if __name__ == "__main__":
    options.run_main(main)
