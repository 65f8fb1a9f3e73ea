"""Sinks: files to which ``--save`` writes the audio or the captions of a live session while it runs.

Captions that can no longer change are written to the file at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import soundfile

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError, StreamASRError
from stream_asr.events import Event, Final
from stream_asr.subtitles import SubtitleWriter


class Sink:
    """A file for the audio or the captions of a session. A sink that fails closes its file.

    Args:
        path: path of the new file.
    """

    _file: soundfile.SoundFile | TextIO

    def __init__(self, path: Path) -> None:
        self._path = path
        self._empty = True

    def write_audio(self, block: FloatArray) -> None:
        """Write a block of audio: float32, shape (samples,). Sinks for captions ignore it.

        Raises:
            StreamASRError: the file cannot be written.
        """

    def write_event(self, event: Event) -> None:
        """Write an event. Sinks for audio ignore it.

        Raises:
            StreamASRError: the file cannot be written.
        """

    def close(self) -> None:
        """Write what is still held back and close the file. An empty file is deleted. Further calls do nothing.

        Raises:
            StreamASRError: the file cannot be written.
        """
        if self._file.closed:
            return
        with self._closing_on_error():
            self._write_rest()
            self._file.close()
        if self._empty:
            self._path.unlink()

    def _write_rest(self) -> None:
        """Write what is still held back."""

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """Close the file if it cannot be written, and raise a `StreamASRError` that names it."""
        try:
            yield
        except (soundfile.SoundFileError, OSError) as error:
            with suppress(soundfile.SoundFileError, OSError):
                self._file.close()
            raise StreamASRError(_cannot_write(self._path, error)) from error


class AudioSink(Sink):
    """Writes 16-bit PCM to a wav or flac file."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        super().__init__(path)
        self._file: soundfile.SoundFile = soundfile.SoundFile(
            path, "w", samplerate=sample_rate, channels=1, subtype="PCM_16"
        )

    def write_audio(self, block: FloatArray) -> None:
        self._empty = False
        with self._closing_on_error():
            self._file.write(block)


class CaptionSink(Sink):
    """Writes the finals that have text."""

    def __init__(self, path: Path, writer: SubtitleWriter | LineWriter) -> None:
        super().__init__(path)
        self._writer = writer
        self._file: TextIO = path.open("w", encoding="utf-8")
        with self._closing_on_error():
            self._write(writer.begin())

    def write_event(self, event: Event) -> None:
        if isinstance(event, Final) and event.text:
            self._empty = False
            with self._closing_on_error():
                self._write(self._writer.add(event))

    def _write_rest(self) -> None:
        self._write(self._writer.finish())

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


class LineWriter:
    """Formats each final as one line. It has the methods of `SubtitleWriter`."""

    def __init__(self, format_line: Callable[[Final], str]) -> None:
        self._format_line = format_line

    def begin(self) -> str:
        return ""

    def add(self, final: Final) -> str:
        return self._format_line(final) + "\n"

    def finish(self) -> str:
        return ""


class SinkGroup:
    """Writes to all sinks of a session. A sink that fails is removed; the others go on.

    Args:
        sinks: the sinks. The caller closes them.
        on_error: called with the message of each error.

    Attributes:
        error: the first error, if there was one.
    """

    def __init__(self, sinks: Sequence[Sink], on_error: Callable[[str], None]) -> None:
        self._sinks = list(sinks)
        self._on_error = on_error
        self.error: StreamASRError | None = None

    def write_audio(self, block: FloatArray) -> None:
        for sink in tuple(self._sinks):
            with self._removing_on_error(sink):
                sink.write_audio(block)

    def write_event(self, event: Event) -> None:
        for sink in tuple(self._sinks):
            with self._removing_on_error(sink):
                sink.write_event(event)

    @contextmanager
    def _removing_on_error(self, sink: Sink) -> Iterator[None]:
        try:
            yield
        except StreamASRError as error:
            self._on_error(str(error))
            self._sinks.remove(sink)
            self.error = self.error or error


_AUDIO_EXTENSIONS = (".wav", ".flac")
_CAPTION_WRITERS: dict[str, Callable[[], SubtitleWriter | LineWriter]] = {
    ".txt": lambda: LineWriter(lambda final: final.text),
    ".jsonl": lambda: LineWriter(lambda final: json.dumps(final.to_json(), ensure_ascii=False)),
    ".srt": lambda: SubtitleWriter("srt"),
    ".vtt": lambda: SubtitleWriter("vtt"),
}


def open_sink(path: Path, sample_rate: int) -> Sink:
    """Create a file for audio (.wav, .flac) or captions (.txt, .jsonl, .srt, .vtt).

    Args:
        path: the extension selects the format.
        sample_rate: sample rate of the audio in Hz.

    Raises:
        InputError: the extension is unknown, the file cannot be written, or it exists: `--save` does not overwrite
            the recording of an earlier session.
    """
    if path.exists():
        raise InputError(f"{path} already exists; choose another file for --save, or move that file away")
    extension = path.suffix.lower()
    try:
        if extension in _AUDIO_EXTENSIONS:
            return AudioSink(path, sample_rate)
        if extension in _CAPTION_WRITERS:
            return CaptionSink(path, _CAPTION_WRITERS[extension]())
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(_cannot_write(path, error)) from error
    extensions = ", ".join((*_AUDIO_EXTENSIONS, *_CAPTION_WRITERS))
    raise InputError(f"unknown file type: {path}; its extension must be one of {extensions}")


def _cannot_write(path: Path, error: Exception) -> str:
    return f"cannot write {path}: {getattr(error, 'strerror', None) or error}"
