"""Options that several commands share, and the values that options accept."""

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


_MODEL, _DECODING, _SPEECH = "Model", "Decoding", "Speech detection"
_SPEECH_DEFAULTS = SegmenterConfig()

ModelName = Annotated[
    Optional[str],
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FOLDER",
        help="CTC model of Hugging Face Transformers: a name on the hub or a local folder. See `stream-asr models`. "
        "[dim]default: embedded-en[/dim]",
        rich_help_panel=_MODEL,
    ),
]
DeviceOption = Annotated[
    Device,
    typer.Option("--device", help="Where the model runs. auto prefers a GPU (cuda, then mps).", rich_help_panel=_MODEL),
]
Threads = Annotated[
    Optional[int],
    typer.Option(
        "--threads",
        min=1,
        help="CPU threads for the model. [dim]default: chosen by PyTorch[/dim]",
        rich_help_panel=_MODEL,
    ),
]

SecondPassName = Annotated[
    Optional[str],
    typer.Option(
        "--second-pass",
        metavar="NAME|FOLDER|none",
        help="Seq2seq model that recognizes each utterance again while it grows, with fewer errors and with "
        "punctuation, such as Whisper or Moonshine: a name on the Hugging Face hub or a local folder. none shows the "
        "words of --model as they are, which needs less CPU time. "
        "[dim]default: the decoder of embedded-en with embedded-en, else none[/dim]",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Language = Annotated[
    Optional[str],
    typer.Option(
        "--language",
        metavar="CODE|NAME",
        help="Language of the speech, such as de or german, for a second pass that knows several languages, such as "
        "multilingual Whisper. --model must know the same language. [dim]default: detected for each utterance[/dim]",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The model, and where and how it runs."""

    model: ModelName = None
    second_pass: SecondPassName = None
    language: Language = None
    device: DeviceOption = Device.auto
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="Number format of the model. auto is float16 with CUDA, int8 for embedded-en on a CPU with fast int8 "
            "instructions, and float32 otherwise.",
            rich_help_panel=_MODEL,
        ),
    ] = Precision.auto
    backend: Annotated[
        Backend,
        typer.Option(
            "--backend",
            help="Library that runs the model. auto is onnxruntime for embedded-en on a CPU, where it is faster, and "
            "torch otherwise.",
            rich_help_panel=_MODEL,
        ),
    ] = Backend.auto
    threads: Threads = None
    cuda_graphs: Annotated[
        bool,
        typer.Option(
            "--cuda-graphs",
            help="With CUDA: record the GPU operations of the model once and replay them. Needs less CPU time.",
            rich_help_panel=_MODEL,
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How the output of the model becomes words."""

    lm: Annotated[
        Optional[Path],
        typer.Option(
            "--lm",
            metavar="FILE",
            help="Language model, which makes likely words win over similar ones: a file from `stream-asr lm build`, "
            "or lm-en, the bundled English one. Use it with --second-pass none. "
            "[dim]default: lm-en for embedded-en and models fine-tuned from it, else none[/dim]",
            rich_help_panel=_DECODING,
            show_default=False,
        ),
    ] = None
    no_lm: Annotated[
        bool, typer.Option("--no-lm", help="Decode without a language model.", rich_help_panel=_DECODING)
    ] = False
    lm_weight: Annotated[
        Optional[float],
        typer.Option(
            "--lm-weight",
            min=0,
            help=f"Weight of the language model. [dim]default: {BeamConfig().lm_weight:g}[/dim]",
            rich_help_panel=_DECODING,
        ),
    ] = None
    hotwords: Annotated[
        Optional[Path],
        typer.Option(
            "--hotwords",
            metavar="FILE",
            help="File of names and terms that are likely to occur, one word or phrase per line. A line may end in a "
            "weight: `Anneke Visser : 1.5`.",
            rich_help_panel=_DECODING,
            show_default=False,
        ),
    ] = None
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Write bare words: without punctuation, and in the only case of --model if it has one.",
            rich_help_panel=_DECODING,
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """How speech is detected and divided into utterances."""

    vad: Annotated[
        Vad,
        typer.Option(
            "--vad",
            help="Voice activity detector. silero separates speech from noise more reliably and needs more CPU time; "
            "install it with stream-asr\\[silero].",
            rich_help_panel=_SPEECH,
        ),
    ] = Vad.webrtc
    aggressiveness: Annotated[
        Optional[int],
        typer.Option(
            "--aggressiveness",
            min=0,
            max=3,
            help="How strictly webrtc rejects noise. Higher values may miss quiet speech. "
            f"[dim]default: {_SPEECH_DEFAULTS.aggressiveness}[/dim]",
            rich_help_panel=_SPEECH,
        ),
    ] = None
    endpoint_ms: Annotated[
        int,
        typer.Option(
            "--endpoint-ms",
            min=_SPEECH_DEFAULTS.min_pause_ms,
            help="Silence in milliseconds that ends an utterance.",
            rich_help_panel=_SPEECH,
        ),
    ] = _SPEECH_DEFAULTS.endpoint_ms
    max_utterance_ms: Annotated[
        int,
        typer.Option(
            "--max-utterance-ms",
            min=2000,
            help="Maximum length of an utterance in milliseconds. Longer ones are split.",
            rich_help_panel=_SPEECH,
        ),
    ] = _SPEECH_DEFAULTS.max_utterance_ms
