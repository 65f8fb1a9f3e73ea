"""The commands. Each one checks what it was given, then hands over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from stream_asr.cli import lm as language_models
from stream_asr.cli.finetune import finetune
from stream_asr.cli.grouping import grouped
from stream_asr.cli.helping import unwrap_help
from stream_asr.cli.loading import load_recognizer
from stream_asr.cli.options import (
    Encoding,
    LiveFormat,
    ModelOptions,
    Pace,
    SpeechOptions,
    TranscriptFormat,
    WordOptions,
)
from stream_asr.cli.serve import serve
from stream_asr.errors import InputError

app = typer.Typer(
    name="stream-asr",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Live captions from a microphone, a file, a pipe or a websocket.\n\nStart with [bold]stream-asr demo[/bold].",
)
app.add_typer(language_models.app, name="lm")


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from stream_asr import __version__

        print(__version__)
        raise typer.Exit


@app.command()
@grouped
def demo(
    *,
    model: ModelOptions,
    words: WordOptions,
    speech: SpeechOptions,
) -> None:
    """Caption the bundled recording as if it were spoken now, then show latencies and speed."""
    from stream_asr.cli import live

    with load_recognizer(model, words, speech) as recognizer:
        live.demo(recognizer)


@app.command()
@grouped
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Recordings of any length, format and rate.", show_default=False)],
    form: Annotated[
        Optional[TranscriptFormat],
        typer.Option(
            "--format",
            "-f",
            help="json has words with times and confidences. [dim]default: the ending of --output, else text[/dim]",
        ),
    ] = None,
    output: Annotated[
        Optional[str],
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file, or a folder: for several recordings, or with a / at its end. [dim]default: stdout[/dim]",
        ),
    ] = None,
    whole_utterances: Annotated[
        bool,
        typer.Option(
            "--whole-utterances",
            help="Hear each utterance in one pass: fewer mistakes in less time, but not the very text that live "
            "captions of the same sound end in.",
        ),
    ] = False,
    *,
    model: ModelOptions,
    words: WordOptions,
    speech: SpeechOptions,
) -> None:
    """Write down recordings.

    Examples:

      stream-asr transcribe talk.mp3

      stream-asr transcribe talk.mp3 --format srt --output talk.srt

      stream-asr transcribe *.flac --whole-utterances --format json --output transcripts/
    """
    from stream_asr.audio.files import AudioFile
    from stream_asr.cli import batch
    from stream_asr.cli.formats import form_of
    from stream_asr.cli.outputs import output_paths

    for path in files:
        AudioFile(path).close()  # a wrong name should not be found out after an hour of other files
    written = form.value if form is not None else form_of(output)
    targets = output_paths(files, output, written)
    with load_recognizer(model, words, speech) as recognizer:
        batch.transcribe(recognizer, files, targets, written, whole_utterances=whole_utterances)


@app.command()
@grouped
def listen(
    source: Annotated[
        Optional[str],
        typer.Argument(help="[bold]-[/bold] reads raw PCM from stdin in place of the microphone.", show_default=False),
    ] = None,
    input_device: Annotated[
        Optional[str], typer.Option("--input-device", "-i", help="Number or part of a name; see `stream-asr devices`.")
    ] = None,
    save: Annotated[
        Optional[list[Path]],
        typer.Option(
            "--save", help="Also save the sound (.wav, .flac) or captions (.txt, .jsonl, .srt, .vtt). Repeatable."
        ),
    ] = None,
    form: Annotated[LiveFormat, typer.Option("--format", "-f", help="jsonl prints every event.")] = LiveFormat.text,
    sample_rate: Annotated[int, typer.Option("--sample-rate", "-r", help="Of raw PCM, in Hz.")] = 16_000,
    channels: Annotated[int, typer.Option("--channels", help="Of raw PCM, interleaved.")] = 1,
    encoding: Annotated[Encoding, typer.Option("--encoding", help="Of raw PCM.")] = Encoding.pcm_s16le,
    *,
    model: ModelOptions,
    words: WordOptions,
    speech: SpeechOptions,
) -> None:
    """Caption the microphone until Ctrl-C.

    Examples:

      stream-asr listen --save meeting.wav --save meeting.srt

      ffmpeg -i rtsp://camera/live -f s16le -ar 16000 -ac 1 - | stream-asr listen -
    """
    from stream_asr.audio.microphone import Microphone
    from stream_asr.audio.pcm import AudioConverter
    from stream_asr.cli import live

    if source not in (None, "-"):
        raise InputError(
            f"listen takes `-` or nothing, not {source!r}; for a file there is `stream-asr stream {source}`"
        )
    raw = (sample_rate, channels, encoding) != (16_000, 1, Encoding.pcm_s16le)
    if raw and source is None:
        raise InputError("--sample-rate, --channels and --encoding are for raw PCM: stream-asr listen - ...")
    if input_device is not None and source == "-":
        raise InputError("--input-device is for the microphone; `listen -` reads stdin")
    if source == "-":
        if sys.stdin is None:
            raise InputError("stdin is closed; `listen -` reads raw PCM from it")
        converter = AudioConverter(sample_rate, channels, encoding.value)
        with load_recognizer(model, words, speech) as recognizer:
            live.listen_to_pipe(recognizer, sys.stdin.buffer, converter, form.value, save or [])
    else:
        microphone = Microphone(input_device)
        with load_recognizer(model, words, speech) as recognizer:
            live.listen_to_microphone(recognizer, microphone, form.value, save or [])


@app.command()
@grouped
def stream(
    file: Annotated[Path, typer.Argument(help="A recording.", show_default=False)],
    pace: Annotated[
        Pace, typer.Option("--pace", help="realtime, like a microphone, or as fast as it goes.")
    ] = Pace.realtime,
    form: Annotated[
        LiveFormat, typer.Option("--format", "-f", help="jsonl prints every event, text the captions.")
    ] = LiveFormat.jsonl,
    *,
    model: ModelOptions,
    words: WordOptions,
    speech: SpeechOptions,
) -> None:
    """Send a recording through the live path, partial captions and all; one event a line."""
    from stream_asr.audio.files import AudioFile
    from stream_asr.cli import live

    with AudioFile(file) as audio, load_recognizer(model, words, speech) as recognizer:
        live.stream_file(recognizer, audio, form.value, realtime=pace is Pace.realtime)


app.command()(finetune)
app.command()(grouped(serve))


@app.command()
def devices() -> None:
    """List the microphones and other inputs; * marks the default."""
    from stream_asr.audio.microphone import input_devices

    found = input_devices()
    if not found:
        print("no audio input was found", file=sys.stderr)
    for device in found:
        mark = "*" if device.is_default else " "
        print(f"{mark} {device.index:>3}  {device.name}  ({device.channels} ch, {device.sample_rate} Hz)")


@app.command()
def models() -> None:
    """List what can be loaded without a download, and what is recommended."""
    from stream_asr.acoustic.catalog import CATALOG

    for entry in CATALOG:
        where = "downloads at first use" if entry.needs_download else "no download"
        print(f"{entry.name:<30} {entry.parameters_m:>6.1f} M  {where:<24}{entry.about}")
    print(
        "\nAny other CTC model of Transformers works too: --model NAME/ON-THE-HUB or --model path/to/folder",
        file=sys.stderr,
    )


for commands in (app, language_models.app):
    unwrap_help(commands)
