"""From the options that commands share to a recognizer."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from stream_asr.cli.options import ModelOptions, SpeechOptions, WordOptions
from stream_asr.errors import InputError

if TYPE_CHECKING:
    from stream_asr.recognizer import Recognizer


def load_recognizer(model: ModelOptions, words: WordOptions, speech: SpeechOptions | None = None) -> Recognizer:
    """What the options of a command ask for.

    Raises:
        InputError, DeviceError: settings out of range; no such model, language model or device.
    """
    from stream_asr.config import BeamConfig, RecognizerConfig, SegmenterConfig

    # Settings first: a wrong one should not cost the seconds that loading takes.
    if words.lm_weight is not None and words.no_lm:
        raise InputError("--lm-weight has no language model to weigh with --no-lm")
    if words.lm is not None and words.no_lm:
        raise InputError("--lm and --no-lm exclude each other")
    config = RecognizerConfig(
        beam=BeamConfig() if words.lm_weight is None else BeamConfig(lm_weight=words.lm_weight),
        segmenter=SegmenterConfig(**asdict(speech)) if speech is not None else SegmenterConfig(),
    )
    from rich.console import Console

    from stream_asr.recognizer import Recognizer

    with Console(stderr=True).status("loading the model ..."):
        return Recognizer.from_pretrained(
            model.model,
            device=model.device.value,
            precision=model.precision.value,
            threads=model.threads,
            lm=None if words.no_lm else words.lm or "auto",
            hotwords=words.hotwords or (),
            raw=words.raw,
            config=config,
        )
