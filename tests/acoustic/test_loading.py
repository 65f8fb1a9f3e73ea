"""Options of `load_model`, and what a program sees of loading a model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.one_per_core import OnePerCore
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.config import AcousticConfig
from stream_asr.errors import DeviceError, InputError

# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "unknown device 'tpu'; accepted: auto, cpu, cuda, mps"),
        ({"precision": "int4"}, "unknown precision 'int4'; accepted: auto, float32, float16, int8"),
        ({"backend": "tpu"}, "unknown backend 'tpu'; accepted: auto, torch, onnxruntime"),
        ({"device": "cpu", "precision": "float16"}, "float16 is slower .* use float32 or int8"),
        ({"device": "cpu", "cuda_graphs": True}, "CUDA graphs need CUDA; the device is cpu"),
        ({"threads": 0}, "threads is 0; it must be at least 1"),
    ],
)
def test_invalid_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "int8 runs on the CPU only, not on cuda; use float16"),
        ({"backend": "onnxruntime"}, "onnxruntime runs models on the CPU only, not on cuda; use torch"),
    ],
)
def test_option_for_cpus_is_refused_on_a_gpu(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match=message):
        load_model(device="cuda", **options)


def test_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="PyTorch finds no cuda device; available: cpu"):
        load_model(device="cuda")


def test_onnxruntime_is_refused_for_other_architectures(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"runs embedded-en and models .* from it, not '/.*'; use torch"):
        load_model(checkpoint("wav2vec2 layer norm"), device="cpu", backend="onnxruntime")


@pytest.mark.usefixtures("one_thread")
def test_number_of_threads_is_set(checkpoint: Callable[[str], Path]) -> None:
    load_model(checkpoint("moonshine"), device="cpu", threads=2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.usefixtures("one_thread")
def test_small_models_run_one_window_per_core(precision: str, checkpoint: Callable[[str], Path]) -> None:
    """Quantized weights count as parameters."""
    folder = checkpoint("wav2vec2 layer norm")
    small = load_model(folder, device="cpu", precision=precision)
    assert type(small) is OnePerCore
    assert isinstance(small.runner, TransformersCTC)
    limit = AcousticConfig(one_per_core_max_parameters=small.runner.parameters - 1)
    assert isinstance(load_model(folder, device="cpu", precision=precision, config=limit), TransformersCTC)


# --- what a program sees ------------------------------------------------------------------------------------


class Run(NamedTuple):
    """Results of a Python program.

    Attributes:
        stderr: everything on the standard error output.
        modules: modules that were imported.
        threads: names of the threads before the end of the program.
        last_threads: names of the threads when the interpreter exits.
    """

    stderr: str
    modules: set[str]
    threads: list[str]
    last_threads: list[str]


@pytest.fixture(scope="module")
def embedded_run() -> Run:
    """Load the bundled model in a new process, and exit without closing the recognizer."""
    program = (
        "import atexit, json, sys, threading\n"
        "names = lambda: [thread.name for thread in threading.enumerate()]\n"
        "atexit.register(lambda: print(json.dumps(names())))\n"
        "from stream_asr import Recognizer\n"
        "recognizer = Recognizer.from_pretrained(backend='onnxruntime', device='cpu')\n"
        "print(json.dumps([list(sys.modules), names()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (modules, threads), last_threads = map(json.loads, done.stdout.splitlines())
    return Run(done.stderr, set(modules), threads, last_threads)


def test_embedded_model_loads_silently(embedded_run: Run) -> None:
    assert embedded_run.stderr == ""


def test_embedded_model_loads_without_heavy_imports(embedded_run: Run) -> None:
    """Importing Transformers takes longer than everything else before the first caption; ``onnx`` is optional."""
    heavy = {"torch", "transformers", "huggingface_hub", "onnxruntime", "onnx", "onnxscript"}
    assert heavy & embedded_run.modules == {"torch", "onnxruntime"}


def test_engine_stops_before_the_interpreter(embedded_run: Run) -> None:
    """A thread that has run a model could abort the interpreter at its end."""
    assert any(name.startswith("stream_asr-engine") for name in embedded_run.threads)
    assert embedded_run.last_threads == ["MainThread"]


@pytest.mark.slow
def test_transformers_checkpoints_load_silently(checkpoint: Callable[[str], Path]) -> None:
    """In a new process: imports print hints as well, and some hints are printed only once."""
    program = (
        "import sys; from stream_asr.acoustic.loading import load_model; "
        "load_model(precision='int8', device='cpu', backend='torch'); [load_model(folder) for folder in sys.argv[1:]]"
    )
    folders = [str(checkpoint(name)) for name in ("wav2vec2 group norm", "wav2vec2-bert", "wavlm", "parakeet")]
    done = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
