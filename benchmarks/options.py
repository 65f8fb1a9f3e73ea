"""Options that benchmarks have in common, and what they stand for.

Options of the same name mean the same everywhere: ``--data``, ``--limit``, ``--model``, ``--threads``,
``--precision``, ``--backend``, ``--cuda-graphs``, ``--lm``, ``--json``, ``--plot``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import BUNDLED

from stream_asr import Recognizer, RecognizerConfig
from stream_asr.errors import StreamASRError

_PLOTS = (".png", ".svg", ".pdf")


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """Shows the documentation of a benchmark as it is written, and where to write the figures to."""
    made = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="also write the figures here")
    return made


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; what its user can mend ends it with a line and status 2."""
    try:
        main()
    except StreamASRError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def positive(text: str) -> float:
    """A number of an option, above 0."""
    if not 0 < (number := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def plot_path(text: str) -> Path:
    """One whose ending names a format that plots can have."""
    if (path := Path(text)).suffix.lower() not in _PLOTS:
        raise argparse.ArgumentTypeError(f"{path} does not end in {', '.join(_PLOTS)}")
    return path


def add_plot(to: argparse.ArgumentParser, what: str) -> None:
    to.add_argument("--plot", type=plot_path, help=f"draw {what} here (.png, .svg or .pdf)")


def add_data(to: argparse.ArgumentParser, limit: int | None = None) -> None:
    """A folder that `corpus.read_corpus` reads; the bundled recording unless given."""
    to.add_argument("--data", type=Path, default=BUNDLED, help="folder of recordings (the bundled one; see corpus.py)")
    to.add_argument("--limit", type=int, default=limit, help=f"utterances used ({limit or 'all'})")


def add_model(to: argparse.ArgumentParser) -> None:
    """What `recognizer` loads."""
    to.add_argument("--model", help="hub name or folder (the embedded model)")
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    to.add_argument("--threads", type=int, help="of the processor, for PyTorch (its own choice)")
    to.add_argument("--precision", default="auto", help="auto, float32, float16 or int8 (%(default)s)")
    to.add_argument("--backend", default="auto", help="auto, torch or onnxruntime (%(default)s)")
    to.add_argument("--cuda-graphs", action="store_true", help="record passes of the model and play them back")
    words = to.add_mutually_exclusive_group()
    words.add_argument("--lm", default="auto", help="language model (the bundled one for the embedded model)")
    words.add_argument("--no-lm", dest="lm", action="store_const", const=None, help="without one")


def recognizer(arguments: argparse.Namespace, config: RecognizerConfig | None = None, **more: Any) -> Recognizer:
    """The one that the options of `add_model` describe."""
    return Recognizer.from_pretrained(
        arguments.model,
        device=arguments.device,
        threads=arguments.threads,
        precision=arguments.precision,
        backend=arguments.backend,
        cuda_graphs=arguments.cuda_graphs,
        lm=arguments.lm,
        config=config,
        **more,
    )


def model_settings(arguments: argparse.Namespace, loaded: Recognizer) -> dict[str, Any]:
    """The settings of `add_model` as they turned out, for the report."""
    import torch

    return {
        "model": loaded.model.name,
        "device": arguments.device,
        "precision": arguments.precision,
        "backend": getattr(loaded.model, "backend", "torch"),
        "cuda_graphs": arguments.cuda_graphs,
        "threads": torch.get_num_threads(),
        "lm": None if loaded.lm is None else arguments.lm,
    }
