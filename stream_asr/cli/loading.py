"""From the options that commands share to a recognizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_asr.cli.options import SPEECH_DEFAULTS, Device, Precision

if TYPE_CHECKING:
    from stream_asr.recognizer import Recognizer


def load_recognizer(
    model: str | None,
    device: Device,
    precision: Precision,
    threads: int | None,
    aggressiveness: int = SPEECH_DEFAULTS.aggressiveness,
    endpoint_ms: int = SPEECH_DEFAULTS.endpoint_ms,
    max_utterance_ms: int = SPEECH_DEFAULTS.max_utterance_ms,
) -> Recognizer:
    """What the options of a command ask for.

    Raises:
        InputError, DeviceError: settings out of range; no such model or device.
    """
    from stream_asr.config import RecognizerConfig, SegmenterConfig

    # Settings first: a wrong one should not cost the seconds that loading takes.
    config = RecognizerConfig(
        segmenter=SegmenterConfig(
            aggressiveness=aggressiveness, endpoint_ms=endpoint_ms, max_utterance_ms=max_utterance_ms
        )
    )
    from rich.console import Console

    from stream_asr.recognizer import Recognizer

    with Console(stderr=True).status("loading the model ..."):
        return Recognizer.from_pretrained(
            model, device=device.value, precision=precision.value, threads=threads, config=config
        )
