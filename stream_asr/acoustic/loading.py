"""Find a CTC checkpoint by name or folder, and load it with Transformers."""

from __future__ import annotations

import logging
import os
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer
from transformers.utils import logging as transformers_logging

from stream_asr.acoustic import moonshine_ctc
from stream_asr.acoustic.catalog import EMBEDDED, EMBEDDED_FOLDER, RECOMMENDED
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.config import SAMPLE_RATE
from stream_asr.ctc import Labels
from stream_asr.errors import DeviceError, InputError, ModelError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "float16", "int8")

HEADS = ("lm_head", "ctc_head")
"""What Transformers calls the output layer of a CTC model."""

_HUB_TIMEOUT_S = 5.0
_MODEL = "model (config.json, model.safetensors)"

_WAYS_ON = (
    f"what always works is the embedded model ({EMBEDDED!r}, the default) "
    f"or a local folder that holds a Transformers CTC checkpoint"
)


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A checkpoint, loaded: everything that ``save_pretrained`` writes again.

    Attributes:
        name: how the user called it.
        model: of ``AutoModelForCTC``.
        labels: what its outputs spell.
    """

    name: str
    model: Any
    feature_extractor: Any
    tokenizer: Any
    labels: Labels


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
    use_threads(threads)
    target = pick_device(device)
    loaded = load_pretrained(name, dtype=_precision(precision, target))
    try:
        model = _quantized(loaded.model) if precision == "int8" else loaded.model
        return TransformersCTC(
            loaded.name, model.to(target).eval(), loaded.feature_extractor, loaded.labels, device=target
        )
    except (ModelError, RuntimeError) as error:
        if precision != "int8":
            raise
        # WavLM, for one, hands the weights of its linear layers to a function that knows no int8. And some builds
        # of PyTorch have no int8 at all.
        raise ModelError(f"{loaded.name!r} does not run in int8; use precision float32") from error


def load_pretrained(
    name: str | Path | None = None, *, dtype: torch.dtype = torch.float32, tokenizer: Any = None
) -> Pretrained:
    """Load a checkpoint into memory, without running it.

    Args:
        name: as for `load_model`.
        dtype: of the weights.
        tokenizer: in place of the checkpoint's own: the model gets a new head with random weights for it, and the
            checkpoint needs neither head nor tokenizer.

    Raises:
        ModelError: not found, not fetched, not a CTC model, or without what decoding needs.
    """
    moonshine_ctc.register()
    wanted = EMBEDDED if name is None else str(name)
    source = _locate(wanted)
    with quiet():
        model, feature_extractor, tokenizer = _load(source, wanted, dtype, tokenizer)
    return Pretrained(wanted, model, feature_extractor, tokenizer, _labels(model.config, tokenizer, wanted))


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
    folder = os.path.expanduser(name)  # Path's own raises for a user that does not exist
    if os.path.isdir(folder):
        if not os.path.isfile(os.path.join(folder, "config.json")):
            raise ModelError(f"{folder} has no config.json, so it is no Transformers checkpoint; {_WAYS_ON}")
        return Path(folder)
    if os.path.exists(folder):
        raise ModelError(f"{folder} is a file; a model is a folder or a hub name such as {RECOMMENDED!r}")
    if name.startswith((".", "~", os.sep)) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(f"there is no folder {name!r}; {_WAYS_ON}")
    return name


def _load(source: str | Path, name: str, dtype: torch.dtype, tokenizer: Any) -> tuple[Any, Any, Any]:
    offline = isinstance(source, Path) or not _hub_answers(source)

    def part(what: str, load: Callable[..., Any], **options: Any) -> Any:
        try:
            return load(source, local_files_only=offline, **options)
        except Exception as error:  # a broken checkpoint can raise anything
            raise ModelError(_why_not(source, name, what, error)) from error

    head: dict[str, Any] = {}
    if tokenizer is not None:
        head = {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "ignore_mismatched_sizes": True,
        }
    model, report = part(_MODEL, AutoModelForCTC.from_pretrained, dtype=dtype, output_loading_info=True, **head)
    # Transformers fills missing weights with random numbers and a warning. The exception is used in training only.
    replaced = ("masked_spec_embed", *(HEADS if head else ()))
    missing = sorted(key for key in report["missing_keys"] if not any(part in replaced for part in key.split(".")))
    if missing:
        some = ", ".join(missing[:3])
        raise ModelError(f"{name!r} is no trained CTC model: {some} missing among its weights; {_WAYS_ON}")
    feature_extractor = part("feature extractor (preprocessor_config.json)", AutoFeatureExtractor.from_pretrained)
    if feature_extractor.sampling_rate != SAMPLE_RATE:
        raise ModelError(f"{name!r} takes audio at {feature_extractor.sampling_rate} Hz; {SAMPLE_RATE} Hz is needed")
    if tokenizer is None:
        tokenizer = part("tokenizer (vocab.json or tokenizer.json)", AutoTokenizer.from_pretrained)
    else:
        model.config.language_model = None  # of other words
        # A new vocabulary may have the size of the old one.
        next(getattr(model, layer) for layer in HEADS if hasattr(model, layer)).reset_parameters()
    return model, feature_extractor, tokenizer


def _hub_answers(name: str) -> bool:
    """Ask the hub once; what is not fetched yet is then looked for in the cache only if it keeps silent.

    Without a connection, Transformers would try for half a minute, for each file.
    """
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_HUB_TIMEOUT_S)
    except HfHubHTTPError as error:
        return error.response.status_code < 500  # "no such model" is an answer
    except Exception:  # no connection has many faces, and an offline mode is one of them
        return False
    return True


def _why_not(source: str | Path, name: str, what: str, error: Exception) -> str:
    if "AutoModelForCTC" in str(error):
        return f"{name!r} is not a CTC model; {_WAYS_ON}, or e.g. {RECOMMENDED!r}"
    if isinstance(error, OSError) and what is _MODEL and not isinstance(source, Path):
        return (
            f"{name!r} could not be fetched from the Hugging Face hub (no connection, no such model, or it needs a "
            f"login), and no folder has that name; {_WAYS_ON}"
        )
    reason = textwrap.shorten(str(error) or repr(error), 200, placeholder=" ...")
    return f"cannot load the {what} of {name!r}: {reason}; {_WAYS_ON}"


def _quantized(model: Any) -> Any:
    """Linear layers in int8, the activations quantised as they come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PyTorch means to move these functions elsewhere
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)


def _labels(config: Any, tokenizer: Any, name: str) -> Labels:
    """What each output spells, with spaces where words begin."""
    blank = config.pad_token_id if config.pad_token_id is not None else tokenizer.pad_token_id
    if blank is None or not 0 <= blank < config.vocab_size:
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
    capitals = letters == letters.upper() != letters.lower()
    return Labels(tuple(piece.lower() if capitals else piece for piece in pieces), blank, capitals)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' progress bars and hints, which are about files that our users never see."""
    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    hub_verbosity = hub_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(hub_verbosity)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
