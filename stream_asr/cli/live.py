"""Live sessions of the commands ``listen``, ``stream`` and ``demo``."""

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
from stream_asr.audio.sources import pace_realtime, read_raw_pcm
from stream_asr.cli.caption_loop import LoopResult, run_caption_loop
from stream_asr.cli.interrupt import Interrupt, catch_interrupts
from stream_asr.cli.loading import describe_models
from stream_asr.cli.sinks import Sink, open_sink
from stream_asr.cli.views import JsonLinesView, PlainView, TerminalView, View
from stream_asr.config import SAMPLE_RATE
from stream_asr.events import Final
from stream_asr.latency import Arrival, LatencyReport, measure, percentile
from stream_asr.recognizer import Recognizer
from stream_asr.stream import Stream


def listen_to_microphone(
    recognizer: Recognizer, microphone: Microphone, format_name: str, save: Sequence[Path]
) -> None:
    """Caption a microphone until Ctrl-C.

    Raises:
        DeviceError: the microphone was disconnected; the captions of all captured audio have been shown.
    """
    with ExitStack() as stack:
        sinks = _open_sinks(stack, save, microphone.sample_rate)
        interrupt = stack.enter_context(catch_interrupts())
        stream = stack.enter_context(recognizer.stream(microphone.sample_rate))
        view = stack.enter_context(_choose_view(format_name, f"{microphone.device.name}  Ctrl-C to stop"))
        stack.enter_context(microphone)
        result = run_caption_loop(stream, microphone, view, interrupt, sinks=sinks)
    if microphone.dropped:
        dropped_s = microphone.dropped / microphone.sample_rate
        print(
            f"stream-asr: {dropped_s:.1f} s of audio from the microphone were dropped because this computer was too "
            "slow to read them",
            file=sys.stderr,
        )
    if microphone.overflows:
        print(
            f"stream-asr: the audio device lost samples {microphone.overflows} time(s) (input overflow)",
            file=sys.stderr,
        )
    _report_result(result, stream, interrupt)


def listen_to_pipe(
    recognizer: Recognizer, pipe: BinaryIO, converter: AudioConverter, format_name: str, save: Sequence[Path]
) -> None:
    """Caption raw PCM until the pipe ends or Ctrl-C. The pipe is not read faster than the audio is recognized."""
    with ExitStack() as stack:
        sinks = _open_sinks(stack, save, SAMPLE_RATE)
        interrupt = stack.enter_context(catch_interrupts())
        stream = stack.enter_context(recognizer.stream())
        view = stack.enter_context(_choose_view(format_name, "stdin  Ctrl-C to stop"))
        blocks = read_raw_pcm(pipe, converter)
        result = run_caption_loop(stream, blocks, view, interrupt, wait_for_recognition=True, sinks=sinks)
    if converter.trailing_bytes:
        print(
            f"stream-asr: the last {converter.trailing_bytes} byte(s) are not a complete sample of "
            f"{converter.encoding} in {converter.channels} channel(s) and were ignored; are --encoding and --channels "
            "right?",
            file=sys.stderr,
        )
    _report_result(result, stream, interrupt)


def stream_file(recognizer: Recognizer, audio: AudioFile, format_name: str, *, realtime: bool) -> None:
    """Send a file through a live stream, in real time or as fast as it can be recognized."""
    with (
        catch_interrupts() as interrupt,
        recognizer.stream(audio.sample_rate, channels=audio.channels) as stream,
        _choose_view(format_name, audio.path.name) as view,
    ):
        blocks = pace_realtime(audio, audio.sample_rate) if realtime else audio
        result = run_caption_loop(stream, blocks, view, interrupt, wait_for_recognition=not realtime)
    _report_result(result, stream, interrupt)


def run_demo(recognizer: Recognizer) -> None:
    """Caption the bundled recording in real time, then show latencies and speed."""
    console = Console(highlight=False)
    with as_file(files("stream_asr") / "assets" / "demo.ogg") as path, AudioFile(path) as audio:
        cpu_start_s = time.process_time()
        with (
            catch_interrupts() as interrupt,
            recognizer.stream(audio.sample_rate, channels=audio.channels) as stream,
            _choose_view("text", "demo") as view,
        ):
            arrivals: list[Arrival] = []
            blocks = pace_realtime(audio, audio.sample_rate)
            result = run_caption_loop(stream, blocks, view, interrupt, on_arrival=arrivals.append)
        cpu_s = time.process_time() - cpu_start_s
        live_text = [arrival.event.text for arrival in arrivals if isinstance(arrival.event, Final)]
        console.print(_latency_table(measure(arrivals), stream, recognizer, cpu_s))
        if not interrupt:
            start_s = time.monotonic()
            file_text = [final.text for final in recognizer.iter_finals(path)]
            rtf = (time.monotonic() - start_s) / stream.received_s
            comparison = "the same text" if file_text == live_text else "NOT the same text"
            console.print(f"Transcribed as a file: {rtf:.3f} times real time, {comparison}.")
            console.print(
                "Next: [bold]stream-asr listen[/bold] captions your microphone, "
                "[bold]stream-asr transcribe FILE[/bold] a recording."
            )
    _report_result(result, stream, interrupt)


def _latency_table(report: LatencyReport, stream: Stream, recognizer: Recognizer, cpu_s: float) -> Table:
    table = Table(title=f"{describe_models(recognizer)}, {stream.received_s:.1f} s of audio", title_justify="left")
    table.add_column("measured live, compute included")
    table.add_column("p50", justify="right")
    table.add_column("p95", justify="right")
    endpoint_ms = recognizer.config.segmenter.endpoint_ms
    rows = (
        ("first partial, after the end of an utterance's first word", report.first_partial_ms),
        ("word emission latency, to first appearance", report.word_first_ms),
        ("word emission latency, to stable", report.word_stable_ms),
        (f"final latency, beyond the {endpoint_ms} ms of silence that end an utterance", report.final_ms),
    )
    for name, latencies_ms in rows:
        table.add_row(name, _format_ms(percentile(latencies_ms, 50)), _format_ms(percentile(latencies_ms, 95)))
    table.add_section()
    table.add_row("words", str(report.words), "")
    table.add_row("unstable partial words per final word (UPWR)", f"{report.upwr:.2f}", "")
    table.add_row("CPU seconds per second of audio", f"{cpu_s / stream.received_s:.3f}", "")
    return table


def _format_ms(value_ms: float | None) -> str:
    return "-" if value_ms is None else f"{value_ms:.0f} ms"


def _choose_view(format_name: str, title: str) -> View:
    if format_name == "jsonl":
        return JsonLinesView()
    return TerminalView(title=title) if sys.stdout.isatty() else PlainView()


def _open_sinks(stack: ExitStack, paths: Iterable[Path], sample_rate: int) -> list[Sink]:
    """Open a sink for each path. The stack closes them, also those opened before an error."""
    sinks = []
    for path in paths:
        sinks.append(open_sink(path, sample_rate))
        stack.callback(sinks[-1].close)
    return sinks


def _report_result(result: LoopResult, stream: Stream, interrupt: Interrupt) -> None:
    """Raise the error of a session, or print that it had no speech."""
    if result.error is not None:
        raise result.error
    if not result.has_speech and not interrupt:
        print(f"stream-asr: no speech in {stream.received_s:.2f} s of audio", file=sys.stderr)
