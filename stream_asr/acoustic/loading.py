"""Load a model by name or from a folder, ready to recognize streams.

There are two steps. A checkpoint is read into memory, by the fast reader for the architecture of the bundled model or
by Transformers. Then the builder for its architecture decides how to run it on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from stream_asr.acoustic.base import Checkpoint, LoadedModel
from stream_asr.acoustic.catalog import locate
from stream_asr.acoustic.moonshine.checkpoint import MODEL_TYPE, read_checkpoint
from stream_asr.acoustic.moonshine.model import build_moonshine
from stream_asr.acoustic.options import ModelOptions, check_options, use_threads
from stream_asr.acoustic.transformers_ctc import build_transformers
from stream_asr.config import AcousticConfig
from stream_asr.errors import InputError

Builder: TypeAlias = Callable[[Checkpoint, ModelOptions], LoadedModel]

BUILDERS: dict[str, Builder] = {MODEL_TYPE: build_moonshine}
"""Builders by the model type in a checkpoint's configuration; `build_transformers` is for all others."""


def load_model(
    name: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    cuda_graphs: bool = False,
    second_pass: bool = True,
    config: AcousticConfig | None = None,
) -> LoadedModel:
    """Load a model and run it once, so that the first caption does not wait for the warm-up.

    Args:
        name: a hub name, a folder, or None for the bundled model.
        device: auto (CUDA, then MPS, then the CPU), cpu, cuda or mps.
        precision: auto, float32, float16 (GPUs only) or int8 (CPUs only; linear layers). auto is float16 on CUDA, int8
            for Moonshine's architecture on CPUs with instructions for it, and float32 otherwise.
        backend: runtime for streams: torch, onnxruntime (CPUs only; Moonshine's architecture), or auto for onnxruntime
            where it is possible.
        threads: CPU threads of PyTorch in this process; None for its default.
        cuda_graphs: on CUDA, capture model passes and replay them for windows of the same shape.
        second_pass: whether to load the attention decoder of the checkpoint, if there is one. On CUDA, CUDA graphs
            exclude it.
        config: timeout of the hub, and limits for running models.

    Raises:
        ModelError: not found, not fetched, not a CTC model, or without what decoding needs.
        DeviceError: the device is not available.
        InputError: an unknown device, precision or backend, or options that exclude each other.
    """
    options = check_options(device, precision, backend, cuda_graphs, config, second_pass=second_pass)
    use_threads(threads)
    checkpoint = _read(name, options)
    build: Builder = BUILDERS.get(checkpoint.model.config.model_type, build_transformers)
    if backend == "onnxruntime" and build is build_transformers:
        raise InputError(
            f"onnxruntime runs embedded-en and models that were fine-tuned from it, not {checkpoint.name!r}; use torch"
        )
    return build(checkpoint, options)


def _read(name: str | Path | None, options: ModelOptions) -> Checkpoint:
    location = locate(name)
    if location.folder is not None:
        checkpoint = read_checkpoint(location.folder, location.name, options.dtype)
        if checkpoint is not None:
            return checkpoint
    # Imported late: Transformers takes longer to import than the bundled model takes to load.
    from stream_asr.acoustic.pretrained import load_located

    return load_located(location, options.dtype, options.config)
