"""The commands of ``stream-asr``. A command checks its arguments, then calls the module that does the work.

The modules that do the work are imported inside the commands, so that ``--help`` does not wait for torch and numpy.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from stream_asr.cli import lm
from stream_asr.cli.finetune import finetune
from stream_asr.cli.loading import load_recognizer
from stream_asr.cli.option_groups import expand_option_groups
from stream_asr.cli.options import (
    DecodingOptions,
    Encoding,
    LiveFormat,
    ModelOptions,
    Pace,
    SpeechOptions,
    TranscriptFormat,
)
from stream_asr.cli.serve import serve
from stream_asr.errors import InputError

_RAW_PCM = "Raw PCM (listen -)"

app = typer.Typer(
    name="stream-asr",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Live captions from a microphone, a file, a pipe or a websocket.\n\n"
    "Start with [bold]stream-asr demo[/bold]. Each command explains its options with --help.",
)
app.add_typer(lm.app, name="lm")


@app.callback(invoke_without_command=True)
def _handle_global_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from stream_asr import __version__

        print(__version__)
        raise typer.Exit


@app.command()
@expand_option_groups
def demo(
    *,
    model: ModelOptions,
    decoding: DecodingOptions,
    speech: SpeechOptions,
) -> None:
    """Caption a bundled recording in real time, then show latencies and speed.

    The recording takes half a minute. Bright words are stable, dim words may still change.
    """
    from stream_asr.cli.live import run_demo

    with load_recognizer(model, decoding, speech) as recognizer:
        run_demo(recognizer)


@app.command()
@expand_option_groups
def transcribe(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Recordings of any length, format and sample rate.", show_default=False),
    ],
    format_option: Annotated[
        Optional[TranscriptFormat],
        typer.Option(
            "--format",
            "-f",
            help="Format of the transcript. json has words with times and confidences. "
            "[dim]default: by the extension of --output, else text[/dim]",
        ),
    ] = None,
    output: Annotated[
        Optional[str],
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="File to write, or folder for one file per recording. End the name of a folder with a slash if there "
            "is only one recording. [dim]default: stdout[/dim]",
        ),
    ] = None,
    whole_utterances: Annotated[
        bool,
        typer.Option(
            "--whole-utterances",
            help="Recognize each utterance in one pass instead of in short windows. Fewer errors and less CPU time, "
            "but the text may differ from live captions of the same audio.",
        ),
    ] = False,
    *,
    model: ModelOptions,
    decoding: DecodingOptions,
    speech: SpeechOptions,
) -> None:
    """Transcribe recordings to text, JSON or subtitles.

    The text is the same as in live captions of the same audio, unless you add --whole-utterances. Ctrl-C stops and
    writes the text so far.

    Examples:

      stream-asr transcribe talk.mp3
      stream-asr transcribe talk.mp3 --format srt --output talk.srt
      stream-asr transcribe *.flac --whole-utterances --format json --output transcripts/
    """
    from stream_asr.audio.files import AudioFile
    from stream_asr.cli.outputs import infer_format, resolve_output_paths
    from stream_asr.cli.transcribe import transcribe_files

    for path in files:
        AudioFile(path).close()  # Check all files first: an error should not come after an hour of other files.
    format_name = format_option.value if format_option is not None else infer_format(output)
    targets = resolve_output_paths(files, output, format_name)
    with load_recognizer(model, decoding, speech) as recognizer:
        transcribe_files(recognizer, files, targets, format_name, whole_utterances=whole_utterances)


@app.command()
@expand_option_groups
def listen(
    source: Annotated[
        Optional[str],
        typer.Argument(
            metavar="-",
            help="[bold]-[/bold] reads raw PCM from stdin. [dim]default: the microphone[/dim]",
            show_default=False,
        ),
    ] = None,
    input_device: Annotated[
        Optional[str],
        typer.Option(
            "--input-device",
            "-i",
            metavar="DEVICE",
            help="Number or part of the name of the microphone. `stream-asr devices` lists them. "
            "[dim]default: the system's default input[/dim]",
        ),
    ] = None,
    save: Annotated[
        Optional[list[Path]],
        typer.Option(
            "--save",
            metavar="FILE",
            help="Also save the audio (.wav, .flac) or the captions (.txt, .jsonl, .srt, .vtt) to a new file. "
            "Can be repeated.",
        ),
    ] = None,
    format_option: Annotated[
        LiveFormat,
        typer.Option("--format", "-f", help="text prints captions, jsonl each event as a line of JSON."),
    ] = LiveFormat.text,
    sample_rate: Annotated[
        int, typer.Option("--sample-rate", "-r", help="Sample rate in Hz.", rich_help_panel=_RAW_PCM)
    ] = 16_000,
    channels: Annotated[
        int, typer.Option("--channels", help="Number of interleaved channels.", rich_help_panel=_RAW_PCM)
    ] = 1,
    encoding: Annotated[
        Encoding, typer.Option("--encoding", help="Encoding of the samples.", rich_help_panel=_RAW_PCM)
    ] = Encoding.pcm_s16le,
    *,
    model: ModelOptions,
    decoding: DecodingOptions,
    speech: SpeechOptions,
) -> None:
    """Caption the microphone, or raw PCM from a pipe, until Ctrl-C.

    Bright words are stable, dim words may still change. Ctrl-C finishes the last caption; a second Ctrl-C stops at
    once.

    Examples:

      stream-asr listen --save meeting.wav --save meeting.srt
      ffmpeg -i rtsp://camera/live -f s16le -ar 16000 -ac 1 - | stream-asr listen -
    """
    from stream_asr.audio.microphone import Microphone
    from stream_asr.audio.pcm import AudioConverter
    from stream_asr.cli.live import listen_to_microphone, listen_to_pipe

    if source not in (None, "-"):
        raise InputError(f"listen reads the microphone, or stdin with `-`; for a file use `stream-asr stream {source}`")
    is_pcm_format_given = (sample_rate, channels, encoding) != (16_000, 1, Encoding.pcm_s16le)
    if is_pcm_format_given and source is None:
        raise InputError("--sample-rate, --channels and --encoding describe raw PCM: use them with `listen -`")
    if input_device is not None and source == "-":
        raise InputError("--input-device selects a microphone, but `listen -` reads stdin")
    if source == "-":
        if sys.stdin is None:
            raise InputError("`listen -` reads raw PCM from stdin, which is closed")
        converter = AudioConverter(sample_rate, channels, encoding.value)
        with load_recognizer(model, decoding, speech) as recognizer:
            listen_to_pipe(recognizer, sys.stdin.buffer, converter, format_option.value, save or [])
    else:
        microphone = Microphone(input_device)
        with load_recognizer(model, decoding, speech) as recognizer:
            listen_to_microphone(recognizer, microphone, format_option.value, save or [])


@app.command()
@expand_option_groups
def stream(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Recording in any format and sample rate.", show_default=False)
    ],
    pace: Annotated[
        Pace,
        typer.Option("--pace", help="realtime sends the audio as a microphone would, max as fast as it is recognized."),
    ] = Pace.realtime,
    format_option: Annotated[
        LiveFormat,
        typer.Option("--format", "-f", help="jsonl prints each event as a line of JSON, text the captions."),
    ] = LiveFormat.jsonl,
    *,
    model: ModelOptions,
    decoding: DecodingOptions,
    speech: SpeechOptions,
) -> None:
    """Send a recording through a live stream and print its events.

    Shows what a live client of this recording would get, partial captions included. To get only the text, use
    `stream-asr transcribe`.

    Examples:

      stream-asr stream talk.mp3
      stream-asr stream talk.mp3 --pace max | grep '"final"'
    """
    from stream_asr.audio.files import AudioFile
    from stream_asr.cli.live import stream_file

    with AudioFile(file) as audio, load_recognizer(model, decoding, speech) as recognizer:
        stream_file(recognizer, audio, format_option.value, realtime=pace is Pace.realtime)


app.command()(finetune)
app.command()(expand_option_groups(serve))


@app.command()
def devices() -> None:
    """List the microphones and other audio inputs; * marks the default."""
    from stream_asr.audio.microphone import list_input_devices

    found = list_input_devices()
    if not found:
        print("stream-asr: no audio input was found", file=sys.stderr)
    for device in found:
        mark = "*" if device.is_default else " "
        print(f"{mark} {device.index:>3}  {device.name}  ({device.channels} ch, {device.sample_rate} Hz)")


@app.command()
def models() -> None:
    """List models and second passes: what is bundled and what is recommended.

    A model shows words at once and finds their times. A second pass recognizes each utterance again, with fewer errors.
    """
    from stream_asr.acoustic.catalog import CATALOG, SECOND_PASS_CATALOG

    for option, entries in (("--model", CATALOG), ("--second-pass", SECOND_PASS_CATALOG)):
        for entry in entries:
            availability = "downloads at first use" if entry.needs_download else "no download"
            print(f"{option:<14} {entry.name:<28} {entry.parameters_m:>6.1f} M  {availability:<24}{entry.about}")
    print(
        "\nAny other CTC model of Transformers works as --model, and any speech seq2seq model as --second-pass: "
        "NAME/ON-THE-HUB or path/to/folder",
        file=sys.stderr,
    )


def _reflow_help(typer_app: typer.Typer) -> None:
    """Join the lines of each paragraph of the commands' help, so that it wraps at the width of the terminal.

    Indented paragraphs, such as examples, keep their lines.
    """
    for command in typer_app.registered_commands:
        text = inspect.getdoc(command.callback) or ""
        paragraphs = (part if part.startswith(" ") else part.replace("\n", " ") for part in text.split("\n\n"))
        command.help = "\n\n".join(paragraphs)


for _app in (app, lm.app):
    _reflow_help(_app)
