"""Load checkpoints with Transformers, from a folder or the hub."""

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
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from stream_asr.acoustic.catalog import CTC_MODEL, SECOND_PASS_MODEL, ModelKind, ModelLocation, locate
from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.moonshine import transformers as moonshine_transformers
from stream_asr.acoustic.tokenizer_labels import labels_from_vocabulary
from stream_asr.config import SAMPLE_RATE, AcousticConfig
from stream_asr.errors import ModelError

HEADS = ("lm_head", "ctc_head")
"""Names of the output layer in Transformers' CTC models."""

_TRAINING_ONLY = "masked_spec_embed"
"""A weight that only training uses; checkpoints may lack it."""

_MODEL = "model (config.json, model.safetensors)"

_CLASSES: dict[ModelKind, Any] = {
    CTC_MODEL: MODEL_FOR_CTC_MAPPING,
    SECOND_PASS_MODEL: MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
}
"""Classes of Transformers for each kind of model, by the class of the configuration."""


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
    with quiet():
        reader = CheckpointReader(location, CTC_MODEL, config.hub_timeout_s)
        model, feature_extractor, tokenizer = _load(reader, dtype, tokenizer)
    labels = _labels(model.config, tokenizer, location.name)
    return Pretrained(location.name, location.folder, model, feature_extractor, tokenizer, labels)


def _load(reader: CheckpointReader, dtype: torch.dtype, tokenizer: Any) -> tuple[Any, Any, Any]:
    if tokenizer is None:
        model = reader.read_model(AutoModelForCTC, reader.read_config(), dtype)
        return model, reader.read_feature_extractor(), reader.read_tokenizer()
    config = reader.read_config(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    config.language_model = None  # it belongs to the old vocabulary
    model = reader.read_model(AutoModelForCTC, config, dtype, replaced=HEADS)
    # Not replaced by Transformers if the new vocabulary has the size of the old one.
    next(getattr(model, layer) for layer in HEADS if hasattr(model, layer)).reset_parameters()
    return model, reader.read_feature_extractor(), tokenizer


class CheckpointReader:
    """Reads the parts of a checkpoint with Transformers, from a folder, the hub, or the local cache of the hub.

    Args:
        location: where the checkpoint is.
        kind: what the model has to be.
        hub_timeout_s: how long to wait for the hub before only the local cache is used.
    """

    def __init__(self, location: ModelLocation, kind: ModelKind, hub_timeout_s: float) -> None:
        moonshine_transformers.register()
        self._location = location
        self._kind = kind
        self._offline = location.folder is not None or not _hub_answers(location.name, hub_timeout_s)

    def read_config(self, **changes: Any) -> Any:
        """Read the configuration of the model.

        Args:
            changes: values that replace those of the checkpoint.

        Raises:
            ModelError: not found, damaged, or of another kind.
        """
        config = self._read(_MODEL, AutoConfig.from_pretrained, **changes)
        if type(config) in _CLASSES[self._kind]:
            return config
        name, kind = self._location.name, self._kind
        for other, classes in _CLASSES.items():
            if type(config) in classes:
                raise ModelError(f"{name!r} is a {other.noun}; give it as {other.option} instead of {kind.option}")
        raise ModelError(f"{name!r} is not a {kind.noun}; {kind.alternatives}, or e.g. {kind.example!r}")

    def read_model(self, auto_class: Any, config: Any, dtype: torch.dtype, *, replaced: tuple[str, ...] = ()) -> Any:
        """Read the weights.

        Args:
            auto_class: the ``Auto`` class of the kind of model.
            config: configuration of the model.
            dtype: of the weights.
            replaced: layers whose weights may be missing or of another size.

        Raises:
            ModelError: not found, damaged, or without some of the weights.
        """
        model, report = self._read(
            _MODEL,
            auto_class.from_pretrained,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=bool(replaced),
        )
        # Transformers fills missing weights with random numbers and a warning.
        optional = {_TRAINING_ONLY, *replaced}
        missing = sorted(key for key in report["missing_keys"] if optional.isdisjoint(key.split(".")))
        if missing:
            raise ModelError(
                f"{self._location.name!r} is not a trained {self._kind.noun}: its weights lack "
                f"{', '.join(missing[:3])}; {self._kind.alternatives}"
            )
        return model

    def read_feature_extractor(self) -> Any:
        """Read the feature extractor.

        Raises:
            ModelError: not found, damaged, or for another sampling rate.
        """
        extractor = self._read("feature extractor (preprocessor_config.json)", AutoFeatureExtractor.from_pretrained)
        if extractor.sampling_rate != SAMPLE_RATE:
            raise ModelError(
                f"{self._location.name!r} expects audio at {extractor.sampling_rate} Hz; {SAMPLE_RATE} Hz is required"
            )
        return extractor

    def read_tokenizer(self) -> Any:
        """Read the tokenizer.

        Raises:
            ModelError: not found or damaged.
        """
        return self._read("tokenizer (vocab.json or tokenizer.json)", AutoTokenizer.from_pretrained)

    def _read(self, what: str, from_pretrained: Callable[..., Any], **options: Any) -> Any:
        location, kind = self._location, self._kind
        try:
            return from_pretrained(location.folder or location.name, local_files_only=self._offline, **options)
        except Exception as error:  # a damaged checkpoint can raise anything
            if isinstance(error, OSError) and what is _MODEL and location.folder is None:
                raise ModelError(
                    f"{location.name!r} could not be fetched from the Hugging Face hub (no connection, no such model, "
                    f"or it needs a login), and no folder has that name; {kind.alternatives}"
                ) from error
            reason = textwrap.shorten(str(error) or repr(error), 200, placeholder=" ...")
            raise ModelError(f"cannot load the {what} of {location.name!r}: {reason}; {kind.alternatives}") from error


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
