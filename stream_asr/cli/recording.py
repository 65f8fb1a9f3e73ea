"""What a live session is saved to while it goes on. Captions that can no longer change are in the file at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import soundfile

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError, StreamASRError
from stream_asr.events import Event, Final
from stream_asr.subtitles import SubtitleWriter


class Recording:
    """One file. Once it could not be written it is closed, and takes nothing more."""

    _file: soundfile.SoundFile | TextIO

    def __init__(self, path: Path) -> None:
        self._path = path
        self._empty = True

    def hear(self, block: FloatArray) -> None:
        """Save sound: float32, shape (samples,).

        Raises:
            StreamASRError: it cannot be written.
        """

    def note(self, event: Event) -> None:
        """Save an event.

        Raises:
            StreamASRError: it cannot be written.
        """

    def close(self) -> None:
        """A file that got nothing to hold is removed. Calling it again does nothing.

        Raises:
            StreamASRError: what was left cannot be written.
        """
        if self._file.closed:
            return
        with self._writing():
            self._finish()
            self._file.close()
        if self._empty:
            self._path.unlink()

    def _finish(self) -> None:
        """Write what was held back."""

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (soundfile.SoundFileError, OSError) as error:
            with suppress(soundfile.SoundFileError, OSError):
                self._file.close()
            raise StreamASRError(_cannot_write(self._path, error)) from error


class SoundRecording(Recording):
    def __init__(self, path: Path, sample_rate: int) -> None:
        super().__init__(path)
        self._file: soundfile.SoundFile = soundfile.SoundFile(
            path, "w", samplerate=sample_rate, channels=1, subtype="PCM_16"
        )

    def hear(self, block: FloatArray) -> None:
        self._empty = False
        with self._writing():
            self._file.write(block)


class CaptionRecording(Recording):
    def __init__(self, path: Path, writer: SubtitleWriter | Lines) -> None:
        super().__init__(path)
        self._writer = writer
        self._file: TextIO = path.open("w", encoding="utf-8")
        with self._writing():
            self._write(writer.begin())

    def note(self, event: Event) -> None:
        if isinstance(event, Final) and event.text:
            self._empty = False
            with self._writing():
                self._write(self._writer.add(event))

    def _finish(self) -> None:
        self._write(self._writer.finish())

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


class Lines:
    """Finals that take a line each, behind the interface of `SubtitleWriter`."""

    def __init__(self, line: Callable[[Final], str]) -> None:
        self._line = line

    def begin(self) -> str:
        return ""

    def add(self, final: Final) -> str:
        return self._line(final) + "\n"

    def finish(self) -> str:
        return ""


_AUDIO_FILES = (".wav", ".flac")
_CAPTION_FILES: dict[str, Callable[[], SubtitleWriter | Lines]] = {
    ".txt": lambda: Lines(lambda final: final.text),
    ".jsonl": lambda: Lines(lambda final: json.dumps(final.to_json(), ensure_ascii=False)),
    ".srt": lambda: SubtitleWriter("srt"),
    ".vtt": lambda: SubtitleWriter("vtt"),
}


def open_recording(path: Path, sample_rate: int) -> Recording:
    """A file for a session's sound (.wav, .flac) or its captions (.txt, .jsonl, .srt, .vtt).

    Raises:
        InputError: another ending, a path that cannot be written, or a file that is there already: the
            recording of yesterday's meeting is not replaced without a word.
    """
    if path.exists():
        raise InputError(f"{path} is there already; name another file for --save, or move that one away")
    ending = path.suffix.lower()
    try:
        if ending in _AUDIO_FILES:
            return SoundRecording(path, sample_rate)
        if ending in _CAPTION_FILES:
            return CaptionRecording(path, _CAPTION_FILES[ending]())
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(_cannot_write(path, error)) from error
    endings = ", ".join((*_AUDIO_FILES, *_CAPTION_FILES))
    raise InputError(f"cannot tell what to save in {path}; its ending must be one of {endings}")


def _cannot_write(path: Path, error: Exception) -> str:
    return f"cannot write {path}: {getattr(error, 'strerror', None) or error}"
