from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream_asr.array_types import FloatArray
from stream_asr.audio import microphone
from stream_asr.audio.microphone import InputDevice, Microphone, find_device, input_devices
from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.errors import DeviceError, InputError

RATE = 48_000


class PortAudioError(Exception):
    pass


class FakeStream:
    """Calls back when the test says so."""

    def __init__(self, callback: Any, **settings: Any) -> None:
        self.settings = settings
        self.running = self.closed = self.broken = False
        self._callback = callback

    @property
    def active(self) -> bool:
        if self.broken:
            raise PortAudioError("Invalid stream pointer")
        return self.running

    def start(self) -> None:
        self.running = True

    def close(self, ignore_errors: bool = True) -> None:
        self.closed, self.running = True, False

    def deliver(self, block: FloatArray) -> None:
        self._callback(block, len(block), None, None)


class FakePortAudio(SimpleNamespace):
    """What of the module `sounddevice` is used, with devices that the tests choose."""

    def __init__(self, *devices: tuple[str, int], default: int = -1) -> None:
        super().__init__(InputStream=self._open, PortAudioError=PortAudioError)
        self.default = SimpleNamespace(device=(default, 0))
        self.devices = [
            {"index": index, "name": name, "max_input_channels": channels, "default_samplerate": 44_100.0}
            for index, (name, channels) in enumerate(devices)
        ]
        self.rates = {44_100, 48_000}
        self.asked: list[int] = []
        self.streams: list[FakeStream] = []

    def query_devices(self) -> list[dict[str, Any]]:
        return self.devices

    def check_input_settings(self, device: int, channels: int, dtype: str, samplerate: int) -> None:
        assert dtype == "float32"
        assert channels <= self.devices[device]["max_input_channels"]
        self.asked.append(samplerate)
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")

    def _open(self, **settings: Any) -> FakeStream:
        self.streams.append(FakeStream(**settings))
        return self.streams[-1]


class Missing:
    """Finds `sounddevice` in a state that its import fails in."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def find_spec(self, name: str, *args: object) -> None:
        if name == "sounddevice":
            raise self.error


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    made = FakePortAudio(("HDMI", 0), ("Built-in", 1), ("USB Audio (hw:2,0)", 2), ("usb", 8), default=2)
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    return made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "STALL_S", 0.05)
    monkeypatch.setattr(microphone, "POLL_S", 0.005)


def stereo(start: int, length: int) -> FloatArray:
    """Frames whose mean counts up from ``start``."""
    values = np.arange(start, start + length, dtype=np.float32)
    return np.stack([values + 100, values - 100], axis=1)


def named(*names: str) -> list[InputDevice]:
    return [InputDevice(index, name, 1, RATE, is_default=False) for index, name in enumerate(names)]


def test_inputs_are_listed_and_the_default_is_marked(sound: FakePortAudio) -> None:
    assert input_devices() == [
        InputDevice(1, "Built-in", 1, 44_100, is_default=False),
        InputDevice(2, "USB Audio (hw:2,0)", 2, 44_100, is_default=True),
        InputDevice(3, "usb", 8, 44_100, is_default=False),
    ]


def test_a_failing_portaudio_is_a_device_error(sound: FakePortAudio) -> None:
    def fail() -> None:
        raise PortAudioError("host error")

    sound.query_devices = fail
    with pytest.raises(DeviceError, match="cannot list the audio devices: host error"):
        input_devices()


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(None, 2), (3, 3), ("3", 3), (" 1 ", 1), ("built", 1), ("AUDIO", 2), ("hw:2", 2), ("USB", 3), ("usb audio", 2)],
)
def test_devices_are_found_by_number_and_part_of_name(
    sound: FakePortAudio, wanted: str | int | None, index: int
) -> None:
    assert find_device(wanted, input_devices()).index == index


def test_without_a_default_the_first_input_is_taken() -> None:
    assert find_device(None, named("a", "b")).name == "a"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("audio", r"several inputs match 'audio'; there are 0: Audio A; 2: Audio B$"),
        ("", "several inputs match"),
        ("front", "no input matches 'front'; there are 0: Audio A; 1: Line 7; 2: Audio B$"),
        (9, "no input matches '9'; there are"),
        ("-1", "no input matches"),
        ("²", "no input matches"),
        # A number is no part of a name: that would open another device than the one that was counted out.
        ("7", "no input matches '7'"),
    ],
)
def test_a_device_that_is_not_there_lists_the_choices(wanted: str | int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_device(wanted, named("Audio A", "Line 7", "Audio B"))


def test_no_input_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakePortAudio(("HDMI", 0)))
    assert input_devices() == []
    with pytest.raises(DeviceError, match="no audio input was found; plug in"):
        Microphone()


@pytest.mark.parametrize(
    ("rates", "rate", "asked"),
    [
        ({44_100, 48_000}, 44_100, [44_100]),
        ({16_000, 48_000}, 48_000, [44_100, 48_000]),
        ({16_000}, 16_000, [44_100, 48_000, 16_000]),
        ({8_000}, 8_000, [44_100, 48_000, 16_000, 32_000, 96_000, 8_000]),
    ],
)
def test_the_devices_own_rate_is_tried_first(
    sound: FakePortAudio, rates: set[int], rate: int, asked: list[int]
) -> None:
    sound.rates = rates
    with Microphone() as opened:
        assert opened.sample_rate == rate
    assert sound.asked == asked
    assert sound.streams[0].settings == {"device": 2, "channels": 2, "samplerate": rate, "dtype": "float32"}


def test_a_device_that_opens_at_no_rate(sound: FakePortAudio) -> None:
    sound.rates = set()
    with pytest.raises(DeviceError, match=r"'USB Audio \(hw:2,0\)' opens at none .* another program may hold it"):
        Microphone()


def test_a_device_that_somebody_else_took_meanwhile(sound: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(self: FakeStream) -> None:
        raise PortAudioError("Device unavailable")

    monkeypatch.setattr(FakeStream, "start", busy)
    with pytest.raises(DeviceError, match="cannot be opened: Device unavailable"):
        Microphone().start()
    assert sound.streams[0].closed


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_all_that_was_delivered_is_given_out_in_order(sound: FakePortAudio, channels: int) -> None:
    device = {1: 1, 2: 2, 8: 3}[channels]
    total, size = 120_000, 441
    with Microphone(device) as opened:
        stream = sound.streams[0]
        assert stream.settings["channels"] == min(2, channels)

        def deliver() -> None:
            for start in range(0, total, size):
                stream.deliver(stereo(start, min(size, total - start))[:, : min(2, channels)])
                if start % (50 * size) == 0:
                    time.sleep(0.002)
            opened.stop()

        thread = threading.Thread(target=deliver)
        thread.start()
        heard = np.concatenate(list(opened))
        thread.join()
    expected = np.arange(total) + (100 if channels == 1 else 0)
    np.testing.assert_array_equal(heard, expected)
    assert heard.dtype == np.float32
    assert opened.dropped == 0


def test_stop_loses_nothing_and_ends(sound: FakePortAudio) -> None:
    with Microphone() as opened:
        sound.streams[0].deliver(stereo(0, 500))
        opened.stop()
        np.testing.assert_array_equal(np.concatenate(list(opened)), np.arange(500))
    assert sound.streams[0].closed


def test_while_nothing_comes_the_reader_gets_empty_blocks(sound: FakePortAudio) -> None:
    with Microphone() as opened:
        blocks = iter(opened)
        start = time.monotonic()
        assert [len(next(blocks)) for _ in range(4)] == [0, 0, 0, 0]
        assert time.monotonic() - start < 1


@pytest.mark.parametrize("sign", ["running", "broken", None])
def test_a_device_that_is_unplugged_fails_after_its_last_samples(
    sound: FakePortAudio, impatient: None, sign: str | None
) -> None:
    heard: list[FloatArray] = []

    def listen(blocks: Iterator[FloatArray]) -> None:
        for block in blocks:
            heard.append(block)

    with Microphone() as opened:
        sound.streams[0].deliver(stereo(0, 500))
        blocks = iter(opened)
        heard.append(next(blocks))
        sound.streams[0].deliver(stereo(500, 500))
        if sign is not None:  # some drivers say nothing
            setattr(sound.streams[0], sign, sign == "broken")
        with pytest.raises(DeviceError, match=r"'USB Audio \(hw:2,0\)' went away; what was captured"):
            listen(blocks)
    np.testing.assert_array_equal(np.concatenate(heard), np.arange(1000))


def test_a_reader_that_was_away_for_long_does_not_take_the_device_for_dead(
    sound: FakePortAudio, impatient: None
) -> None:
    with Microphone() as opened:
        blocks = iter(opened)
        assert len(next(blocks)) == 0
        time.sleep(0.2)  # Ctrl-Z; the callbacks stood still as well
        assert len(next(blocks)) == 0
        sound.streams[0].deliver(stereo(0, 10))
        assert len(next(blocks)) == 10


def test_losses_that_the_sound_card_reports_are_counted(sound: FakePortAudio) -> None:
    with Microphone() as opened:
        for lost in (True, False, True):
            sound.streams[0]._callback(stereo(0, 4), 4, None, SimpleNamespace(input_overflow=lost))
        assert opened.overflows == 2


def test_what_nobody_reads_in_time_is_counted(sound: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "BUFFER_S", 1)
    with Microphone() as opened:
        for start in range(0, 60_000, 1000):
            sound.streams[0].deliver(stereo(start, 1000))
        assert opened.dropped == 60_000 - opened.sample_rate
        opened.stop()
        np.testing.assert_array_equal(np.concatenate(list(opened)), np.arange(opened.sample_rate))


def test_the_callback_only_writes_to_the_ring_buffer(sound: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    # It runs on the sound card's clock: a lock, a queue or a print would be heard as a gap. The ring buffer takes
    # no lock; what else the callback touched would be missing here.
    opened = Microphone()
    written: list[FloatArray] = []
    bare = SimpleNamespace(_ring=SimpleNamespace(write=written.append))
    Microphone._callback(bare, stereo(0, 4), 4, None, None)  # type: ignore[arg-type]
    np.testing.assert_array_equal(written[0], np.arange(4))
    assert type(opened._ring) is RingBuffer
    assert not any(hasattr(value, "acquire") for value in vars(opened._ring).values())


def missing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(error), *sys.meta_path])


def test_without_portaudio_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, OSError("PortAudio library not found"))
    for attempt in (input_devices, Microphone):
        with pytest.raises(DeviceError, match=r"libportaudio2.*Files, pipes and the demo work without it"):
            attempt()


def test_a_portaudio_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, PortAudioError("Error initializing PortAudio"))
    with pytest.raises(DeviceError, match="does not start: Error initializing"):
        Microphone()
