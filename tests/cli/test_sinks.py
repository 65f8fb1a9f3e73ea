"""Tests of the files that ``--save`` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_asr.cli.sinks import SinkGroup, open_sink
from stream_asr.errors import StreamASRError
from stream_asr.events import Final, Word
from tests.support.disk import limit_file_size


def make_final(text: str, start: float) -> Final:
    return Final(0, start, start + 1, text, 0.9, (Word(text, start, start + 1, 0.9),))


def test_subtitles_are_written_during_the_session(tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    sink = open_sink(path, 16_000)
    sink.write_event(make_final("one", 0.0))
    sink.write_event(make_final("two", 60.0))
    assert path.read_text() == "1\n00:00:00,000 --> 00:00:01,000\none\n"
    sink.close()
    assert path.read_text().endswith("\n\n2\n00:01:00,000 --> 00:01:01,000\ntwo\n")


def test_sink_that_fails_is_closed(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "talk.txt", 16_000)
    with limit_file_size(10):
        sink.write_event(make_final("one", 0.0))
        with pytest.raises(StreamASRError, match=r"cannot write .*talk\.txt: File too large"):
            sink.write_event(make_final("a long sentence", 1.0))
        sink.close()


def test_group_removes_a_sink_that_fails_and_reports_it_once(tmp_path: Path) -> None:
    wav, txt = open_sink(tmp_path / "talk.wav", 16_000), open_sink(tmp_path / "talk.txt", 16_000)
    messages: list[str] = []
    group = SinkGroup([wav, txt], messages.append)
    with limit_file_size(10_000):
        for _ in range(3):
            group.write_audio(np.zeros(16_000, dtype=np.float32))
            group.write_event(make_final("one", 0.0))
    txt.close()
    assert len(messages) == 1
    assert str(group.error) == messages[0]
    assert (tmp_path / "talk.txt").read_text() == "one\n" * 3
