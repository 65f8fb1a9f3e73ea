"""CPU time of the bundled model in a live stream: PyTorch and ONNX Runtime, in float32 and in int8.

    python benchmarks/backends.py                                       the bundled recording
    python benchmarks/backends.py --data FOLDER --seconds 60 --json out/backends.json --plot out/backends.png

The audio is processed in the windows of a live stream on one thread: two previews and then a commit window with right
context. Only the model is measured, without voice detection and decoding. The variants alternate window by window, so
that other load on the machine affects all of them. The median window is reported. The model must have the encoder of
the bundled model.

"difference" is the mean absolute difference of the log-probabilities from those of the first variant, over the outputs
with a probability above 1/1000 in the first variant, averaged over the windows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import options
from corpus import make_playlist, read_corpus
from report import Table, plot, print_tables, write_json

from stream_asr.acoustic.base import Chunk, State, StatefulModel
from stream_asr.acoustic.loading import load_model
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE, ms_to_samples
from stream_asr.errors import InputError

_MIN_LOG_PROB = np.log(1e-3)
_WARM_UP_S = 3
_FORMATS = ("{:.1f}", "{:.4f}", "{:.2f}", "{:.4f}")


@dataclass(slots=True)
class Variant:
    """A backend with a precision, and its measurements.

    Attributes:
        windows_s: CPU time of each commit window with its previews.
        differences: mean absolute difference of the log-probabilities from the first variant, for each commit window.
    """

    backend: str
    precision: str
    model: StatefulModel
    state: State = None
    windows_s: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.backend}, {self.precision}"

    @property
    def window_ms(self) -> float:
        """Median CPU time of a commit window with its previews."""
        return 1000 * float(np.median(self.windows_s))

    @property
    def difference(self) -> float:
        """Mean over the windows."""
        return float(np.mean(self.differences))


def load_variants(model: str | None) -> list[Variant]:
    """Load the model once for each backend and precision.

    Raises:
        InputError: the model does not have the encoder of the bundled model.
    """
    variants = []
    for backend in ("torch", "onnxruntime"):
        for precision in ("float32", "int8"):
            loaded = load_model(model, device="cpu", precision=precision, backend=backend, threads=1)
            if not isinstance(loaded, StatefulModel):
                raise InputError(f"{loaded.name} does not have the encoder of the bundled model")
            variants.append(Variant(backend, precision, loaded))
    return variants


def run_all(variants: list[Variant], samples: FloatArray) -> None:
    """Process a recording with all variants, and add the measurements to them."""
    model = variants[0].model
    config, frame_samples = model.window_config, model.frame_samples
    commit, right, preview = (
        ms_to_samples(duration_ms) // frame_samples * frame_samples
        for duration_ms in (config.commit_ms, config.right_context_ms, config.preview_interval_ms)
    )
    for variant in variants:
        variant.state = variant.model.initial_state(ms_to_samples(config.left_context_ms))
    for start in range(0, len(samples) - commit - right, commit):
        expected: FloatArray | None = None
        for variant in variants:
            cpu_start_s = time.process_time()
            for stop in range(commit, commit + right, preview):
                variant.model.forward_chunks([Chunk(samples[start : start + stop], 0, variant.state)])
            window = Chunk(samples[start : start + commit + right], commit, variant.state)
            [output] = variant.model.forward_chunks([window])
            variant.windows_s.append(time.process_time() - cpu_start_s)
            variant.state = output.state
            if expected is None:
                expected = output.log_probs
            likely = expected > _MIN_LOG_PROB
            variant.differences.append(float(np.abs(output.log_probs - expected)[likely].mean()))


def variant_table(variants: list[Variant], commit_ms: float) -> Table:
    """Make a table with one row for each variant."""
    rows = []
    for variant in variants:
        figures = (
            variant.window_ms,
            variant.window_ms / commit_ms,
            variant.window_ms / variants[0].window_ms,
            variant.difference,
        )
        rows.append((variant.name, *(form.format(figure) for form, figure in zip(_FORMATS, figures, strict=True))))
    columns = ("", "ms per window and its previews", "CPU s per audio s", "relative to first", "difference")
    return Table("Model in a live stream, one thread", columns, rows)


def plot_variants(path: Path, variants: list[Variant]) -> None:
    """Plot the CPU time of each variant as a bar."""
    with plot(path, "Model in a live stream, one thread", "CPU time of a window and its previews (ms)", "") as axes:
        axes.barh([variant.name for variant in variants], [variant.window_ms for variant in variants])
        axes.invert_yaxis()


def main() -> None:
    parser = options.make_parser(__doc__)
    options.add_plot_option(parser, "the CPU times")
    options.add_data_options(parser)
    options.add_playlist_options(parser, 30)
    parser.add_argument("--model", help="folder of the model (default: the bundled model)")
    arguments = parser.parse_args()

    playlist = make_playlist(read_corpus(arguments.data, arguments.limit), arguments.seconds, arguments.seed)
    variants = load_variants(arguments.model)
    run_all(variants, playlist.samples[: _WARM_UP_S * SAMPLE_RATE])
    for variant in variants:
        variant.windows_s.clear()
        variant.differences.clear()
    run_all(variants, playlist.samples)
    if not variants[0].windows_s:
        raise InputError("the audio is shorter than one window")
    table = variant_table(variants, variants[0].model.window_config.commit_ms)
    print_tables(table)
    if arguments.plot:
        plot_variants(arguments.plot, variants)
    if arguments.json:
        data = {"folder": arguments.data, "recordings": len(playlist.items), "audio_s": playlist.duration_s}
        results = {
            variant.name: {
                "window_ms": variant.window_ms,
                "windows": len(variant.windows_s),
                "differs": variant.difference,
            }
            for variant in variants
        }
        write_json(arguments.json, "backends", {"model": arguments.model, "threads": 1}, data, results, [table])


if __name__ == "__main__":
    options.run_main(main)
