from __future__ import annotations

import io
import os
import random
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stream_asr.array_types import FloatArray
from stream_asr.audio import container, files
from stream_asr.audio.files import AudioFile
from stream_asr.audio.pcm import AudioConverter
from stream_asr.errors import InputError

PITCH_HZ = 440
LAYOUTS = {1: "mono", 2: "stereo"}


def tone(rate: int, channels: int = 1, seconds: float = 0.5) -> FloatArray:
    """A tone that is louder in each further channel; their mean has the amplitude 0.4."""
    levels = np.linspace(0.2, 0.6, channels) if channels > 1 else np.array([0.4])
    wave_ = np.sin(2 * np.pi * PITCH_HZ * np.arange(round(rate * seconds)) / rate)
    return (wave_[:, None] * levels).astype(np.float32)


def written(path: Path, samples: FloatArray, rate: int = 16_000, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def encoded(
    path: Path,
    codec: str | None,
    rate: int = 48_000,
    channels: int = 2,
    seconds: float = 1.0,
    video: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """The tone in what libsndfile cannot read, by PyAV."""
    av = pytest.importorskip("av", reason="PyAV is an extra")
    with av.open(str(path), "w", options=options or {}) as container:
        if video:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        sound: Any = codec and container.add_stream(codec, rate=rate, layout=LAYOUTS[channels])
        if video:
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), "rgb24")
                frame.pts = number
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        if sound:
            context = sound.codec_context
            cut = av.AudioResampler(context.format.name, context.layout, rate, frame_size=context.frame_size or 1024)
            whole = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(tone(rate, channels, seconds).T), format="fltp", layout=LAYOUTS[channels]
            )
            whole.sample_rate = rate
            for frame in [*cut.resample(whole), *cut.resample(None), None]:
                container.mux(sound.encode(frame))
    return path


def heard(path: str | Path) -> FloatArray:
    with AudioFile(path) as audio:
        converter = AudioConverter(audio.sample_rate, audio.channels)
        return np.concatenate([*(converter.push(block) for block in audio), converter.finish()])


def readable(path: Path) -> tuple[FloatArray, InputError | None]:
    """The first channel until the end or the error."""
    blocks = [np.zeros(0, dtype=np.float32)]
    try:
        with AudioFile(path) as audio:
            for block in audio:
                blocks.append(block[:, 0])
    except InputError as error:
        return np.concatenate(blocks), error
    return np.concatenate(blocks), None


def assert_is_the_tone(samples: FloatArray) -> None:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    assert np.sqrt(2 * np.square(middle).mean()) == pytest.approx(0.4, rel=0.04)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 16_000))
    assert abs(int(spectrum.argmax()) - PITCH_HZ) <= 2


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_16", 1e-3),
        ("a.wav", "PCM_24", 1e-3),
        ("a.wav", "FLOAT", 1e-3),
        ("a.wav", "DOUBLE", 1e-3),
        ("a.wav", "PCM_U8", 1e-2),
        ("a.flac", "PCM_16", 1e-3),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_files_are_the_same_sound(
    tmp_path: Path, name: str, subtype: str, error: float, rate: int, channels: int
) -> None:
    path = written(tmp_path / name, tone(rate, channels), rate, subtype)
    samples = heard(path)
    assert abs(len(samples) - 8_000) <= 1
    # The resampler rings at the edges, where the tone is cut off.
    np.testing.assert_allclose(samples[500:7500], tone(16_000)[500:7500, 0], atol=error)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("a.ogg", [8_000, 44_100, 48_000, 96_000, 192_000]),
        ("a.mp3", [8_000, 44_100, 48_000]),
        ("a.opus", [8_000, 48_000]),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_files_keep_level_and_pitch(tmp_path: Path, name: str, rates: list[int], channels: int) -> None:
    for rate in rates:
        samples = tone(rate, channels)
        if name.endswith("opus"):
            soundfile.write(tmp_path / name, samples, rate, format="OGG", subtype="OPUS")
        else:
            written(tmp_path / name, samples, rate)
        found = heard(tmp_path / name)
        assert abs(len(found) - 8_000) <= 1
        assert_is_the_tone(found)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("name", "codec", "rate", "video"),
    [
        ("a.m4a", "aac", 44_100, False),
        ("a.mp4", "aac", 48_000, True),
        ("a.webm", "libopus", 48_000, False),
        ("a.mkv", "pcm_f32le", 96_000, False),
        ("a.aac", "aac", 48_000, False),
        ("a.wma", "ac3", 48_000, False),
        ("a.avi", "ac3", 48_000, True),
        ("a.ts", "aac", 48_000, False),
    ],
)
def test_what_libsndfile_cannot_read_goes_through_pyav(
    tmp_path: Path, name: str, codec: str, rate: int, video: bool, channels: int
) -> None:
    path = encoded(tmp_path / name, codec, rate, channels, video=video)
    with AudioFile(path) as audio:
        assert (audio.sample_rate, audio.channels) == (rate, channels)
        assert audio.seconds == pytest.approx(1, abs=0.05)
    samples = heard(path)
    assert len(samples) / 16_000 == pytest.approx(1, abs=0.05)
    assert_is_the_tone(samples)


def test_the_length_is_that_of_the_recording(tmp_path: Path) -> None:
    with AudioFile(written(tmp_path / "a.wav", tone(44_100), 44_100)) as audio:
        assert (audio.seconds, audio.sample_rate, audio.channels) == (0.5, 44_100, 1)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", tone(16_000))
    np.testing.assert_array_equal(heard(str(path)), heard(path))


def test_formats_without_a_length_are_read_to_their_end(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.webm", "libopus", options={"live": "1"})
    with AudioFile(path) as audio:
        assert audio.seconds is None
    assert len(heard(path)) / 16_000 == pytest.approx(1, abs=0.05)


def test_a_flac_that_was_written_to_a_pipe_does_not_know_its_length(tmp_path: Path) -> None:
    path = written(tmp_path / "a.flac", tone(16_000))
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO: 36 bits of length, 0 where the encoder could not seek back
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with AudioFile(path) as audio:
        assert audio.seconds is None
    assert_is_the_tone(heard(path))


@pytest.mark.parametrize("second", [(48_000, 2), (24_000, 1)])
def test_a_broadcast_that_changes_its_format_is_one_recording(tmp_path: Path, second: tuple[int, int]) -> None:
    first = encoded(tmp_path / "1.aac", "aac", 44_100, 2).read_bytes()
    (tmp_path / "a.aac").write_bytes(first + encoded(tmp_path / "2.aac", "aac", *second).read_bytes())
    samples = heard(tmp_path / "a.aac")
    assert len(samples) / 16_000 == pytest.approx(2, abs=0.15), "and what the encoder pads"
    spectrum = np.abs(np.fft.rfft(samples[18_000:28_000] * np.hanning(10_000), 16_000))
    assert abs(int(spectrum.argmax()) - PITCH_HZ) <= 2


def test_a_long_file_is_read_in_blocks(tmp_path: Path) -> None:
    rate, minutes = 16_000, 30
    path = tmp_path / "a.wav"
    size = minutes * 60 * rate * 2
    header = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", size
    )
    path.write_bytes(header)
    os.truncate(path, len(header) + size)  # the samples are one hole in the file
    tracemalloc.start()
    try:
        with AudioFile(path) as audio:
            converter = AudioConverter(audio.sample_rate, audio.channels)
            length = sum(len(converter.push(block)) for block in audio)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == minutes * 60 * rate
    assert peak < 2_000_000


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_that_breaks_off_is_read_to_its_end_and_told(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(32_000), 16_000, subtype)
    with AudioFile(path) as audio:
        assert sum(map(len, audio)) == 32_000
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    read: list[int] = []
    with AudioFile(path) as audio, pytest.raises(InputError, match=r"a\.wav breaks off after 1\.0 s: its header"):
        read.extend(map(len, audio))
    assert sum(read) == pytest.approx(16_000, abs=20)


@pytest.mark.parametrize("announced", [2**32 - 1, 2**31 - 1, 0x7FFFFF00])
def test_a_wav_from_a_pipe_need_not_know_its_length(tmp_path: Path, announced: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(32_000), 16_000, "PCM_16")
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + struct.pack("<I", announced) + whole[44:])
    with AudioFile(path) as audio:
        assert sum(map(len, audio)) == 32_000


def test_pyav_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"no audio at all")
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"a\.m4a is not audio.*wav, flac, ogg.*pip install 'stream-asr\[av\]'"):
        AudioFile(tmp_path / "a.m4a")


def test_what_is_no_audio_names_what_is_accepted(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is an extra")
    (tmp_path / "notes.wav").write_text("bread, milk\n" * 100)
    with pytest.raises(InputError, match=r"notes\.wav is not audio.*wav, flac, ogg, opus, mp3"):
        AudioFile(tmp_path / "notes.wav")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nothing\.wav: No such file"):
        AudioFile(tmp_path / "nothing.wav")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name an audio file"):
        AudioFile(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(InputError, match="empty"):
        AudioFile(tmp_path / "a.wav")


def test_a_header_without_samples(tmp_path: Path) -> None:
    written(tmp_path / "a.wav", np.zeros((0, 1), dtype=np.float32))
    with pytest.raises(InputError, match="holds no audio, only a header"):
        AudioFile(tmp_path / "a.wav")


POINTERS = {
    "concat": "ffconcat version 1.0\nfile 'own.wav'\n",
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 45678 RTP/AVP 0\r\n",
}


@pytest.mark.parametrize("kind", POINTERS)
def test_a_file_that_points_elsewhere_is_no_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Neither to other files nor to the network: what is read may come from a stranger."""
    pytest.importorskip("av", reason="PyAV is an extra")
    monkeypatch.chdir(tmp_path)
    written(Path("own.wav"), tone(16_000))
    with pytest.raises(InputError, match="given is not audio that can be decoded"):
        AudioFile("given", io.BytesIO(POINTERS[kind].encode()))


def test_the_demuxers_exist() -> None:
    """FFmpeg passes over names that it does not know."""
    av = pytest.importorskip("av", reason="PyAV is an extra")
    names = container.DEMUXERS.split(",")
    assert set(names) <= av.formats_available
    assert names == sorted(set(names))


def test_raw_pcm_is_sent_to_the_pipe(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(3200))
    with pytest.raises(InputError, match=r"no header.*listen - < FILE.*--sample-rate"):
        AudioFile(tmp_path / "a.raw")


def test_a_video_without_sound(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio track"):
        AudioFile(encoded(tmp_path / "a.mp4", None, video=True))


def test_a_track_in_an_unknown_encoding(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mkv", "pcm_f32le")
    path.write_bytes(path.read_bytes().replace(b"A_PCM/FLOAT", b"A_XYZ/FLOAT"))
    with pytest.raises(InputError, match="encoding that FFmpeg cannot decode"):
        AudioFile(path)


def test_nan_in_a_file_is_refused_with_its_position(tmp_path: Path) -> None:
    samples = tone(16_000, seconds=2)
    samples[12_345] = np.nan
    with pytest.raises(InputError, match=r"nan at 0\.772 s"):
        heard(written(tmp_path / "a.wav", samples, subtype="FLOAT"))


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", tone(16_000))
    path.chmod(0)
    with pytest.raises(InputError, match=r"cannot read .*a\.wav: Permission denied"):
        AudioFile(path)


def test_an_error_of_the_system_is_passed_on_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.wav", tone(16_000))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"cannot read .*a\.wav: Permission denied"):
        AudioFile(path)


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(InputError, match="cannot read"):
        AudioFile("a" * 5000 + ".wav")


def test_a_name_that_looks_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded(tmp_path / "a.m4a", "aac")
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.m4a", "http:a.m4a", "%d.m4a", "-.m4a"):
        Path("a.m4a").replace(name)
        assert_is_the_tone(heard(name))
        Path(name).replace("a.m4a")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("suffix", [b".wav", b".m4a"])
def test_a_name_that_is_not_unicode(tmp_path: Path, suffix: bytes) -> None:
    name = os.fsdecode(b"caf\xe9" + suffix)
    path = tmp_path / ("a" + os.fsdecode(suffix))
    if suffix == b".wav":
        written(path, tone(16_000))
    else:
        encoded(path, "aac")
    assert_is_the_tone(heard(path.replace(tmp_path / name)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_a_pipe_is_refused_before_it_can_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"is a pipe or a device.*listen -"):
        AudioFile(tmp_path / "a.wav")


def test_tags_in_an_old_encoding_do_no_harm(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mkv", "pcm_f32le")
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"\xe9\xe8\xfc\xf6"))
    assert_is_the_tone(heard(path))


@pytest.mark.parametrize("part", [0.001, 0.02, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.webm"])
def test_a_file_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path, name: str, part: float) -> None:
    seconds = 5
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (seconds * 48_000, 1)).astype(np.float32)
    path = tmp_path / name
    if name == "a.webm":
        encoded(path, "libopus", channels=1, seconds=seconds)
    else:
        written(path, noise, 48_000)
    whole, none = readable(path)
    assert none is None
    data = path.read_bytes()
    path.write_bytes(data[: max(1, int(part * len(data)))])
    samples, error = readable(path)
    np.testing.assert_array_equal(samples, whole[: len(samples)])
    if part >= 0.3:
        assert len(samples) > (part - 0.25) * len(whole)
    if error is not None and len(samples):
        where = f"{len(samples) / 48_000:.1f} s"
        assert (f"breaks off after {where}" if name == "a.wav" else f"cannot be decoded from {where} on") in str(error)
    if name == "a.wav":
        assert error is not None
    if name == "a.flac" and part >= 0.3:
        # All but the frame that broke off: nothing of the block it was in is lost.
        assert error is not None
        assert len(samples) / len(whole) == pytest.approx(part, abs=0.02)


def test_damage_of_any_kind_ends_in_a_message(tmp_path: Path) -> None:
    sound = tone(48_000, 2, 0.2)
    originals = [written(tmp_path / name, sound, 48_000) for name in ("a.wav", "a.flac", "a.mp3", "a.ogg")]
    originals += [
        encoded(tmp_path / name, codec, seconds=0.2) for name, codec in (("a.m4a", "aac"), ("a.mkv", "pcm_f32le"))
    ]
    chance = random.Random(0)
    for number in range(240):
        original = originals[number % len(originals)]
        data = bytearray(original.read_bytes())
        for _ in range(chance.choice([1, 3, 20])):
            # Headers are short, and most of what can go wrong.
            at = chance.randrange(min(len(data), chance.choice([600, len(data)])))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.choice([0, 255, chance.randrange(256)])
                case 1:
                    del data[at : at + chance.randrange(40)]
                case 2:
                    data[at:at] = chance.randbytes(chance.randrange(40))
        path = tmp_path / f"damaged{original.suffix}"
        path.write_bytes(data)
        readable(path)  # raises anything but InputError
