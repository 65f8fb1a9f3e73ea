"""``stream-asr transcribe``: transcribe files, with a progress bar."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stream_asr.atomic_files import convert_os_errors, replace_file
from stream_asr.cli.interrupt import Interrupt, catch_interrupts
from stream_asr.cli.outputs import format_transcript
from stream_asr.errors import InputError
from stream_asr.events import Final, Transcript
from stream_asr.recognizer import Recognizer


def transcribe_files(
    recognizer: Recognizer,
    files: Sequence[Path],
    targets: Sequence[Path | None],
    format_name: str,
    *,
    whole_utterances: bool = False,
) -> None:
    """Transcribe each file and write its transcript to the target with the same index.

    After Ctrl-C, and if a file is damaged, the transcript up to that point is written.

    Args:
        recognizer: transcribes the files.
        files: the recordings.
        targets: paths of the transcripts; None stands for stdout.
        format_name: text, json, srt or vtt.
        whole_utterances: recognize each utterance in one pass.

    Raises:
        InputError: a file is damaged, or a target cannot be written.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    several = len(files) > 1
    json_entries = []
    with _progress_bar() as progress, catch_interrupts() as interrupt:
        for path, target in zip(files, targets, strict=True):
            task = progress.add_task(path.name, total=None)
            with ExitStack() as stack:
                output = stack.enter_context(replace_file(target)) if target is not None else None
                transcript, failure = _transcribe_file(recognizer, path, progress, task, interrupt, whole_utterances)
                if target is not None and output is not None:
                    with convert_os_errors(target):
                        output.write(format_transcript(transcript, format_name).encode())
            if not transcript.utterances and failure is None and not interrupt:
                print(f"stream-asr: no speech in the {transcript.duration_s:.2f} s of {path}", file=sys.stderr)
            if output is None and several and format_name == "json":
                json_entries.append({"file": str(path), **transcript.to_json()})
            elif output is None:
                if several:
                    print(f"==> {path} <==")
                sys.stdout.write(format_transcript(transcript, format_name))
                sys.stdout.flush()
            if interrupt:
                written = "the text" if target is None else str(target)
                # The end of the last utterance, not the end of what was read: some of that is not recognized yet.
                end_s = transcript.utterances[-1].end if transcript.utterances else 0.0
                print(f"stream-asr: stopped; {written} ends at {end_s:.1f} s of {path}", file=sys.stderr)
            if failure is not None or interrupt:
                break
    if json_entries:
        print(json.dumps(json_entries, ensure_ascii=False, indent=2))
    if failure is not None:
        raise failure
    if interrupt:
        raise KeyboardInterrupt


def _transcribe_file(
    recognizer: Recognizer,
    path: Path,
    progress: Progress,
    task: TaskID,
    interrupt: Interrupt,
    whole_utterances: bool,
) -> tuple[Transcript, InputError | None]:
    """Return the transcript up to the end, an error or Ctrl-C, and the error if there was one."""
    finals: list[Final] = []
    read_s = 0.0

    def update_progress(done_s: float, total_s: float | None) -> None:
        nonlocal read_s
        read_s = done_s
        progress.update(task, completed=done_s, total=total_s)
        if interrupt:
            raise _InterruptedError

    failure: InputError | None = None
    try:
        for final in recognizer.iter_finals(path, whole_utterances=whole_utterances, progress=update_progress):
            finals.append(final)
    except _InterruptedError:
        pass
    except InputError as error:
        # Errors in sample values do not name the file.
        failure = error if str(path) in str(error) else InputError(f"{path}: {error}")
    return Transcript(tuple(final for final in finals if final.text), read_s), failure


class _InterruptedError(Exception):
    """Ends a transcription after Ctrl-C. The progress callback raises it, so that the recognizer cleans up."""


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:.0f} s of audio"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
