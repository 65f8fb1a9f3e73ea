"""Tests of reading audio files through libsndfile and PyAV."""

from __future__ import annotations

import io
import os
import random
import re
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

TONE_HZ = 440
AMPLITUDE = 0.4
LAYOUTS = {1: "mono", 2: "stereo"}


def tone(rate: int, channels: int = 1, seconds: float = 0.5) -> FloatArray:
    """A tone of shape (samples, channels). Each channel is louder than the one before; their mean has `AMPLITUDE`."""
    levels = np.linspace(0.2, 0.6, channels) if channels > 1 else np.array([AMPLITUDE])
    wave = np.sin(2 * np.pi * TONE_HZ * np.arange(round(rate * seconds)) / rate)
    samples: FloatArray = (wave[:, None] * levels).astype(np.float32)
    return samples


def write_file(path: Path, samples: FloatArray, rate: int = 16_000, subtype: str | None = None) -> Path:
    """Write a file with libsndfile."""
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def write_container(
    path: Path,
    codec: str | None,
    rate: int = 48_000,
    channels: int = 2,
    seconds: float = 1.0,
    video: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write the tone with PyAV, in a container that libsndfile does not read. Without a codec there is no audio."""
    av = pytest.importorskip("av", reason="PyAV is an extra")
    with av.open(str(path), "w", options=options or {}) as container:
        if video:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        audio: Any = codec and container.add_stream(codec, rate=rate, layout=LAYOUTS[channels])
        if video:
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), "rgb24")
                frame.pts = number
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        if audio:
            context = audio.codec_context
            splitter = av.AudioResampler(
                context.format.name, context.layout, rate, frame_size=context.frame_size or 1024
            )
            whole = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(tone(rate, channels, seconds).T), format="fltp", layout=LAYOUTS[channels]
            )
            whole.sample_rate = rate
            for frame in [*splitter.resample(whole), *splitter.resample(None), None]:
                container.mux(audio.encode(frame))
    return path


def read_mono(path: str | Path) -> FloatArray:
    """Decode a whole file and convert it to 16 kHz mono."""
    with AudioFile(path) as audio:
        converter = AudioConverter(audio.sample_rate, audio.channels)
        return np.concatenate([*(converter.push(block) for block in audio), converter.finish()])


def read_until_error(path: Path) -> tuple[FloatArray, InputError | None]:
    """Decode the first channel until the end of the file or the first error, which is returned as well."""
    blocks = [np.zeros(0, dtype=np.float32)]
    error: InputError | None = None
    try:
        with AudioFile(path) as audio:
            for block in audio:
                blocks.append(block[:, 0])
    except InputError as raised:
        error = raised
    return np.concatenate(blocks), error


def dominant_frequency_hz(samples: FloatArray) -> int:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 16_000))
    return int(spectrum.argmax())


def assert_is_the_tone(samples: FloatArray) -> None:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    assert np.sqrt(2 * np.square(middle).mean()) == pytest.approx(AMPLITUDE, rel=0.04)
    assert abs(dominant_frequency_hz(middle) - TONE_HZ) <= 2


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
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
def test_lossless_files_decode_to_the_same_samples(
    tmp_path: Path, name: str, subtype: str, tolerance: float, rate: int, channels: int
) -> None:
    path = write_file(tmp_path / name, tone(rate, channels), rate, subtype)
    samples = read_mono(path)
    assert abs(len(samples) - 8_000) <= 1
    # The resampler rings at the edges, where the tone starts and ends abruptly.
    np.testing.assert_allclose(samples[500:7500], tone(16_000)[500:7500, 0], atol=tolerance)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("a.ogg", [8_000, 44_100, 48_000, 96_000, 192_000]),
        ("a.mp3", [8_000, 44_100, 48_000]),
        ("a.opus", [8_000, 48_000]),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_files_keep_level_and_frequency(tmp_path: Path, name: str, rates: list[int], channels: int) -> None:
    for rate in rates:
        samples = tone(rate, channels)
        if name.endswith("opus"):
            soundfile.write(tmp_path / name, samples, rate, format="OGG", subtype="OPUS")
        else:
            write_file(tmp_path / name, samples, rate)
        decoded = read_mono(tmp_path / name)
        assert abs(len(decoded) - 8_000) <= 1
        assert_is_the_tone(decoded)


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
def test_other_containers_are_decoded_by_pyav(
    tmp_path: Path, name: str, codec: str, rate: int, video: bool, channels: int
) -> None:
    path = write_container(tmp_path / name, codec, rate, channels, video=video)
    with AudioFile(path) as audio:
        assert (audio.sample_rate, audio.channels) == (rate, channels)
        assert audio.duration_s == pytest.approx(1, abs=0.05)
    samples = read_mono(path)
    assert len(samples) / 16_000 == pytest.approx(1, abs=0.05)
    assert_is_the_tone(samples)


def test_file_states_its_duration_and_format(tmp_path: Path) -> None:
    with AudioFile(write_file(tmp_path / "a.wav", tone(44_100), 44_100)) as audio:
        assert (audio.duration_s, audio.sample_rate, audio.channels) == (0.5, 44_100, 1)


def test_path_may_be_a_string(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.wav", tone(16_000))
    np.testing.assert_array_equal(read_mono(str(path)), read_mono(path))


def test_container_without_a_duration_is_read_to_its_end(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.webm", "libopus", options={"live": "1"})
    with AudioFile(path) as audio:
        assert audio.duration_s is None
    assert len(read_mono(path)) / 16_000 == pytest.approx(1, abs=0.05)


def test_flac_written_to_a_pipe_has_no_duration(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.flac", tone(16_000))
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO: a 36-bit length, 0 if the encoder could not seek back
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with AudioFile(path) as audio:
        assert audio.duration_s is None
    assert_is_the_tone(read_mono(path))


@pytest.mark.parametrize("second", [(48_000, 2), (24_000, 1)])
def test_format_change_within_a_file_is_resampled(tmp_path: Path, second: tuple[int, int]) -> None:
    first = write_container(tmp_path / "1.aac", "aac", 44_100, 2).read_bytes()
    (tmp_path / "a.aac").write_bytes(first + write_container(tmp_path / "2.aac", "aac", *second).read_bytes())
    samples = read_mono(tmp_path / "a.aac")
    assert len(samples) / 16_000 == pytest.approx(2, abs=0.15), "the encoder adds padding"
    assert abs(dominant_frequency_hz(samples[18_000:28_000]) - TONE_HZ) <= 2


def test_long_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    rate, minutes = 16_000, 30
    path = tmp_path / "a.wav"
    size = minutes * 60 * rate * 2
    header = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", size
    )
    path.write_bytes(header)
    os.truncate(path, len(header) + size)  # a sparse file
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
def test_truncated_wav_is_read_to_its_end_and_reported(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(32_000), 16_000, subtype)
    with AudioFile(path) as audio:
        assert sum(map(len, audio)) == 32_000
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    samples, error = read_until_error(path)
    assert len(samples) == pytest.approx(16_000, abs=20)
    assert re.search(r"a\.wav is truncated after 1\.0 s: its header", str(error))


@pytest.mark.parametrize("declared_bytes", [2**32 - 1, 2**31 - 1, 0x7FFFFF00])
def test_wav_written_to_a_pipe_is_not_truncated(tmp_path: Path, declared_bytes: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(32_000), 16_000, "PCM_16")
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + struct.pack("<I", declared_bytes) + whole[44:])
    with AudioFile(path) as audio:
        assert sum(map(len, audio)) == 32_000


def test_error_recommends_pyav_if_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"not audio")
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"a\.m4a is not audio.*wav, flac, ogg.*pip install 'stream-asr\[av\]'"):
        AudioFile(tmp_path / "a.m4a")


def test_error_lists_supported_formats(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is an extra")
    (tmp_path / "notes.wav").write_text("bread, milk\n" * 100)
    with pytest.raises(InputError, match=r"notes\.wav is not audio.*wav, flac, ogg, opus, mp3"):
        AudioFile(tmp_path / "notes.wav")


def test_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nothing\.wav: No such file"):
        AudioFile(tmp_path / "nothing.wav")


def test_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; give the path of an audio file"):
        AudioFile(tmp_path)


def test_empty_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(InputError, match="empty"):
        AudioFile(tmp_path / "a.wav")


def test_header_without_samples_is_rejected(tmp_path: Path) -> None:
    write_file(tmp_path / "a.wav", np.zeros((0, 1), dtype=np.float32))
    with pytest.raises(InputError, match="contains a header but no audio"):
        AudioFile(tmp_path / "a.wav")


REFERENCES_TO_OTHER_SOURCES = {
    "concat": "ffconcat version 1.0\nfile 'local.wav'\n",
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 45678 RTP/AVP 0\r\n",
}


@pytest.mark.parametrize("kind", REFERENCES_TO_OTHER_SOURCES)
def test_file_that_refers_to_other_sources_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """An untrusted file must not make FFmpeg open other files or network addresses."""
    pytest.importorskip("av", reason="PyAV is an extra")
    monkeypatch.chdir(tmp_path)
    write_file(Path("local.wav"), tone(16_000))
    with pytest.raises(InputError, match="upload is not audio that can be decoded"):
        AudioFile("upload", io.BytesIO(REFERENCES_TO_OTHER_SOURCES[kind].encode()))


def test_allowed_demuxers_exist() -> None:
    """FFmpeg ignores unknown names in the list."""
    av = pytest.importorskip("av", reason="PyAV is an extra")
    names = container.DEMUXERS.split(",")
    assert set(names) <= av.formats_available
    assert names == sorted(set(names))


def test_raw_pcm_file_is_rejected_with_the_command_to_use(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(3200))
    with pytest.raises(InputError, match=r"no header.*listen - < FILE.*--sample-rate"):
        AudioFile(tmp_path / "a.raw")


def test_video_without_audio_track_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio track"):
        AudioFile(write_container(tmp_path / "a.mp4", None, video=True))


def test_unknown_audio_encoding_is_rejected(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mkv", "pcm_f32le")
    path.write_bytes(path.read_bytes().replace(b"A_PCM/FLOAT", b"A_XYZ/FLOAT"))
    with pytest.raises(InputError, match="encoding that FFmpeg cannot decode"):
        AudioFile(path)


def test_nan_in_a_file_is_rejected_with_its_position(tmp_path: Path) -> None:
    samples = tone(16_000, seconds=2)
    samples[12_345] = np.nan
    with pytest.raises(InputError, match=r"nan at 0\.772 s"):
        read_mono(write_file(tmp_path / "a.wav", samples, subtype="FLOAT"))


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root can read every file")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_file_without_read_permission_is_rejected(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.wav", tone(16_000))
    path.chmod(0)
    with pytest.raises(InputError, match=r"cannot read .*a\.wav: Permission denied"):
        AudioFile(path)


def test_operating_system_error_is_part_of_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / "a.wav", tone(16_000))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"cannot read .*a\.wav: Permission denied"):
        AudioFile(path)


def test_overlong_file_name_is_rejected() -> None:
    with pytest.raises(InputError, match="cannot read"):
        AudioFile("a" * 5000 + ".wav")


def test_file_name_may_look_like_an_url_or_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_container(tmp_path / "a.m4a", "aac")
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.m4a", "http:a.m4a", "%d.m4a", "-.m4a"):
        Path("a.m4a").replace(name)
        assert_is_the_tone(read_mono(name))
        Path(name).replace("a.m4a")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
@pytest.mark.parametrize("suffix", [b".wav", b".m4a"])
def test_file_name_may_be_invalid_unicode(tmp_path: Path, suffix: bytes) -> None:
    name = os.fsdecode(b"caf\xe9" + suffix)
    path = tmp_path / ("a" + os.fsdecode(suffix))
    if suffix == b".wav":
        write_file(path, tone(16_000))
    else:
        write_container(path, "aac")
    assert_is_the_tone(read_mono(path.replace(tmp_path / name)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_named_pipe_is_rejected_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"is a pipe or a device.*listen -"):
        AudioFile(tmp_path / "a.wav")


def test_tags_that_are_not_utf8_are_ignored(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mkv", "pcm_f32le")
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"\xe9\xe8\xfc\xf6"))
    assert_is_the_tone(read_mono(path))


@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.webm"])
def test_truncated_file_is_decoded_as_far_as_possible(tmp_path: Path, name: str, fraction: float) -> None:
    seconds = 5
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (seconds * 48_000, 1)).astype(np.float32)
    path = tmp_path / name
    if name == "a.webm":
        write_container(path, "libopus", channels=1, seconds=seconds)
    else:
        write_file(path, noise, 48_000)
    whole, error = read_until_error(path)
    assert error is None
    data = path.read_bytes()
    path.write_bytes(data[: max(1, int(fraction * len(data)))])
    samples, error = read_until_error(path)
    np.testing.assert_array_equal(samples, whole[: len(samples)])
    if fraction >= 0.3:
        assert len(samples) > (fraction - 0.25) * len(whole)
    if error is not None and len(samples):
        position = f"{len(samples) / 48_000:.1f} s"
        expected = f"is truncated after {position}" if name == "a.wav" else f"cannot be decoded from {position} on"
        assert expected in str(error)
    if name == "a.wav":
        assert error is not None
    if name == "a.flac" and fraction >= 0.3:
        # Only the truncated frame is lost, not the rest of its block.
        assert error is not None
        assert len(samples) / len(whole) == pytest.approx(fraction, abs=0.02)


def test_damaged_files_raise_only_input_errors(tmp_path: Path) -> None:
    samples = tone(48_000, 2, 0.2)
    originals = [write_file(tmp_path / name, samples, 48_000) for name in ("a.wav", "a.flac", "a.mp3", "a.ogg")]
    originals += [
        write_container(tmp_path / name, codec, seconds=0.2)
        for name, codec in (("a.m4a", "aac"), ("a.mkv", "pcm_f32le"))
    ]
    rng = random.Random(0)
    for number in range(240):
        original = originals[number % len(originals)]
        data = bytearray(original.read_bytes())
        for _ in range(rng.choice([1, 3, 20])):
            # Damage the header more often than its length warrants: most errors occur there.
            at = rng.randrange(min(len(data), rng.choice([600, len(data)])))
            match rng.randrange(3):
                case 0:
                    data[at] = rng.choice([0, 255, rng.randrange(256)])
                case 1:
                    del data[at : at + rng.randrange(40)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randrange(40))
        path = tmp_path / f"damaged{original.suffix}"
        path.write_bytes(data)
        read_until_error(path)  # does not catch any other exception
