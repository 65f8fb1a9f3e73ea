"""Command-line options shared by the benchmarks.

An option has the same meaning in every benchmark that accepts it: ``--data``, ``--limit``, ``--model``, ``--device``,
``--threads``, ``--precision``, ``--backend``, ``--cuda-graphs``, ``--lm``, ``--json``, ``--plot``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from corpus import BUNDLED

from stream_asr import Recognizer
from stream_asr.decoding.hotwords import HotwordList
from stream_asr.errors import StreamASRError

USAGE_ERROR = 2
"""Exit status for wrong options and unusable input."""

_PLOT_SUFFIXES = (".png", ".svg", ".pdf")


class ArgumentParser(argparse.ArgumentParser):
    """Parser that reports a usage error in one line, without the list of options."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def make_parser(documentation: str | None, prog: str | None = None) -> ArgumentParser:
    """Create a parser with the option ``--json``; ``--help`` shows the documentation with its line breaks."""
    parser = ArgumentParser(prog, description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write settings and results to this JSON file")
    return parser


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Run a benchmark and exit with its status; report an expected error in one line, without a traceback."""
    try:
        status = main()
    except StreamASRError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        status = error.exit_status
    raise SystemExit(status)


def positive_number(text: str) -> float:
    """Parse the value of an option that must be greater than 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number greater than 0, not {text!r}")
    return number


def positive_integer(text: str) -> int:
    """Parse the value of an option that must be an integer of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text!r}")
    return number


def plot_path(text: str) -> Path:
    """Parse the path of a plot, whose suffix selects the format."""
    path = Path(text)
    if path.suffix.lower() not in _PLOT_SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {', '.join(_PLOT_SUFFIXES)}, not {text!r}")
    return path


def add_plot_option(parser: argparse.ArgumentParser, content: str) -> None:
    """Add ``--plot``; ``content`` says what the plot shows."""
    parser.add_argument("--plot", type=plot_path, metavar="FILE", help=f"plot {content} (.png, .svg or .pdf)")


def add_data_options(parser: argparse.ArgumentParser, limit: int | None = None) -> None:
    """Add ``--data``, a folder for `corpus.read_corpus`, and ``--limit``."""
    parser.add_argument(
        "--data",
        type=Path,
        default=BUNDLED,
        metavar="FOLDER",
        help="recordings with a manifest.tsv or in LibriSpeech layout, see corpus.py (default: the bundled recording)",
    )
    parser.add_argument(
        "--limit",
        type=positive_integer,
        default=limit,
        metavar="N",
        help=f"number of recordings, spread evenly over the folder (default: {limit or 'all'})",
    )


def add_playlist_options(parser: argparse.ArgumentParser, default_s: float) -> None:
    """Add ``--seconds`` and ``--seed``, the parameters of `corpus.make_playlist`."""
    parser.add_argument(
        "--seconds",
        type=positive_number,
        default=default_s,
        help="minimum duration; the last recording is not cut (default: %(default)s)",
    )
    add_seed_option(parser, "order and pauses")


def add_seed_option(parser: argparse.ArgumentParser, content: str) -> None:
    """Add ``--seed``; ``content`` says what is random."""
    parser.add_argument("--seed", type=int, default=1, help=f"random seed of {content} (default: %(default)s)")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `load_recognizer` uses."""
    parser.add_argument("--model", help="hub name or folder (default: the bundled model)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--threads", type=positive_integer, help="CPU threads of PyTorch (default: its own choice)")
    parser.add_argument("--precision", default="auto", help="auto, float32, float16 or int8 (default: %(default)s)")
    parser.add_argument("--backend", default="auto", help="auto, torch or onnxruntime (default: %(default)s)")
    parser.add_argument("--cuda-graphs", action="store_true", help="run the model through CUDA graphs")
    parser.add_argument("--second-pass", default="auto", help="hub name, folder or none (default: the model's own)")
    lm = parser.add_mutually_exclusive_group()
    lm.add_argument("--lm", default="auto", help="language model (default: the one that belongs to the model, if any)")
    lm.add_argument("--no-lm", dest="lm", action="store_const", const=None, help="decode without a language model")


def load_recognizer(arguments: argparse.Namespace, hotwords: HotwordList = (), *, vad: str = "webrtc") -> Recognizer:
    """Load the recognizer that the options of `add_model_options` describe."""
    return Recognizer.from_pretrained(
        arguments.model,
        device=arguments.device,
        threads=arguments.threads,
        precision=arguments.precision,
        backend=arguments.backend,
        cuda_graphs=arguments.cuda_graphs,
        second_pass=arguments.second_pass,
        lm=arguments.lm,
        hotwords=hotwords,
        vad=vad,
    )


def model_settings(arguments: argparse.Namespace, recognizer: Recognizer) -> dict[str, Any]:
    """Return the settings of a loaded recognizer for the report; ``auto`` is resolved where the model knows how."""
    import torch  # not at the top: parsing of options should not wait for it

    return {
        "model": recognizer.model.name,
        "device": arguments.device,
        "precision": arguments.precision,
        "backend": getattr(recognizer.model, "backend", "torch"),
        "cuda_graphs": arguments.cuda_graphs,
        "threads": torch.get_num_threads(),
        "second_pass": recognizer.second_pass_name,
        "lm": None if recognizer.lm is None else arguments.lm,
    }
