"""Find a CTC checkpoint by name or folder, and load it with Transformers."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer
from transformers.utils import logging as transformers_logging

from stream_asr.acoustic import whisper_ctc
from stream_asr.acoustic.catalog import EMBEDDED, EMBEDDED_FOLDER, RECOMMENDED
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.config import SAMPLE_RATE
from stream_asr.ctc import Labels
from stream_asr.errors import DeviceError, InputError, ModelError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "float16", "int8")

_WAYS_ON = (
    f"what always works is the embedded model ({EMBEDDED!r}, the default) "
    f"or a local folder that holds a Transformers CTC checkpoint"
)


def load_model(
    name: str | Path | None = None, *, device: str = "auto", precision: str = "auto", threads: int | None = None
) -> TransformersCTC:
    """Load a model and run it once, so that the first caption does not wait for that.

    Args:
        name: a hub name, a folder, or None for the embedded model.
        device: auto (CUDA, then MPS, then the processor), cpu, cuda or mps.
        precision: auto (float16 on CUDA, else float32), float32, float16 (not on the processor) or int8
            (linear layers; only on the processor).
        threads: for the processor; PyTorch's own choice unless given.

    Raises:
        ModelError: not found, not fetched, not a CTC model, or without what decoding needs.
        DeviceError: the device is not available.
        InputError: an unknown device or precision, or a pair that does not go together.
    """
    if threads is not None:
        if threads < 1:
            raise InputError(f"{threads} threads; at least 1 is needed")
        torch.set_num_threads(threads)
    target = _device(device)
    dtype = _precision(precision, target)
    whisper_ctc.register()
    wanted = EMBEDDED if name is None else str(name)
    source = _locate(wanted)
    with _quiet():
        model, feature_extractor, tokenizer = _load(source, wanted, dtype)
    if precision == "int8":
        model = _quantized(model)
    return TransformersCTC(
        wanted, model.to(target).eval(), feature_extractor, _labels(model.config, tokenizer, wanted), device=target
    )


def _device(wanted: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if wanted not in available:
        raise InputError(f"unknown device {wanted!r}; accepted are {', '.join(DEVICES)}")
    if not available[wanted]:
        have = ", ".join(name for name, there in available.items() if there)
        raise DeviceError(f"PyTorch finds no {wanted} device here; available: {have}")
    return torch.device(wanted)


def _precision(wanted: str, device: torch.device) -> torch.dtype:
    if wanted not in PRECISIONS:
        raise InputError(f"unknown precision {wanted!r}; accepted are {', '.join(PRECISIONS)}")
    if wanted == "int8" and device.type != "cpu":
        raise InputError(f"int8 runs on the processor only, not on {device.type}; use float16 there")
    if wanted == "float16" and device.type == "cpu":
        raise InputError("float16 is slower than float32 on a processor; use float32 or int8")
    half = wanted == "float16" or (wanted == "auto" and device.type == "cuda")
    return torch.float16 if half else torch.float32


def _locate(name: str) -> str | Path:
    """The folder of a local model, or the hub name."""
    if name == EMBEDDED:
        return EMBEDDED_FOLDER
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json, so it is no Transformers checkpoint; {_WAYS_ON}")
        return folder
    if folder.exists():
        raise ModelError(f"{folder} is a file; a model is a folder or a hub name such as {RECOMMENDED!r}")
    if name.startswith((".", "~", os.sep)) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(f"there is no folder {name!r}; {_WAYS_ON}")
    return name


def _load(source: str | Path, name: str, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    try:
        model, report = AutoModelForCTC.from_pretrained(source, dtype=dtype, output_loading_info=True)
        feature_extractor = AutoFeatureExtractor.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise ModelError(_not_fetched(source, name, error)) from error
    except (ValueError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        if "AutoModelForCTC" in str(error) or "Unrecognized configuration" in str(error):
            raise ModelError(f"{name!r} is not a CTC model; {_WAYS_ON}, or e.g. {RECOMMENDED!r}") from error
        raise ModelError(f"{name!r} cannot be loaded: {_first_line(error)}; {_WAYS_ON}") from error
    # Transformers fills missing weights with random numbers and a warning. A model without its output layer
    # was trained for something else.
    body = f"{model.base_model_prefix}." if model.base_model_prefix else None
    missing = [key for key in report["missing_keys"] if body is None or not key.startswith(body)]
    if missing:
        raise ModelError(f"{name!r} has no trained CTC head ({', '.join(sorted(missing)[:3])} missing); {_WAYS_ON}")
    if feature_extractor.sampling_rate != SAMPLE_RATE:
        raise ModelError(f"{name!r} takes audio at {feature_extractor.sampling_rate} Hz; {SAMPLE_RATE} Hz is needed")
    return model, feature_extractor, tokenizer


def _not_fetched(source: str | Path, name: str, error: OSError) -> str:
    if isinstance(source, Path):
        return f"the folder {name!r} lacks a part of the checkpoint: {_first_line(error)}; {_WAYS_ON}"
    return (
        f"{name!r} could not be fetched from the Hugging Face hub (no connection, no such model, or it needs a "
        f"login), and no folder has that name; {_WAYS_ON}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


def _quantized(model: Any) -> Any:
    """Linear layers in int8, the activations quantised as they come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def _labels(config: Any, tokenizer: Any, name: str) -> Labels:
    """What each output spells, with spaces where words begin."""
    blank = config.pad_token_id if config.pad_token_id is not None else tokenizer.pad_token_id
    if blank is None:
        raise ModelError(f"{name!r} does not say which of its outputs is the CTC blank (pad_token_id)")
    pieces = [""] * config.vocab_size
    special = set(tokenizer.all_special_tokens)
    delimiter = getattr(tokenizer, "word_delimiter_token", None)
    for token, index in tokenizer.get_vocab().items():
        if index < len(pieces) and index != blank:
            if token == delimiter:
                pieces[index] = " "
            elif token not in special:
                pieces[index] = token.replace("\u2581", " ")  # SentencePiece's mark for a space
    letters = "".join(pieces)
    if not letters.strip():
        raise ModelError(f"{name!r} has a tokenizer without letters")
    # A model that knows capitals only says nothing by them.
    if letters == letters.upper():
        pieces = [piece.lower() for piece in pieces]
    return Labels(tuple(pieces), blank)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Transformers' progress bars and hints, which are about files that our users never see."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
