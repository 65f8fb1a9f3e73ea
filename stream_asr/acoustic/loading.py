"""Load a model by name or from a folder, ready to run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from stream_asr.acoustic.catalog import EMBEDDED, locate
from stream_asr.acoustic.cuda_graphs import RECORDABLE, CudaRecorder
from stream_asr.acoustic.int8 import has_instructions, is_fast, quantize
from stream_asr.acoustic.moonshine import checkpoint as standalone
from stream_asr.acoustic.moonshine import onnx_runtime as moonshine_runtime
from stream_asr.acoustic.moonshine.checkpoint import Standalone
from stream_asr.acoustic.moonshine.encoder import encoder_of
from stream_asr.acoustic.moonshine.onnx_runtime import OnnxEncoder
from stream_asr.acoustic.transformers_ctc import TransformersCTC, count_parameters
from stream_asr.errors import DeviceError, InputError, ModelError

if TYPE_CHECKING:
    from stream_asr.acoustic.pretrained import Pretrained
from stream_asr.acoustic.base import AcousticModel
from stream_asr.acoustic.moonshine.model import StatefulMoonshine
from stream_asr.acoustic.one_per_core import OnePerCore

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "float16", "int8")
BACKENDS = ("auto", "torch", "onnxruntime")

_log = logging.getLogger(__name__)


def load_model(
    name: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    cuda_graphs: bool = False,
) -> TransformersCTC:
    """Load a model and run it once, so that the first caption does not wait for that.

    Args:
        name: a hub name, a folder, or None for the embedded model.
        device: auto (CUDA, then MPS, then the processor), cpu, cuda or mps.
        precision: auto (float16 on CUDA; int8 for the embedded model, and what is made from it, on processors with
            instructions for it; else float32), float32, float16 (not on the processor) or int8 (linear layers; only
            on the processor).
        backend: what runs the model in streams: torch; onnxruntime, for the embedded model and what is made from it,
            on the processor, with the extra ``onnx``; or auto: onnxruntime where it can be, else torch.
        threads: for the processor; PyTorch's own choice unless given.
        cuda_graphs: on CUDA, record passes of the model and play them back for windows of the same shape.

    Raises:
        ModelError: not found, not fetched, not a CTC model, or without what decoding needs.
        DeviceError: the device is not available.
        InputError: an unknown device, precision or backend, some that do not go together, or a backend that is not
            installed.
    """
    use_threads(threads)
    target = pick_device(device)
    dtype = _dtype(precision, target)
    _check_backend(backend, target)
    if cuda_graphs and target.type != "cuda":
        raise InputError(f"CUDA graphs are for CUDA, not for {target.type}")
    loaded = _load(name, dtype)
    parameters = count_parameters(loaded.model)
    if cuda_graphs and loaded.model.config.model_type not in RECORDABLE:
        raise InputError(f"CUDA graphs are for {', '.join(sorted(RECORDABLE))}, not for {loaded.name!r}")
    hearer = _runtime(loaded, backend, target, precision)
    gains = target.type == "cpu" and encoder_of(loaded.model) is not None and is_fast()
    int8 = hearer is None and (precision == "int8" or (precision == "auto" and gains))
    try:
        if int8:
            quantize(loaded.model)
        return TransformersCTC(
            loaded.name,
            loaded.model.to(target).eval(),
            loaded.feature_extractor,
            loaded.labels,
            device=target,
            parameters=parameters,
            hearer=hearer,
            record=CudaRecorder(target) if cuda_graphs else None,
        )
    except (ModelError, RuntimeError) as error:
        if not int8:
            raise
        # WavLM, for one, hands the weights of its linear layers to a function that knows no int8. And some builds
        # of PyTorch have no int8 at all.
        raise ModelError(f"{loaded.name!r} does not run in int8; use precision float32") from error


def use_threads(threads: int | None) -> None:
    """Let PyTorch use so many threads of the processor; None leaves it at its own choice."""
    if threads is not None:
        if threads < 1:
            raise InputError(f"{threads} threads; at least 1 is needed")
        torch.set_num_threads(threads)


def pick_device(wanted: str) -> torch.device:
    """The device of that name; for auto the best there is.

    Raises:
        InputError: an unknown name.
        DeviceError: it is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if wanted not in available:
        raise InputError(f"unknown device {wanted!r}; accepted are {', '.join(DEVICES)}")
    if not available[wanted]:
        have = ", ".join(name for name, there in available.items() if there)
        raise DeviceError(f"PyTorch finds no {wanted} device here; available: {have}")
    return torch.device(wanted)


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    if wanted not in PRECISIONS:
        raise InputError(f"unknown precision {wanted!r}; accepted are {', '.join(PRECISIONS)}")
    if wanted == "int8" and device.type != "cpu":
        raise InputError(f"int8 runs on the processor only, not on {device.type}; use float16 there")
    if wanted == "float16" and device.type == "cpu":
        raise InputError("float16 is slower than float32 on a processor; use float32 or int8")
    half = wanted == "float16" or (wanted == "auto" and device.type == "cuda")
    return torch.float16 if half else torch.float32


def _check_backend(wanted: str, device: torch.device) -> None:
    if wanted not in BACKENDS:
        raise InputError(f"unknown backend {wanted!r}; accepted are {', '.join(BACKENDS)}")
    if wanted != "onnxruntime":
        return
    if device.type != "cpu":
        raise InputError(f"onnxruntime runs models on the processor only, not on {device.type}; use torch there")
    if missing := moonshine_runtime.missing_packages():
        raise InputError(
            f'onnxruntime needs what is not installed ({" and ".join(missing)}): pip install "stream-asr[onnx]"'
        )


def _runtime(loaded: Standalone | Pretrained, backend: str, device: torch.device, precision: str) -> OnnxEncoder | None:
    """What runs the model in ONNX Runtime; None where PyTorch does."""
    if encoder_of(loaded.model) is None:
        if backend == "onnxruntime":
            raise InputError(f"onnxruntime runs embedded-en and what is made from it, not {loaded.name!r}; use torch")
        return None
    if backend == "torch" or device.type != "cpu" or moonshine_runtime.missing_packages():
        return None
    int8 = precision == "int8" or (precision == "auto" and has_instructions())
    try:
        return OnnxEncoder(loaded.model, int8=int8)
    except Exception as error:  # an old version, a library of the system that is missing, and so on
        if backend == "onnxruntime":
            raise ModelError(f"onnxruntime does not run {loaded.name!r}: {error}; use torch") from error
        _log.warning("onnxruntime does not run %r, so PyTorch does: %s", loaded.name, error)
        return None


def _load(name: str | Path | None, dtype: torch.dtype) -> Standalone | Pretrained:
    wanted = EMBEDDED if name is None else str(name)
    source = locate(wanted)
    if isinstance(source, Path) and (loaded := standalone.load(source, wanted, dtype)) is not None:
        return loaded
    # Not at the top: importing Transformers takes longer than all that the embedded model needs.
    from stream_asr.acoustic.pretrained import load_pretrained

    return load_pretrained(name, dtype=dtype)


_SMALL = 30_000_000
"""Parameters up to which a core does a window of some seconds in less than the time between two previews."""


def arranged(model: TransformersCTC) -> AcousticModel:
    """The model as it serves streams best.

    On a processor, one with Moonshine's encoder remembers what it made of the audio before, and another small one runs
    windows side by side. All others run them in batches.
    """
    if model.device.type != "cpu":
        return model
    if encoder_of(model.model) is not None:
        return StatefulMoonshine(model, torch.get_num_threads(), model.hearer)
    return OnePerCore(model, torch.get_num_threads()) if model.parameters <= _SMALL else model
