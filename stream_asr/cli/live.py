"""Live captions of the microphone, of a pipe, of a file, and of the bundled demo."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.table import Table

from stream_asr.audio.files import AudioFile
from stream_asr.audio.microphone import Microphone
from stream_asr.audio.pcm import AudioConverter
from stream_asr.audio.sources import paced, raw_pcm
from stream_asr.cli.captioning import Run, caption
from stream_asr.cli.interrupt import Interrupt, interruptible
from stream_asr.cli.recording import Recording, open_recording
from stream_asr.cli.views import JsonLinesView, PlainView, TerminalView, View
from stream_asr.config import SAMPLE_RATE
from stream_asr.events import Final
from stream_asr.latency import Arrival, LatencyReport, measure, percentile
from stream_asr.recognizer import Recognizer
from stream_asr.stream import Stream


def listen_to_microphone(recognizer: Recognizer, microphone: Microphone, form: str, save: Sequence[Path]) -> None:
    """Until Ctrl-C, or until the device goes away, which fails after its last words were shown."""
    with ExitStack() as stack:
        recordings = _recordings(stack, save, microphone.sample_rate)
        interrupt = stack.enter_context(interruptible())
        stream = stack.enter_context(recognizer.stream(microphone.sample_rate))
        view = stack.enter_context(_view(form, f"{microphone.device.name}  Ctrl-C ends"))
        stack.enter_context(microphone)
        run = caption(stream, microphone, view, interrupt, recordings=recordings)
    if microphone.dropped:
        lost_s = microphone.dropped / microphone.sample_rate
        print(f"stream-asr: {lost_s:.1f} s from the microphone were lost before they could be read", file=sys.stderr)
    if microphone.overflows:
        print(f"stream-asr: the sound card lost samples {microphone.overflows} time(s)", file=sys.stderr)
    _conclude(run, stream, interrupt)


def listen_to_pipe(
    recognizer: Recognizer, pipe: BinaryIO, converter: AudioConverter, form: str, save: Sequence[Path]
) -> None:
    """Until the pipe ends or Ctrl-C. A pipe that delivers faster than real time is read no faster than recognised."""
    with ExitStack() as stack:
        recordings = _recordings(stack, save, SAMPLE_RATE)
        interrupt = stack.enter_context(interruptible())
        stream = stack.enter_context(recognizer.stream())
        view = stack.enter_context(_view(form, "stdin  Ctrl-C ends"))
        blocks = raw_pcm(pipe, converter)
        run = caption(stream, blocks, view, interrupt, wait_for_room=True, recordings=recordings)
    if converter.trailing_bytes:
        print(
            f"stream-asr: the last {converter.trailing_bytes} byte(s) make no whole sample of {converter.encoding} "
            f"in {converter.channels} channel(s) and were left out; is that what the pipe carries?",
            file=sys.stderr,
        )
    _conclude(run, stream, interrupt)


def stream_file(recognizer: Recognizer, audio: AudioFile, form: str, *, realtime: bool) -> None:
    with (
        interruptible() as interrupt,
        recognizer.stream(audio.sample_rate, channels=audio.channels) as stream,
        _view(form, audio.path.name) as view,
    ):
        blocks = paced(audio, audio.sample_rate) if realtime else audio
        run = caption(stream, blocks, view, interrupt, wait_for_room=not realtime)
    _conclude(run, stream, interrupt)


def demo(recognizer: Recognizer) -> None:
    """The bundled recording at real-time pace, then what was measured on the way."""
    console = Console(highlight=False)
    with as_file(files("stream_asr") / "assets" / "demo.ogg") as path, AudioFile(path) as audio:
        cpu_start = time.process_time()
        with (
            interruptible() as interrupt,
            recognizer.stream(audio.sample_rate, channels=audio.channels) as stream,
            _view("text", "demo") as view,
        ):
            arrivals: list[Arrival] = []
            blocks = paced(audio, audio.sample_rate)
            run = caption(stream, blocks, view, interrupt, on_arrival=arrivals.append)
        cpu_s = time.process_time() - cpu_start
        live_text = [arrival.event.text for arrival in arrivals if isinstance(arrival.event, Final)]
        console.print(_report(measure(arrivals), stream, recognizer, cpu_s))
        if not interrupt:
            start = time.monotonic()
            again = [final.text for final in recognizer.iter_finals(path)]
            rtf = (time.monotonic() - start) / stream.received_s
            same = "the same text" if again == live_text else "NOT the same text"
            console.print(f"The file in one go: {rtf:.3f} of real time, {same}.")
            console.print(
                "Your own voice: [bold]stream-asr listen[/bold]   a file: [bold]stream-asr transcribe FILE[/bold]"
            )
    _conclude(run, stream, interrupt)


def _report(report: LatencyReport, stream: Stream, recognizer: Recognizer, cpu_s: float) -> Table:
    table = Table(title=f"{recognizer.model.name}, {stream.received_s:.1f} s of audio", title_justify="left")
    table.add_column("measured live, compute included")
    table.add_column("p50", justify="right")
    table.add_column("p95", justify="right")
    endpoint_ms = recognizer.config.segmenter.endpoint_ms
    rows = (
        ("first partial, after an utterance's first word", report.first_partial_ms),
        ("word emission latency, to first appearance", report.word_first_ms),
        ("word emission latency, to stable", report.word_stable_ms),
        (f"final latency, beyond the {endpoint_ms} ms of silence", report.final_ms),
    )
    for name, values in rows:
        table.add_row(name, _ms(percentile(values, 50)), _ms(percentile(values, 95)))
    table.add_section()
    table.add_row("words", str(report.words), "")
    table.add_row("unstable partial words for each final word (UPWR)", f"{report.upwr:.2f}", "")
    table.add_row("processor seconds for each second of audio", f"{cpu_s / stream.received_s:.3f}", "")
    return table


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def _view(form: str, title: str) -> View:
    if form == "jsonl":
        return JsonLinesView()
    return TerminalView(title=title) if sys.stdout.isatty() else PlainView()


def _recordings(stack: ExitStack, paths: Iterable[Path], sample_rate: int) -> list[Recording]:
    recordings = []
    for path in paths:
        recordings.append(open_recording(path, sample_rate))
        stack.callback(recordings[-1].close)
    return recordings


def _conclude(run: Run, stream: Stream, interrupt: Interrupt) -> None:
    if run.failure is not None:
        raise run.failure
    if not run.spoken and not interrupt:
        print(f"stream-asr: no speech in {stream.received_s:.2f} s of audio", file=sys.stderr)
