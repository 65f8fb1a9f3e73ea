"""Tests of microphone capture, with a fake PortAudio."""

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
from stream_asr.audio.microphone import InputDevice, Microphone, find_device, list_input_devices
from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.config import AudioConfig
from stream_asr.errors import DeviceError, InputError
from tests.support.portaudio import fail_import_of_sounddevice

RATE = 48_000


class PortAudioError(Exception):
    pass


class FakeStream:
    """An input stream whose callback runs when a test calls `deliver`."""

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

    def deliver(self, block: FloatArray, *, overflow: bool = False) -> None:
        self._callback(block, len(block), None, SimpleNamespace(input_overflow=True) if overflow else None)


class FakePortAudio(SimpleNamespace):
    """A stand-in for the module `sounddevice`, with devices that the tests choose.

    Attributes:
        rates: sample rates at which devices open.
        probed_rates: sample rates that were checked, in order.
        streams: all opened streams.
        query_error: raised by `query_devices`, if it is set.
    """

    def __init__(self, *devices: tuple[str, int], default: int = -1) -> None:
        super().__init__(InputStream=self._open, PortAudioError=PortAudioError)
        self.default = SimpleNamespace(device=(default, 0))
        self.devices: list[dict[str, Any]] = [
            {"index": index, "name": name, "max_input_channels": channels, "default_samplerate": 44_100.0}
            for index, (name, channels) in enumerate(devices)
        ]
        self.rates = {44_100, 48_000}
        self.probed_rates: list[int] = []
        self.streams: list[FakeStream] = []
        self.query_error: PortAudioError | None = None

    def query_devices(self) -> list[dict[str, Any]]:
        if self.query_error is not None:
            raise self.query_error
        return self.devices

    def check_input_settings(self, device: int, channels: int, dtype: str, samplerate: int) -> None:
        assert dtype == "float32"
        assert channels <= self.devices[device]["max_input_channels"]
        self.probed_rates.append(samplerate)
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")

    def _open(self, **settings: Any) -> FakeStream:
        self.streams.append(FakeStream(**settings))
        return self.streams[-1]


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    """Three inputs, of 1, 2 and 8 channels; the one with index 2 is the default."""
    fake = FakePortAudio(("HDMI", 0), ("Built-in", 1), ("USB Audio (hw:2,0)", 2), ("usb", 8), default=2)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AudioConfig(microphone_stall_s=0.05, microphone_poll_s=0.005)
    monkeypatch.setattr(microphone, "AUDIO", config)


def stereo(start: int, length: int) -> FloatArray:
    """Two channels of shape (samples, 2) whose mean counts up from ``start``."""
    values = np.arange(start, start + length, dtype=np.float32)
    return np.stack([values + 100, values - 100], axis=1)


def make_devices(*names: str) -> list[InputDevice]:
    return [InputDevice(index, name, 1, RATE, is_default=False) for index, name in enumerate(names)]


def test_input_devices_are_listed_with_the_default_marked(portaudio: FakePortAudio) -> None:
    assert list_input_devices() == [
        InputDevice(1, "Built-in", 1, 44_100, is_default=False),
        InputDevice(2, "USB Audio (hw:2,0)", 2, 44_100, is_default=True),
        InputDevice(3, "usb", 8, 44_100, is_default=False),
    ]


def test_portaudio_error_while_listing_is_a_device_error(portaudio: FakePortAudio) -> None:
    portaudio.query_error = PortAudioError("host error")
    with pytest.raises(DeviceError, match="cannot list the audio devices: host error"):
        list_input_devices()


@pytest.mark.parametrize(
    ("query", "index"),
    [(None, 2), (3, 3), ("3", 3), (" 1 ", 1), ("built", 1), ("AUDIO", 2), ("hw:2", 2), ("USB", 3), ("usb audio", 2)],
)
def test_devices_are_found_by_index_or_part_of_name(
    portaudio: FakePortAudio, query: str | int | None, index: int
) -> None:
    assert find_device(query, list_input_devices()).index == index


def test_first_input_is_used_if_there_is_no_default() -> None:
    assert find_device(None, make_devices("a", "b")).name == "a"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("audio", r"several inputs match 'audio'; choose one of 0: Audio A; 2: Audio B$"),
        ("", "several inputs match"),
        ("front", "no input matches 'front'; choose one of 0: Audio A; 1: Line 7; 2: Audio B$"),
        (9, "no input matches '9'; choose one of"),
        ("-1", "no input matches"),
        ("²", "no input matches"),
        # A number never matches a part of a name, which could select another device than the one intended.
        ("7", "no input matches '7'"),
    ],
)
def test_unknown_or_ambiguous_device_lists_the_choices(query: str | int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_device(query, make_devices("Audio A", "Line 7", "Audio B"))


def test_no_input_device_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakePortAudio(("HDMI", 0)))
    assert list_input_devices() == []
    with pytest.raises(DeviceError, match="no audio input was found; connect a microphone"):
        Microphone()


@pytest.mark.parametrize(
    ("rates", "rate", "probed_rates"),
    [
        ({44_100, 48_000}, 44_100, [44_100]),
        ({16_000, 48_000}, 48_000, [44_100, 48_000]),
        ({16_000}, 16_000, [44_100, 48_000, 16_000]),
        ({8_000}, 8_000, [44_100, 48_000, 16_000, 32_000, 96_000, 8_000]),
    ],
)
def test_default_sample_rate_is_tried_first(
    portaudio: FakePortAudio, rates: set[int], rate: int, probed_rates: list[int]
) -> None:
    portaudio.rates = rates
    with Microphone() as opened:
        assert opened.sample_rate == rate
    assert portaudio.probed_rates == probed_rates
    assert portaudio.streams[0].settings == {"device": 2, "channels": 2, "samplerate": rate, "dtype": "float32"}


def test_device_that_opens_at_no_sample_rate(portaudio: FakePortAudio) -> None:
    portaudio.rates = set()
    with pytest.raises(
        DeviceError, match=r"'USB Audio \(hw:2,0\)' does not open at any .* another program may be using it"
    ):
        Microphone()


def test_busy_device_is_a_device_error(portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(self: FakeStream) -> None:
        raise PortAudioError("Device unavailable")

    monkeypatch.setattr(FakeStream, "start", busy)
    with pytest.raises(DeviceError, match="cannot be opened: Device unavailable"):
        Microphone().start()
    assert portaudio.streams[0].closed


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_all_captured_samples_are_yielded_in_order(portaudio: FakePortAudio, channels: int) -> None:
    device = {1: 1, 2: 2, 8: 3}[channels]
    total, size = 120_000, 441
    with Microphone(device) as opened:
        stream = portaudio.streams[0]
        assert stream.settings["channels"] == min(2, channels)

        def deliver() -> None:
            for start in range(0, total, size):
                stream.deliver(stereo(start, min(size, total - start))[:, : min(2, channels)])
                if start % (50 * size) == 0:
                    time.sleep(0.002)
            opened.stop()

        thread = threading.Thread(target=deliver)
        thread.start()
        received = np.concatenate(list(opened))
        thread.join()
    expected = np.arange(total) + (100 if channels == 1 else 0)
    np.testing.assert_array_equal(received, expected)
    assert received.dtype == np.float32
    assert opened.dropped == 0


def test_stop_ends_iteration_without_losing_samples(portaudio: FakePortAudio) -> None:
    with Microphone() as opened:
        portaudio.streams[0].deliver(stereo(0, 500))
        opened.stop()
        np.testing.assert_array_equal(np.concatenate(list(opened)), np.arange(500))
    assert portaudio.streams[0].closed


def test_iteration_yields_empty_blocks_while_nothing_is_captured(portaudio: FakePortAudio) -> None:
    with Microphone() as opened:
        blocks = iter(opened)
        start = time.monotonic()
        assert [len(next(blocks)) for _ in range(4)] == [0, 0, 0, 0]
        assert time.monotonic() - start < 1


@pytest.mark.parametrize("symptom", ["inactive", "broken", "silent"])
def test_disconnected_device_fails_after_its_last_samples(
    portaudio: FakePortAudio, short_timeouts: None, symptom: str
) -> None:
    received: list[FloatArray] = []

    def read_all(blocks: Iterator[FloatArray]) -> None:
        received.extend(blocks)

    with Microphone() as opened:
        stream = portaudio.streams[0]
        stream.deliver(stereo(0, 500))
        blocks = iter(opened)
        received.append(next(blocks))
        stream.deliver(stereo(500, 500))
        if symptom == "inactive":
            stream.running = False
        elif symptom == "broken":
            stream.broken = True
        # With some drivers the only symptom is that no more callbacks come.
        with pytest.raises(DeviceError, match=r"'USB Audio \(hw:2,0\)' was disconnected; the audio captured"):
            read_all(blocks)
    np.testing.assert_array_equal(np.concatenate(received), np.arange(1000))


def test_suspended_process_does_not_count_as_disconnected_device(
    portaudio: FakePortAudio, short_timeouts: None
) -> None:
    with Microphone() as opened:
        blocks = iter(opened)
        assert len(next(blocks)) == 0
        time.sleep(0.2)  # Ctrl-Z also stops the callbacks
        assert len(next(blocks)) == 0
        portaudio.streams[0].deliver(stereo(0, 10))
        assert len(next(blocks)) == 10


def test_overflows_reported_by_portaudio_are_counted(portaudio: FakePortAudio) -> None:
    with Microphone() as opened:
        for overflow in (True, False, True):
            portaudio.streams[0].deliver(stereo(0, 4), overflow=overflow)
        assert opened.overflows == 2


def test_samples_that_do_not_fit_into_the_buffer_are_counted(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "AUDIO", AudioConfig(microphone_buffer_s=1))
    with Microphone() as opened:
        for start in range(0, 60_000, 1000):
            portaudio.streams[0].deliver(stereo(start, 1000))
        assert opened.dropped == 60_000 - opened.sample_rate
        opened.stop()
        np.testing.assert_array_equal(np.concatenate(list(opened)), np.arange(opened.sample_rate))


def test_callback_takes_no_lock(portaudio: FakePortAudio) -> None:
    # The callback runs on the sound card's clock: waiting for a lock or for I/O would lose samples. The stand-in below
    # has only the ring buffer, so the callback fails if it uses anything else.
    opened = Microphone()
    written: list[FloatArray] = []
    stand_in: Any = SimpleNamespace(_ring=SimpleNamespace(write=written.append))
    Microphone._callback(stand_in, stereo(0, 4), 4, None, None)
    np.testing.assert_array_equal(written[0], np.arange(4))
    assert type(opened._ring) is RingBuffer
    assert not any(hasattr(value, "acquire") for value in vars(opened._ring).values())


def test_missing_portaudio_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_import_of_sounddevice(monkeypatch, OSError("PortAudio library not found"))
    for open_audio in (list_input_devices, Microphone):
        with pytest.raises(DeviceError, match=r"libportaudio2.*Files, pipes and the demo work without it"):
            open_audio()


def test_portaudio_that_fails_to_initialize_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_import_of_sounddevice(monkeypatch, PortAudioError("Error initializing PortAudio"))
    with pytest.raises(DeviceError, match="cannot be initialized: Error initializing"):
        Microphone()
