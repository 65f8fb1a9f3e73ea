"""From the options that commands share to a recognizer."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from stream_asr.cli.options import ModelOptions, SpeechOptions, Vad, WordOptions
from stream_asr.config import BeamConfig, RecognizerConfig, SegmenterConfig
from stream_asr.errors import InputError

if TYPE_CHECKING:
    from stream_asr.recognizer import Recognizer


def load_recognizer(model: ModelOptions, words: WordOptions, speech: SpeechOptions) -> Recognizer:
    """What the options of a command ask for.

    Raises:
        InputError, DeviceError: settings out of range; no such model, language model or device.
    """
    # Settings first: a wrong one should not cost the seconds that loading takes.
    if words.lm_weight is not None and words.no_lm:
        raise InputError("--lm-weight has no language model to weigh with --no-lm")
    if words.lm is not None and words.no_lm:
        raise InputError("--lm and --no-lm exclude each other")
    if speech.aggressiveness is not None and speech.vad is not Vad.webrtc:
        raise InputError(f"--aggressiveness is a mode of --vad webrtc; {speech.vad.value} has none")
    beam = BeamConfig() if words.lm_weight is None else BeamConfig(lm_weight=words.lm_weight)
    config = RecognizerConfig(beam=beam, segmenter=_segmenter(speech))
    from rich.console import Console

    from stream_asr.recognizer import Recognizer

    with Console(stderr=True).status("loading the model ..."):
        return Recognizer.from_pretrained(
            model.model,
            device=model.device.value,
            precision=model.precision.value,
            backend=model.backend.value,
            threads=model.threads,
            cuda_graphs=model.cuda_graphs,
            lm=None if words.no_lm else words.lm or "auto",
            hotwords=words.hotwords or (),
            raw=words.raw,
            vad=speech.vad.value,
            config=config,
        )


def _segmenter(speech: SpeechOptions) -> SegmenterConfig:
    given = {name: value for name, value in asdict(speech).items() if value is not None}
    del given["vad"]
    return SegmenterConfig(**given)
