"""Load CTC checkpoints with Transformers, from a folder or the hub."""

from __future__ import annotations

import logging
import textwrap
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

from stream_asr.acoustic.catalog import ALTERNATIVES, RECOMMENDED, ModelLocation, locate
from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.moonshine import transformers as moonshine_transformers
from stream_asr.acoustic.tokenizer_labels import labels_from_vocabulary
from stream_asr.config import SAMPLE_RATE, AcousticConfig
from stream_asr.errors import ModelError

HEADS = ("lm_head", "ctc_head")
"""Names of the output layer in Transformers' CTC models."""

_MODEL = "model (config.json, model.safetensors)"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A loaded checkpoint: everything that ``save_pretrained`` writes. See `Checkpoint`.

    Attributes:
        name: the name or folder that the user gave.
        folder: the local folder of the checkpoint; None for a model from the hub.
        model: an ``AutoModelForCTC``.
        feature_extractor: an ``AutoFeatureExtractor``.
        tokenizer: an ``AutoTokenizer``, or the one that replaces the checkpoint's own.
        labels: the output alphabet.
    """

    name: str
    folder: Path | None
    model: Any
    feature_extractor: Any
    tokenizer: Any
    labels: Labels


def load_pretrained(
    name: str | Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    tokenizer: Any = None,
    config: AcousticConfig | None = None,
) -> Pretrained:
    """Load a checkpoint into memory, without running it.

    Args:
        name: as for `load_model`.
        dtype: of the weights.
        tokenizer: replaces the checkpoint's own. The model gets a new head with random weights for it, and the
            checkpoint needs neither head nor tokenizer.
        config: timeout of the hub.

    Raises:
        ModelError: not found, not fetched, not a CTC model, or without what decoding needs.
    """
    return load_located(locate(name), dtype, config or AcousticConfig(), tokenizer)


def load_located(
    location: ModelLocation, dtype: torch.dtype, config: AcousticConfig, tokenizer: Any = None
) -> Pretrained:
    """Load a checkpoint whose place is known; see `load_pretrained`."""
    moonshine_transformers.register()
    name = location.name
    with quiet():
        model, feature_extractor, tokenizer = _load(location, dtype, config, tokenizer)
    labels = _labels(model.config, tokenizer, name)
    return Pretrained(name, location.folder, model, feature_extractor, tokenizer, labels)


def _load(location: ModelLocation, dtype: torch.dtype, config: AcousticConfig, tokenizer: Any) -> tuple[Any, Any, Any]:
    name = location.name
    offline = location.folder is not None or not _hub_answers(name, config.hub_timeout_s)

    def part(what: str, load: Callable[..., Any], **options: Any) -> Any:
        try:
            return load(location.folder or name, local_files_only=offline, **options)
        except Exception as error:  # a damaged checkpoint can raise anything
            raise ModelError(_reason(location, what, error)) from error

    head: dict[str, Any] = {}
    if tokenizer is not None:
        head = {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "ignore_mismatched_sizes": True,
        }
    model, report = part(_MODEL, AutoModelForCTC.from_pretrained, dtype=dtype, output_loading_info=True, **head)
    # Transformers fills missing weights with random numbers and a warning. masked_spec_embed is used in training only.
    replaced = ("masked_spec_embed", *(HEADS if head else ()))
    missing = sorted(key for key in report["missing_keys"] if not any(part in replaced for part in key.split(".")))
    if missing:
        some = ", ".join(missing[:3])
        raise ModelError(f"{name!r} is not a trained CTC model: its weights lack {some}; {ALTERNATIVES}")
    feature_extractor = part("feature extractor (preprocessor_config.json)", AutoFeatureExtractor.from_pretrained)
    if feature_extractor.sampling_rate != SAMPLE_RATE:
        raise ModelError(
            f"{name!r} expects audio at {feature_extractor.sampling_rate} Hz; {SAMPLE_RATE} Hz is required"
        )
    if tokenizer is None:
        tokenizer = part("tokenizer (vocab.json or tokenizer.json)", AutoTokenizer.from_pretrained)
    else:
        model.config.language_model = None  # it belongs to the old vocabulary
        # Not replaced by Transformers if the new vocabulary has the size of the old one.
        next(getattr(model, layer) for layer in HEADS if hasattr(model, layer)).reset_parameters()
    return model, feature_extractor, tokenizer


def _hub_answers(name: str, timeout_s: float) -> bool:
    """Ask the hub once. If it does not answer, only the local cache is used.

    Without a connection, Transformers would retry for half a minute for each file.
    """
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=timeout_s)
    except HfHubHTTPError as error:
        return error.response.status_code < 500  # "no such model" is an answer
    except Exception:  # a missing connection raises many types, and so does the offline mode
        return False
    return True


def _reason(location: ModelLocation, what: str, error: Exception) -> str:
    name = location.name
    if "AutoModelForCTC" in str(error):
        return f"{name!r} is not a CTC model; {ALTERNATIVES}, or e.g. {RECOMMENDED!r}"
    if isinstance(error, OSError) and what is _MODEL and location.folder is None:
        return (
            f"{name!r} could not be fetched from the Hugging Face hub (no connection, no such model, or it needs a "
            f"login), and no folder has that name; {ALTERNATIVES}"
        )
    reason = textwrap.shorten(str(error) or repr(error), 200, placeholder=" ...")
    return f"cannot load the {what} of {name!r}: {reason}; {ALTERNATIVES}"


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the libraries' progress bars and hints about files that users never see."""
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


def _labels(config: Any, tokenizer: Any, name: str) -> Labels:
    blank = config.pad_token_id if config.pad_token_id is not None else tokenizer.pad_token_id
    delimiter = getattr(tokenizer, "word_delimiter_token", None)
    return labels_from_vocabulary(
        name, config.vocab_size, tokenizer.get_vocab(), set(tokenizer.all_special_tokens), blank, delimiter
    )
