"""Where and how a model runs: device, number format, runtime."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stream_asr.config import AcousticConfig
from stream_asr.errors import DeviceError, InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "float16", "int8")
BACKENDS = ("auto", "torch", "onnxruntime")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Options that were checked against each other; see `stream_asr.acoustic.loading.load_model`."""

    device: torch.device
    precision: str
    backend: str
    cuda_graphs: bool
    config: AcousticConfig
    second_pass: bool = True

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights of a model that is not quantized."""
        half = self.precision == "float16" or (self.precision == "auto" and self.device.type == "cuda")
        return torch.float16 if half else torch.float32


def check_options(
    device: str,
    precision: str,
    backend: str,
    cuda_graphs: bool,
    config: AcousticConfig | None = None,
    *,
    second_pass: bool = True,
) -> ModelOptions:
    """Check the options.

    Raises:
        InputError: an unknown name, or options that exclude each other.
        DeviceError: the device is not available.
    """
    target = pick_device(device)
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}; accepted: {', '.join(PRECISIONS)}")
    if precision == "int8" and target.type != "cpu":
        raise InputError(f"int8 runs on the CPU only, not on {target.type}; use float16 there")
    if precision == "float16" and target.type == "cpu":
        raise InputError("float16 is slower than float32 on a CPU; use float32 or int8")
    if backend not in BACKENDS:
        raise InputError(f"unknown backend {backend!r}; accepted: {', '.join(BACKENDS)}")
    if backend == "onnxruntime" and target.type != "cpu":
        raise InputError(f"onnxruntime runs models on the CPU only, not on {target.type}; use torch there")
    if cuda_graphs and target.type != "cuda":
        raise InputError(f"CUDA graphs need CUDA; the device is {target.type}")
    return ModelOptions(target, precision, backend, cuda_graphs, config or AcousticConfig(), second_pass)


def pick_device(wanted: str) -> torch.device:
    """Return the device of that name; for ``auto`` the best available one.

    Raises:
        InputError: an unknown name.
        DeviceError: the device is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if wanted not in available:
        raise InputError(f"unknown device {wanted!r}; accepted: {', '.join(DEVICES)}")
    if not available[wanted]:
        present = ", ".join(name for name, there in available.items() if there)
        raise DeviceError(f"PyTorch finds no {wanted} device; available: {present}")
    return torch.device(wanted)


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads of PyTorch for the whole process; None keeps its default.

    Raises:
        InputError: fewer than one.
    """
    if threads is not None:
        if threads < 1:
            raise InputError(f"threads is {threads}; it must be at least 1")
        torch.set_num_threads(threads)
