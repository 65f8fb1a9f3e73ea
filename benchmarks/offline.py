"""How fast recordings are transcribed, with one thread and with all, beside Transformers' own pipeline.

    python benchmarks/offline.py                                        the bundled recording
    python benchmarks/offline.py --data FOLDER --seconds 300 --json out/offline.json --plot out/offline.png

The pipeline ("automatic-speech-recognition", with chunk_length_s and stride_length_s) runs the same weights in the
same precision (float16 on CUDA, else float32) in the same process, once in chunks of 10 s with strides of 4 and 2 s,
and once in chunks of 30 s with 5 s on either side. Ours are measured greedy, as the pipeline decodes, and with the
language model; with each utterance heard in one pass (--whole-utterances of `stream-asr transcribe`) and in the windows
of live captions. "Differs" is the word error rate against our greedy text of whole utterances; some of it is left
because we cut at pauses, and the pipeline does not.

For the size that people use there is a model as large as wav2vec2-base, whose weights are random: only its speed means
anything, and its texts are not compared. Each way is run --repeat times; the fastest counts.
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

import options
import torch
from corpus import Programme, assembled, read_corpus
from recognizers.pipeline import Pipeline
from report import Table, peak_memory_mib, plot, show, usable_threads, write_json
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
from stream_asr.acoustic.loading import pick_device
from stream_asr.acoustic.pretrained import Pretrained, load_pretrained
from stream_asr.array_types import FloatArray

_CHUNKS = ((10.0, (4.0, 2.0)), (30.0, (5.0, 5.0)))
"""Length and strides, in seconds."""

_LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")

Transcribe = Callable[[FloatArray], str]


@dataclass(frozen=True, slots=True)
class Speed:
    """One way to transcribe.

    Attributes:
        rtf: seconds of work for a second of audio.
        differs: word error rate against our greedy text of whole utterances, in percent; None where it means nothing.
    """

    model: str
    way: str
    threads: int
    rtf: float
    differs: float | None


@contextmanager
def random_base() -> Iterator[Path]:
    """The folder of a checkpoint as large as wav2vec2-base that knows nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "random-wav2vec2-base"
        torch.manual_seed(1)
        Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(_LETTERS))).save_pretrained(folder)
        Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
        vocabulary = folder / "vocab.json"
        vocabulary.write_text(json.dumps({letter: place for place, letter in enumerate(_LETTERS)}), encoding="utf-8")
        Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
        yield folder


def written(recognizer: Recognizer, samples: FloatArray, *, whole_utterances: bool) -> str:
    return recognizer.transcribe(samples, whole_utterances=whole_utterances).text


def fastest(transcribe: Transcribe, programme: Programme, repeat: int) -> tuple[str, float]:
    """The text, and the real-time factor of the fastest of ``repeat`` passes."""
    text, seconds = "", []
    for _ in range(repeat):
        start = time.perf_counter()
        text = transcribe(programme.samples)
        seconds.append(time.perf_counter() - start)
    return text, min(seconds) / programme.seconds


def compared(
    recognizer: Recognizer,
    loaded: Pretrained,
    device: torch.device,
    programme: Programme,
    threads: int,
    repeat: int,
    *,
    speaks: bool,
) -> list[Speed]:
    """All ways with one model.

    Args:
        loaded: the recognizer's model, as Transformers has it.
        speaks: its texts mean something.
    """
    greedy = Recognizer(recognizer.model)
    ways: dict[str, Transcribe] = {}
    spellers = {"greedy": greedy} if recognizer.lm is None else {"greedy": greedy, "language model": recognizer}
    for words, ours in spellers.items():
        ways[f"stream_asr, {words}, whole utterances"] = partial(written, ours, whole_utterances=True)
        ways[f"stream_asr, {words}, windows of live captions"] = partial(written, ours, whole_utterances=False)
    theirs = Pipeline(loaded, device)
    for chunk_s, strides_s in _CHUNKS:
        ways[f"pipeline, chunks of {chunk_s:g} s"] = partial(theirs.transcribe, chunk_s=chunk_s, strides_s=strides_s)
    found: list[Speed] = []
    reference = ""
    with greedy, Console(stderr=True).status(f"{loaded.name}, {threads} thread(s)") as status:
        for way, transcribe in ways.items():
            status.update(f"{loaded.name}, {threads} thread(s): {way}")
            text, rtf = fastest(transcribe, programme, repeat)
            reference = reference or text
            differs = score([reference], [text]).wer if speaks and reference else None
            found.append(Speed(loaded.name, way, threads, rtf, differs))
    return found


def table(speeds: list[Speed], audio_s: float) -> Table:
    """Each way beside the first of its group, which is greedy over whole utterances, same model and threads."""
    rows, ours = [], speeds[0]
    for speed in speeds:
        if (speed.model, speed.threads) != (ours.model, ours.threads):
            ours = speed
        differs = "" if speed.differs is None else f"{speed.differs:.1f} %"
        times = f"{speed.rtf / ours.rtf:.2f}"
        rows.append((f"{Path(speed.model).name}, {speed.way}", str(speed.threads), f"{speed.rtf:.4f}", times, differs))
    title = f"transcribing {audio_s:.0f} s of sound"
    return Table(title, ("", "threads", "real-time factor", "times the first", "differs"), rows)


def draw(path: Path, speeds: list[Speed]) -> None:
    with plot(path, "How long transcribing takes", "seconds of work for a second of sound", "") as axes:
        names = [f"{Path(speed.model).name}\n{speed.way}, {speed.threads} thread(s)" for speed in speeds]
        axes.barh(names, [speed.rtf for speed in speeds])
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelsize=7)


def main() -> None:
    parser = options.parser(__doc__)
    options.add_plot(parser, "real-time factors")
    options.add_data(parser)
    parser.add_argument("--model", help="hub name or folder (the embedded model)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    parser.add_argument(
        "--seconds", type=options.positive, default=30, help="length, up to the end of a recording (%(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="passes, of which the fastest counts (%(default)s)")
    parser.add_argument("--threads", type=int, action="append", help="may be repeated (1, and all)")
    parser.add_argument("--no-base", action="store_true", help="without the random model of wav2vec2-base's size")
    parser.add_argument("--seed", type=int, default=1, help="of order and pauses (%(default)s)")
    arguments = parser.parse_args()

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    programme = assembled(read_corpus(arguments.data, arguments.limit), arguments.seconds, arguments.seed)
    device = pick_device(arguments.device)
    precision = "float16" if device.type == "cuda" else "float32"
    speeds: list[Speed] = []
    with ExitStack() as stack:
        sources = [(arguments.model, True)]
        if not arguments.no_base:
            base = str(stack.enter_context(random_base()))
            sources.append((base, False))
        for named, speaks in sources:
            for threads in arguments.threads or sorted({1, usable_threads()}):
                with Recognizer.from_pretrained(
                    named, device=device.type, threads=threads, precision=precision
                ) as recognizer:
                    loaded = load_pretrained(named, dtype=getattr(torch, precision))
                    speeds += compared(recognizer, loaded, device, programme, threads, arguments.repeat, speaks=speaks)
    shown = table(speeds, programme.seconds)
    show(shown)
    if arguments.plot:
        draw(arguments.plot, speeds)
    if arguments.json:
        settings = {
            "model": arguments.model,
            "device": device.type,
            "precision": precision,
            "repeat": arguments.repeat,
        }
        data = {"folder": arguments.data, "recordings": len(programme.places), "audio_s": programme.seconds}
        results = {"speeds": speeds, "peak_memory_mib": peak_memory_mib()}
        write_json(arguments.json, "offline", settings, data, results, [shown])


if __name__ == "__main__":
    options.run(main)
