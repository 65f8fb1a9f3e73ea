"""The options that commands share, and the values they take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from stream_asr.config import BeamConfig, SegmenterConfig


class Device(str, Enum):
    auto, cpu, cuda, mps = "auto", "cpu", "cuda", "mps"


class Precision(str, Enum):
    auto, float32, float16, int8 = "auto", "float32", "float16", "int8"


class Backend(str, Enum):
    auto, torch, onnxruntime = "auto", "torch", "onnxruntime"


class Vad(str, Enum):
    webrtc, silero = "webrtc", "silero"


class TranscriptFormat(str, Enum):
    text, json, srt, vtt = "text", "json", "srt", "vtt"


class LiveFormat(str, Enum):
    text, jsonl = "text", "jsonl"


class Pace(str, Enum):
    realtime, max = "realtime", "max"


class Encoding(str, Enum):
    pcm_s16le, pcm_s24le, pcm_s32le = "pcm_s16le", "pcm_s24le", "pcm_s32le"
    pcm_f32le, mulaw, alaw = "pcm_f32le", "mulaw", "alaw"


_MODEL, _WORDS, _SPEECH = "Model", "Words", "Speech detection"
_SPEECH_DEFAULTS = SegmenterConfig()

ModelName = Annotated[
    Optional[str],
    typer.Option(
        "--model",
        "-m",
        help="Hub name or folder of a CTC model. [dim]default: embedded-en[/dim]",
        rich_help_panel=_MODEL,
    ),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the model runs.", rich_help_panel=_MODEL)]
Threads = Annotated[
    Optional[int], typer.Option("--threads", min=1, help="Processor threads for the model.", rich_help_panel=_MODEL)
]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, and where it runs."""

    model: ModelName = None
    device: DeviceOption = Device.auto
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="auto is float16 on CUDA, int8 for the embedded model on processors made for it, else float32.",
            rich_help_panel=_MODEL,
        ),
    ] = Precision.auto
    backend: Annotated[
        Backend,
        typer.Option(
            "--backend",
            help="What runs the model. onnxruntime is the faster for embedded-en on a processor; it comes with the "
            "extra stream-asr\\[onnx], and auto takes it where it is installed.",
            rich_help_panel=_MODEL,
        ),
    ] = Backend.auto
    threads: Threads = None
    cuda_graphs: Annotated[
        bool,
        typer.Option(
            "--cuda-graphs",
            help="With --device cuda: record passes of the model and play them back, which needs less of the "
            "processor.",
            rich_help_panel=_MODEL,
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class WordOptions:
    """What the model's outputs are made into."""

    lm: Annotated[
        Optional[Path],
        typer.Option(
            "--lm",
            help="Language model that helps to find the words; `stream-asr lm build` makes one of your text. "
            "lm-en is the bundled English one. [dim]default: that for embedded-en and what was fine-tuned from it, "
            "none for other models[/dim]",
            rich_help_panel=_WORDS,
            show_default=False,
        ),
    ] = None
    no_lm: Annotated[
        bool, typer.Option("--no-lm", help="Spell by ear, without a language model.", rich_help_panel=_WORDS)
    ] = False
    lm_weight: Annotated[
        Optional[float],
        typer.Option(
            "--lm-weight",
            min=0,
            help=f"How much the language model has to say. [dim]default: {BeamConfig().lm_weight:g}[/dim]",
            rich_help_panel=_WORDS,
        ),
    ] = None
    hotwords: Annotated[
        Optional[Path],
        typer.Option(
            "--hotwords",
            help="Names and terms to listen for: one word or phrase a line, `Anneke Visser`, or with a weight, "
            "`Anneke Visser : 1.5`.",
            rich_help_panel=_WORDS,
            show_default=False,
        ),
    ] = None
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Write as the model does, without capitals at the front of sentences.", rich_help_panel=_WORDS
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """Where utterances begin and end."""

    vad: Annotated[
        Vad,
        typer.Option(
            "--vad",
            help="What tells speech from other sounds. silero knows it from noise better and needs more time; it comes "
            "with the extra stream-asr\\[silero].",
            rich_help_panel=_SPEECH,
        ),
    ] = Vad.webrtc
    aggressiveness: Annotated[
        Optional[int],
        typer.Option(
            "--aggressiveness",
            min=0,
            max=3,
            help=f"webrtc's mode; 3 is the strictest. [dim]default: {_SPEECH_DEFAULTS.aggressiveness}[/dim]",
            rich_help_panel=_SPEECH,
        ),
    ] = None
    endpoint_ms: Annotated[
        int,
        typer.Option(
            "--endpoint-ms",
            min=_SPEECH_DEFAULTS.min_pause_ms,
            help="Silence that ends an utterance.",
            rich_help_panel=_SPEECH,
        ),
    ] = _SPEECH_DEFAULTS.endpoint_ms
    max_utterance_ms: Annotated[
        int, typer.Option("--max-utterance-ms", min=2000, help="Longest utterance.", rich_help_panel=_SPEECH)
    ] = _SPEECH_DEFAULTS.max_utterance_ms
