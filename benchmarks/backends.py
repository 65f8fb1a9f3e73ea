"""What the embedded model costs in a stream, by what runs it: PyTorch or ONNX Runtime, in float32 and in int8.

    python benchmarks/backends.py                                       the bundled recording
    python benchmarks/backends.py --data FOLDER --seconds 60 --json out/backends.json --plot out/backends.png

A recording is heard in the windows of a live stream on one thread: each is kept in part and has right context, and
two previews come before it. ONNX Runtime comes with the extra `onnx`. Only the model is timed, without voice detection,
search or anything else. The ways take turns, window by window, so that what else the machine does falls on all of
them; the median window counts. It works for models with the embedded one's encoder. "Differs" is how far the
log-probabilities are from those of the first way, on average over the outputs with a chance of more than 1 in 1000
there, window by window.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import options
from corpus import assembled, read_corpus
from report import Table, plot, show, write_json

from stream_asr.acoustic.base import Chunk, State, StatefulModel
from stream_asr.acoustic.loading import arranged, load_model
from stream_asr.acoustic.moonshine.onnx_runtime import missing_packages
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE, ms_to_samples

_LIKELY = np.log(1e-3)
_FORMS = ("{:.1f}", "{:.4f}", "{:.2f}", "{:.4f}")


@dataclass(slots=True)
class Way:
    """One backend in one precision, and what was seen of it.

    Attributes:
        windows_s: processor time of each commit window with its previews.
        off: mean absolute difference of log-probabilities to the first way, for each commit window.
    """

    backend: str
    precision: str
    model: StatefulModel
    state: State = None
    windows_s: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.backend}, {self.precision}"

    @property
    def window_ms(self) -> float:
        return 1000 * float(np.median(self.windows_s))


def loaded(model: str | None) -> list[Way]:
    ways = []
    if missing := missing_packages():
        print(f"without ONNX Runtime: {' and '.join(missing)} not installed, see the extra onnx", file=sys.stderr)
    for backend in ("torch",) if missing else ("torch", "onnxruntime"):
        for precision in ("float32", "int8"):
            made = arranged(load_model(model, device="cpu", precision=precision, backend=backend, threads=1))
            if not isinstance(made, StatefulModel):
                raise SystemExit(f"{made.name} is not built on the embedded model's encoder")
            ways.append(Way(backend, precision, made))
    return ways


def run_all(ways: list[Way], samples: FloatArray) -> None:
    """All of a recording, by each way."""
    config = ways[0].model.window_config
    grid = ways[0].model.frame_samples
    kept, right, preview = (
        ms_to_samples(ms) // grid * grid
        for ms in (config.commit_ms, config.right_context_ms, config.preview_interval_ms)
    )
    for way in ways:
        way.state = way.model.initial_state(ms_to_samples(config.left_context_ms))
    for start in range(0, len(samples) - kept - right, kept):
        expected: FloatArray | None = None
        for way in ways:
            began = time.process_time()
            for stop in range(kept, kept + right, preview):
                way.model.forward_chunks([Chunk(samples[start : start + stop], 0, way.state)])
            [heard] = way.model.forward_chunks([Chunk(samples[start : start + kept + right], kept, way.state)])
            way.windows_s.append(time.process_time() - began)
            way.state = heard.state
            if expected is None:
                expected = heard.log_probs
            likely = expected > _LIKELY
            way.off.append(float(np.abs(heard.log_probs - expected)[likely].mean()))


def table(ways: list[Way], kept_ms: float) -> Table:
    rows = []
    for way in ways:
        figures = (way.window_ms, way.window_ms / kept_ms, way.window_ms / ways[0].window_ms, np.mean(way.off))
        rows.append((way.name, *(form.format(x) for form, x in zip(_FORMS, figures, strict=True))))
    head = ("", "ms for a window and its previews", "CPU s per audio s", "times the first", "differs")
    return Table("the model in a stream, one thread", head, rows)


def draw(path: Path, ways: list[Way]) -> None:
    with plot(path, "The model in a stream, one thread", "milliseconds for a window and its previews", "") as axes:
        axes.barh([way.name for way in ways], [way.window_ms for way in ways])
        axes.invert_yaxis()


def main() -> None:
    parser = options.parser(__doc__)
    options.add_plot(parser, "the times")
    options.add_data(parser)
    parser.add_argument("--model", help="folder (the embedded model)")
    parser.add_argument(
        "--seconds", type=options.positive, default=30, help="length, up to the end of a recording (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of order and pauses (%(default)s)")
    arguments = parser.parse_args()

    programme = assembled(read_corpus(arguments.data, arguments.limit), arguments.seconds, arguments.seed)
    ways = loaded(arguments.model)
    run_all(ways, programme.samples[: 3 * SAMPLE_RATE])
    for way in ways:  # that was to warm up
        way.windows_s.clear()
        way.off.clear()
    run_all(ways, programme.samples)
    shown = table(ways, ways[0].model.window_config.commit_ms)
    show(shown)
    if arguments.plot:
        draw(arguments.plot, ways)
    if arguments.json:
        data = {"folder": arguments.data, "recordings": len(programme.places), "audio_s": programme.seconds}
        results = {
            way.name: {"window_ms": way.window_ms, "windows": len(way.windows_s), "differs": np.mean(way.off)}
            for way in ways
        }
        write_json(arguments.json, "backends", {"model": arguments.model, "threads": 1}, data, results, [shown])


if __name__ == "__main__":
    options.run(main)
