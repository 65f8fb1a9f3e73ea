"""Every command as a user types it. In this process and with one loaded model where that is enough."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stream_asr import Recognizer, RecognizerConfig
from stream_asr.array_types import FloatArray
from stream_asr.cli.app import app
from stream_asr.cli.recording import open_recording
from stream_asr.decoding.casing import casing_of, sentence_case
from stream_asr.errors import StreamASRError
from stream_asr.events import Final, Word
from stream_asr.lm.storage import load
from stream_asr.vad.detectors import detectors
from tests.support.command_line import Result, run_main
from tests.support.disk import files_end_at

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], recognizer: Recognizer) -> Run:
    """Runs a command with the embedded model that is loaded already."""

    def loaded(
        name: str | None, config: RecognizerConfig, *, lm: str | None, raw: bool, vad: str, **_: object
    ) -> Recognizer:
        detector, casing = detectors(vad, config.segmenter), casing_of(recognizer.model.labels, raw=raw)
        return Recognizer(recognizer.model, config, detector=detector, lm=recognizer.lm if lm else None, casing=casing)

    def run(*arguments: object, stdin: bytes = b"", model: bool = True) -> Result:
        if model:
            monkeypatch.setattr(Recognizer, "from_pretrained", loaded)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))  # type: ignore[type-var]
        return run_main(monkeypatch, capfd, *arguments)

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, speech: FloatArray) -> Path:
    """The first two sentences."""
    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    soundfile.write(path, speech[: 6 * 16_000], 16_000)
    return path


# --- transcribe -------------------------------------------------------------------------------------------


def test_transcribe_prints_an_utterance_a_line(run: Run, clip: Path) -> None:
    result = run("transcribe", clip)
    assert result.status == 0
    lines = result.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Good morning")


def test_raw_writes_as_the_model_does(run: Run, clip: Path) -> None:
    raw, usual = (run("transcribe", clip, *options).out for options in (["--raw"], []))
    assert raw != usual
    assert raw.lower() == usual.lower()


def test_transcribe_json_has_words_with_times_and_confidences(run: Run, clip: Path) -> None:
    result = run("transcribe", clip, "--format", "json")
    report = json.loads(result.out)
    assert report["duration"] == 6.0
    assert report["text"].startswith("Good morning")
    first = report["utterances"][0]
    assert first["type"] == "final"
    assert set(first["words"][0]) == {"word", "start", "end", "confidence"}


@pytest.mark.parametrize(("form", "beginning"), [("srt", "1\n00:00:00,"), ("vtt", "WEBVTT\n\n00:00:00.")])
def test_transcribe_writes_subtitles(run: Run, clip: Path, tmp_path: Path, form: str, beginning: str) -> None:
    target = tmp_path / f"clip.{form}"
    result = run("transcribe", clip, "--format", form, "--output", target)
    assert (result.status, result.out) == (0, "")
    assert target.read_text().startswith(beginning)


def test_transcribe_hears_whole_utterances(run: Run, clip: Path, recognizer: Recognizer) -> None:
    result = run("transcribe", clip, "--whole-utterances", "--format", "json")
    expected = recognizer.transcribe(clip, whole_utterances=True)
    assert json.loads(result.out) == expected.to_json()
    assert expected != recognizer.transcribe(clip)


def test_transcribe_several_files(run: Run, clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.flac"
    soundfile.write(other, soundfile.read(clip)[0], 16_000)
    result = run("transcribe", clip, other)
    assert result.out.count("==> ") == 2
    assert [entry["file"] for entry in json.loads(run("transcribe", clip, other, "-f", "json").out)] == [
        str(clip),
        str(other),
    ]
    folder = tmp_path / "out"
    assert run("transcribe", clip, other, "-f", "srt", "-o", folder).status == 0
    assert sorted(path.name for path in folder.iterdir()) == ["clip.srt", "other.srt"]
    refused = run("transcribe", clip, other, "-f", "srt")
    assert refused.status == 2
    assert "name a folder with --output" in refused.err
    assert run("transcribe", clip, clip, "-o", folder).status == 2


@pytest.mark.parametrize("samples", [800, 5 * 16_000])
def test_silence_and_scraps_give_an_empty_transcript_and_say_so(run: Run, tmp_path: Path, samples: int) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(samples), 16_000)
    result = run("transcribe", path)
    assert (result.status, result.out) == (0, "")
    assert f"no speech in the {samples / 16_000:.2f} s of {path}" in result.err


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "text.wav").write_text("this is not audio at all, only its name says so")
    (folder / "empty.wav").touch()
    soundfile.write(folder / "none.wav", np.zeros(0), 16_000)
    soundfile.write(folder / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    return {
        "missing": (folder / "nowhere.wav", "No such file"),
        "folder": (folder, "is a folder"),
        "text": (folder / "text.wav", "not audio that can be decoded"),
        "empty": (folder / "empty.wav", "empty (0 bytes)"),
        "no samples": (folder / "none.wav", "holds no audio"),
        "nan": (folder / "nan.wav", "nan at 0.000 s"),
    }


@pytest.mark.parametrize("command", ["transcribe", "stream"])
@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "no samples", "nan"])
def test_files_that_are_no_audio(run: Run, tmp_path: Path, command: str, kind: str) -> None:
    path, message = bad_files(tmp_path)[kind]
    result = run(command, path)
    assert result.status == 2
    assert message in result.err


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000, 192_000])
def test_every_usual_kind_of_wav(run: Run, tmp_path: Path, speech: FloatArray, rate: int, subtype: str) -> None:
    import soxr

    path = tmp_path / "clip.wav"
    stereo = np.repeat(soxr.resample(speech[: 3 * 16_000], 16_000, rate)[:, None], 2, axis=1)
    soundfile.write(path, np.clip(stereo, -1, 1), rate, subtype=subtype)
    # At 8 kHz the telephone's band is all that is left; the first words survive it.
    assert "morning" in run("transcribe", path).out or rate == 8_000
    assert run("transcribe", path).out.startswith("Good")


def test_another_voice_detector(run: Run, clip: Path) -> None:
    assert run("transcribe", clip, "--vad", "silero").out.startswith("Good morning")


def test_a_place_that_cannot_be_written_is_found_out_before_the_work(run: Run, clip: Path, tmp_path: Path) -> None:
    result = run("transcribe", clip, "--output", tmp_path / "no" / "such" / "place.txt")
    assert result.status == 2
    assert "cannot write" in result.err
    assert run("transcribe", clip, "--output", clip).status == 2
    assert clip.stat().st_size > 100_000, "the recording is still there"


def test_files_that_are_no_transcripts_are_not_overwritten(run: Run, clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(clip.read_bytes())
    refused = run("transcribe", clip, "-o", other)
    assert refused.status == 2
    assert "is there already and does not end like a transcript (.txt, .json, .srt, .vtt)" in refused.err
    assert other.read_bytes() == clip.read_bytes()


def test_an_output_that_ends_in_a_slash_is_a_folder(run: Run, clip: Path, tmp_path: Path) -> None:
    """Of `*.wav` there may be one or many."""
    folder = tmp_path / "captions"
    for _ in range(2):
        assert run("transcribe", clip, "-f", "vtt", "-o", f"{folder}/").status == 0
        assert [path.name for path in folder.iterdir()] == ["clip.vtt"]


def test_a_recording_that_breaks_off_is_written_as_far_as_it_goes(run: Run, clip: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    short.write_bytes(clip.read_bytes()[:100_000])
    result = run("transcribe", short)
    assert result.status == 2
    assert result.out.startswith("Good")
    assert "short.wav breaks off after 3.1 s: its header announces 192000 bytes of samples" in result.err


def test_the_ending_of_the_output_says_the_format(run: Run, clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "clip.srt"
    assert run("transcribe", clip, "-o", target).status == 0
    assert target.read_text().startswith("1\n00:00:00,")
    assert run("transcribe", clip, "-o", target, "-f", "text").status == 0
    assert target.read_text().startswith("Good morning")


def test_a_disk_that_is_full(clip: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has a disk that is always full")
    with open("/dev/full", "wb") as full, start("stream", clip, "--pace", "max", stdout=full) as streaming:
        _, err = streaming.communicate()
    assert streaming.returncode == 1
    assert err.decode().strip() == "stream-asr: input or output failed: No space left on device"


def test_a_model_that_is_not_there(run: Run, clip: Path) -> None:
    result = run("transcribe", clip, "--model", "./no-such-folder", model=False)
    assert result.status == 2
    assert "embedded-en" in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format", "docx"),
        ("--threads", "0"),
        ("--aggressiveness", "4"),
        ("--vad", "psychic"),
        ("--vad", "silero", "--aggressiveness", "2"),
        ("--endpoint-ms", "0"),
        ("--max-utterance-ms", "5"),
        ("--device", "toaster"),
        ("--no-such-option",),
    ],
)
def test_wrong_usage(run: Run, clip: Path, arguments: tuple[str, ...]) -> None:
    result = run("transcribe", clip, *arguments)
    assert result.status == 2
    assert result.err


# --- stream -----------------------------------------------------------------------------------------------


def test_stream_gives_an_event_a_line_and_the_text_of_transcribe(run: Run, clip: Path) -> None:
    result = run("stream", clip, "--pace", "max")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert events[0] == {"type": "speech_started", "utterance": 0, "start": events[0]["start"]}
    finals = [event["text"] for event in events if event["type"] == "final"]
    assert finals == run("transcribe", clip).out.splitlines()


def test_stream_at_real_time_shows_partials(run: Run, clip: Path) -> None:
    start = time.monotonic()
    result = run("stream", clip)
    assert time.monotonic() - start >= 6
    partials = [event for event in map(json.loads, result.out.splitlines()) if event["type"] == "partial"]
    assert len(partials) > 5
    assert all(partial["text"].startswith(partial["stable"]) for partial in partials)


def test_stream_as_text(run: Run, clip: Path) -> None:
    assert run("stream", clip, "--pace", "max", "--format", "text").out.startswith("   0:00  Good morning")


# --- listen -----------------------------------------------------------------------------------------------


def pcm(samples: FloatArray) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def test_listen_reads_raw_pcm_from_stdin(run: Run, speech: FloatArray, tmp_path: Path) -> None:
    saved = [tmp_path / f"said{ending}" for ending in (".wav", ".srt", ".txt", ".jsonl", ".vtt")]
    options = [part for path in saved for part in ("--save", path)]
    result = run("listen", "-", *options, stdin=pcm(speech[: 6 * 16_000]))
    assert result.status == 0
    assert result.out[9:].startswith("Good morning")
    assert len(soundfile.read(saved[0])[0]) == 6 * 16_000
    assert saved[1].read_text().startswith("1\n00:00:00,")
    assert saved[2].read_text().splitlines() == [line[9:] for line in result.out.splitlines()]
    assert json.loads(saved[3].read_text().splitlines()[0])["type"] == "final"
    assert saved[4].read_text().startswith("WEBVTT")


def test_listen_to_other_kinds_of_pcm(run: Run, speech: FloatArray) -> None:
    import soxr

    loud = soxr.resample(speech[: 3 * 16_000], 16_000, 48_000)
    stereo = np.repeat(loud[:, None], 2, axis=1).astype("<f4")
    options = ("--sample-rate", 48_000, "--channels", 2, "--encoding", "pcm_f32le")
    assert "Good morning" in run("listen", "-", *options, stdin=stereo.tobytes()).out


def test_an_odd_byte_at_the_end_of_stdin_is_mentioned(run: Run, speech: FloatArray) -> None:
    result = run("listen", "-", stdin=pcm(speech[: 3 * 16_000]) + b"\0")
    assert result.status == 0
    assert "Good morning" in result.out
    assert "last 1 byte(s) make no whole sample of pcm_s16le" in result.err


def test_nothing_on_stdin(run: Run) -> None:
    result = run("listen", "-")
    assert (result.status, result.out) == (0, "")
    assert "no speech in 0.00 s" in result.err


def test_a_file_on_stdin_is_recognised_as_one(run: Run, clip: Path) -> None:
    result = run("listen", "-", stdin=clip.read_bytes())
    assert result.status == 2
    assert "header of an audio file" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("talk.wav",), "stream-asr stream talk.wav"),
        (("-", "--sample-rate", "10"), "4000 to 384000 Hz"),
        (("-", "--channels", "0"), "1 to 64"),
        (("-", "--encoding", "opus"), "pcm_s16le"),
        (("-", "--save", "captions.docx"), "its ending must be one of"),
        (("-", "--save", "/no/such/place.srt"), "cannot write"),
        (("-", "--save", "/no/such/place.wav"), "cannot write"),
    ],
)
def test_listen_with_wrong_arguments(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run("listen", *arguments)
    assert result.status == 2
    assert message in " ".join(result.err.split())


def test_what_was_saved_before_is_not_replaced(run: Run, speech: FloatArray, tmp_path: Path) -> None:
    before = tmp_path / "yesterday.srt"
    before.write_text("precious")
    result = run("listen", "-", "--save", before, stdin=pcm(speech[: 3 * 16_000]))
    assert result.status == 2
    assert "is there already" in result.err
    assert before.read_text() == "precious"


def test_nothing_heard_leaves_no_file(run: Run, tmp_path: Path) -> None:
    run("listen", "-", "--save", tmp_path / "a.wav", "--save", tmp_path / "a.srt")
    assert list(tmp_path.iterdir()) == []


def test_captions_outlive_a_recording_that_cannot_be_written(run: Run, speech: FloatArray, tmp_path: Path) -> None:
    sound, text = tmp_path / "said.wav", tmp_path / "said.txt"
    with files_end_at(50_000):
        result = run("listen", "-", "--save", sound, "--save", text, stdin=pcm(speech[: 6 * 16_000]))
    assert result.status == 1
    told = f"stream-asr: cannot write {sound}: "
    assert [line.startswith(told) for line in result.err.splitlines()] == [True, True], "when it happens, and at last"
    assert len(result.out.splitlines()) == 2
    assert text.read_text().splitlines() == [line[9:] for line in result.out.splitlines()]


def final(text: str, start: float) -> Final:
    return Final(0, start, start + 1, text, 0.9, (Word(text, start, start + 1, 0.9),))


def test_subtitles_are_in_the_file_while_the_session_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "said.srt"
    recording = open_recording(path, 16_000)
    recording.note(final("one", 0.0))
    recording.note(final("two", 60.0))
    assert path.read_text() == "1\n00:00:00,000 --> 00:00:01,000\none\n", "before anything is closed"
    recording.close()
    assert path.read_text().endswith("\n\n2\n00:01:00,000 --> 00:01:01,000\ntwo\n")


def test_captions_that_cannot_be_written_are_told_of_once(tmp_path: Path) -> None:
    recording = open_recording(tmp_path / "said.txt", 16_000)
    with files_end_at(10):
        recording.note(final("one", 0.0))
        with pytest.raises(StreamASRError, match=r"cannot write .*said\.txt: File too large"):
            recording.note(final("a long sentence", 1.0))
        recording.close()


def without_portaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])


@pytest.mark.parametrize("command", ["devices", "listen"])
def test_without_portaudio_the_microphone_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    without_portaudio(monkeypatch)
    result = run(command)
    assert result.status == 1
    assert "libportaudio2" in result.err


# --- the others -------------------------------------------------------------------------------------------


def test_models_names_the_embedded_and_the_recommended_one(run: Run) -> None:
    result = run("models")
    assert "embedded-en" in result.out
    assert "facebook/wav2vec2-base-960h" in result.out


@pytest.mark.parametrize("command", ["demo", "transcribe", "listen", "stream", "devices", "models"])
def test_every_command_has_help(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.status == 0
    assert "Usage" in result.out


def test_version(run: Run) -> None:
    assert run("--version").out.strip().count(".") == 2


# --- as a process of its own ------------------------------------------------------------------------------


def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stream_asr", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, **pipes)  # type: ignore[call-overload, no-any-return]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
def test_ctrl_c_ends_listening_with_the_last_words(speech: FloatArray) -> None:
    with start("listen", "-", "--format", "jsonl", stdin=subprocess.PIPE) as listening:
        assert listening.stdin is not None
        assert listening.stdout is not None
        # To the middle of the third sentence, and the pipe stays open.
        listening.stdin.write(pcm(speech[: 8 * 16_000]))
        listening.stdin.flush()
        events = map(json.loads, listening.stdout)
        heard = next(event for event in events if event["type"] == "partial" and event["utterance"] == 2)
        listening.send_signal(signal.SIGINT)
        finals = [event for event in events if event["type"] == "final"]
        assert listening.wait(30) == 0
    assert heard["text"].startswith("Every")
    assert finals[-1]["utterance"] == 2
    assert finals[-1]["text"].startswith("Every")


def written_to(terminal: int) -> Iterator[bytes]:
    """What programs write to a pseudo-terminal until none has it open any more; closes it."""
    with suppress(OSError):  # how it says so on Linux
        while block := os.read(terminal, 1 << 16):
            yield block
    os.close(terminal)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
def test_ctrl_c_while_transcribing_writes_what_was_recognised(tmp_path: Path, speech: FloatArray) -> None:
    import pty

    path, target = tmp_path / "long.wav", tmp_path / "long.txt"
    soundfile.write(path, np.tile(speech, 120), 16_000)
    terminal, its_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with start("transcribe", path, "--output", target, stderr=its_end, env=environment) as transcribing:
        os.close(its_end)
        shown = b""
        # The progress bar: more than the buffer holds was taken in, so the first sentences were recognised.
        while not re.search(rb"[1-9]\d\d s of audio", shown):
            shown += os.read(terminal, 1 << 16)
        transcribing.send_signal(signal.SIGINT)
        said = shown + b"".join(written_to(terminal))
    assert transcribing.returncode == 130
    assert b"Traceback" not in said
    # A terminal breaks lines.
    unbroken = re.sub(rb"\s", b"", said).decode()
    ends = re.search(rf"stopped;{re.escape(str(target))}ends([\d.]+)sinto", unbroken)
    assert ends, unbroken
    written = target.read_text()
    assert written.startswith("Good morning")
    rounds = written.count("Good morning")
    assert (rounds - 1) * len(speech) / 16_000 < float(ends[1]) <= rounds * len(speech) / 16_000, "where the text ends"


def test_a_reader_that_has_seen_enough(clip: Path) -> None:
    with start("stream", clip, "--pace", "max") as streaming:
        assert streaming.stdout is not None
        assert streaming.stderr is not None
        streaming.stdout.readline()
        streaming.stdout.close()
        err = streaming.stderr.read()
    assert b"Traceback" not in err
    assert b"Exception" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_the_demo_in_a_terminal() -> None:
    import pty

    terminal, its_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "stream_asr", "demo"], stdout=its_end, stderr=its_end, env=environment
    )
    os.close(its_end)
    text = b"".join(written_to(terminal)).decode()
    assert demo.wait(30) == 0
    assert "Good morning" in text
    assert "\x1b[2m" in text, "unstable words are dim"
    assert "word emission latency" in text
    assert "the same text" in text
    assert "NOT the same text" not in text


def test_a_language_model_of_ones_own_and_hotwords(
    run: Run, tmp_path: Path, demo_path: Path, recognizer: Recognizer
) -> None:
    text, model, names = tmp_path / "text.txt", tmp_path / "my.lm", tmp_path / "names.txt"
    text.write_text("Good morning and welcome to the show. This is a small demonstration of live captions.\n")
    result = run("lm", "build", text, "--output", model, model=False)
    assert (result.status, result.out) == (0, "")
    assert ": 15 words;" in result.err
    names.write_text("demonstration : 3\n")

    def said(*options: object) -> list[str]:
        result = run("transcribe", demo_path, *options, model=False)
        assert result.status == 0, result.err
        return result.out.splitlines()

    def heard(**words: Any) -> list[str]:
        with Recognizer(recognizer.model, casing=sentence_case, **words) as made:
            return [final.text for final in made.transcribe(demo_path).utterances]

    assert said("--lm", model) == heard(lm=load(model)) != said("--no-lm") == heard()
    assert said("--hotwords", names, "--no-lm") == heard(hotwords={"demonstration": 3.0})


@pytest.mark.parametrize("name", ["text.txt", "more.txt"])
def test_a_language_model_does_not_overwrite_what_it_is_made_of(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("Good morning.\n")
    (tmp_path / "more.txt").write_text("evening\n")
    before = (tmp_path / name).read_bytes()
    more = ("--words", tmp_path / "more.txt", "--output", tmp_path / name)
    result = run("lm", "build", tmp_path / "text.txt", *more, model=False)
    assert result.status == 2
    assert "would be overwritten" in " ".join(result.err.split())
    assert (tmp_path / name).read_bytes() == before


def test_help_breaks_lines_where_the_terminal_ends() -> None:
    told = [command.help or "" for command in app.registered_commands]
    assert all(told)
    paragraphs = [paragraph for text in told for paragraph in text.split("\n\n")]
    assert not [paragraph for paragraph in paragraphs if "\n" in paragraph and not paragraph.startswith(" ")]


def test_transcribing_a_pipe_is_told_what_to_do(run: Run) -> None:
    result = run("transcribe", "-", model=False)
    assert (result.status, result.out) == (2, "")
    assert "stream-asr listen -" in " ".join(result.err.split())


def test_words_that_cannot_be_used(run: Run, tmp_path: Path, demo_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("R2D2\n")
    for options, message in (
        (("--lm", tmp_path / "none.lm"), "there is no language model"),
        (("--lm", demo_path), "no language model that `stream-asr lm build` wrote"),
        (("--lm", "x.lm", "--no-lm"), "exclude each other"),
        (("--lm-weight", "1", "--no-lm"), "no language model to weigh"),
        (("--hotwords", tmp_path / "nobody.txt"), "cannot read the hotwords"),
        (("--hotwords", names), "spell it as it is spoken"),
    ):
        result = run("transcribe", demo_path, *options, model=False)
        assert (result.status, result.out) == (2, "")
        assert message in result.err
    assert run("lm", "build", tmp_path / "no.txt", "--output", tmp_path / "my.lm").status == 2
