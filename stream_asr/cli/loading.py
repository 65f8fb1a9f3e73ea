"""Create a recognizer from the shared command line options."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from stream_asr.cli.options import DecodingOptions, ModelOptions, SpeechOptions, Vad
from stream_asr.config import BeamConfig, RecognizerConfig, SegmenterConfig
from stream_asr.errors import InputError

if TYPE_CHECKING:
    from stream_asr.recognizer import Recognizer


def load_recognizer(model: ModelOptions, decoding: DecodingOptions, speech: SpeechOptions) -> Recognizer:
    """Load the model that the options name, and configure a recognizer.

    Raises:
        InputError: options are out of range or exclude each other, or the model or language model cannot be loaded.
        DeviceError: the device is not available.
    """
    # Check the options first, before the seconds that loading a model takes.
    if decoding.lm_weight is not None and decoding.no_lm:
        raise InputError("--lm-weight and --no-lm exclude each other: there is no language model to weight")
    if decoding.lm is not None and decoding.no_lm:
        raise InputError("--lm and --no-lm exclude each other")
    if speech.aggressiveness is not None and speech.vad is not Vad.webrtc:
        raise InputError(f"--aggressiveness applies to --vad webrtc only, not to --vad {speech.vad.value}")
    beam = BeamConfig() if decoding.lm_weight is None else BeamConfig(lm_weight=decoding.lm_weight)
    config = RecognizerConfig(beam=beam, segmenter=_segmenter_config(speech))
    from rich.console import Console

    from stream_asr.recognizer import Recognizer

    with Console(stderr=True).status("loading the model ..."):
        recognizer = Recognizer.from_pretrained(
            model.model,
            device=model.device.value,
            precision=model.precision.value,
            backend=model.backend.value,
            threads=model.threads,
            cuda_graphs=model.cuda_graphs,
            second_pass=model.second_pass or "auto",
            language=model.language,
            lm=None if decoding.no_lm else decoding.lm or "auto",
            hotwords=decoding.hotwords or (),
            raw=decoding.raw,
            vad=speech.vad.value,
            config=config,
        )
    if recognizer.second_pass is not None and (decoding.lm or decoding.lm_weight is not None):
        print(
            "stream-asr: a language model only changes the newest words of a caption, which the second pass then "
            "replaces; to use it, add --second-pass none",
            file=sys.stderr,
        )
    return recognizer


def describe_models(recognizer: Recognizer) -> str:
    """Return the names of the model and of its second pass."""
    return f"{recognizer.model.name} (second pass: {recognizer.second_pass_name or 'none'})"


def _segmenter_config(speech: SpeechOptions) -> SegmenterConfig:
    settings = {name: value for name, value in asdict(speech).items() if value is not None}
    del settings["vad"]
    return SegmenterConfig(**settings)
