"""Recordings to transcripts, with a progress bar."""

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

from stream_asr.atomic_files import replacing, writing
from stream_asr.cli.formats import render
from stream_asr.cli.interrupt import Interrupt, interruptible
from stream_asr.errors import InputError
from stream_asr.events import Final, Transcript
from stream_asr.recognizer import Recognizer


def transcribe(
    recognizer: Recognizer,
    files: Sequence[Path],
    targets: Sequence[Path | None],
    form: str,
    *,
    whole_utterances: bool = False,
) -> None:
    """Transcribe ``files`` into ``targets``; None is stdout.

    Ctrl-C writes what was recognised until then.

    Raises:
        InputError: a target cannot be written, or a file breaks off; transcripts until then are written.
        KeyboardInterrupt: the user stopped it.
    """
    several = len(files) > 1
    collected = []
    with _progress() as progress, interruptible() as interrupt:
        for path, target in zip(files, targets, strict=True):
            task = progress.add_task(path.name, total=None)
            with ExitStack() as stack:
                output = stack.enter_context(replacing(target)) if target is not None else None
                transcript, failure = _one(recognizer, path, progress, task, interrupt, whole_utterances)
                if target is not None and output is not None:
                    with writing(target):
                        output.write(render(transcript, form).encode())
            if not transcript.utterances and failure is None and not interrupt:
                print(f"stream-asr: no speech in the {transcript.duration_s:.2f} s of {path}", file=sys.stderr)
            if output is None and several and form == "json":
                collected.append({"file": str(path), **transcript.to_json()})
            elif output is None:
                if several:
                    print(f"==> {path} <==")
                sys.stdout.write(render(transcript, form))
                sys.stdout.flush()
            if interrupt:
                where = "the text" if target is None else str(target)
                # Not where reading had got to: what was read may not have been recognised.
                ends_s = transcript.utterances[-1].end if transcript.utterances else 0.0
                print(f"stream-asr: stopped; {where} ends {ends_s:.1f} s into {path}", file=sys.stderr)
            if failure is not None or interrupt:
                break
    if collected:
        print(json.dumps(collected, ensure_ascii=False, indent=2))
    if failure is not None:
        raise failure
    if interrupt:
        raise KeyboardInterrupt


def _one(
    recognizer: Recognizer,
    path: Path,
    progress: Progress,
    task: TaskID,
    interrupt: Interrupt,
    whole_utterances: bool,
) -> tuple[Transcript, InputError | None]:
    """The transcript as far as it went, and why it went no further."""
    finals: list[Final] = []
    read_s = 0.0

    def advance(done_s: float, total_s: float | None) -> None:
        nonlocal read_s
        read_s = done_s
        progress.update(task, completed=done_s, total=total_s)
        if interrupt:
            raise _StoppedError

    failure: InputError | None = None
    try:
        for final in recognizer.iter_finals(path, whole_utterances=whole_utterances, progress=advance):
            finals.append(final)
    except _StoppedError:
        pass
    except InputError as error:
        # What is wrong with the samples themselves does not say whose they are.
        failure = error if str(path) in str(error) else InputError(f"{path}: {error}")
    return Transcript(tuple(final for final in finals if final.text), read_s), failure


class _StoppedError(Exception):
    """The user pressed Ctrl-C; raised inside the progress callback to leave the recognizer in good order."""


def _progress() -> Progress:
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
