"""The microphone, through PortAudio, at the device's own sample rate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stream_asr.array_types import FloatArray
from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import DeviceError, InputError

if TYPE_CHECKING:
    from types import TracebackType

BUFFER_S = 10
"""Audio that may wait between the callback and its reader; the reader normally takes it within 20 ms."""

POLL_S = 0.02
STALL_S = 3.0
"""After so much waiting for a callback, a device has gone away even where the driver does not say so."""

_FALLBACK_RATES = (48_000, 44_100, SAMPLE_RATE, 32_000, 96_000, 8_000)

_NO_PORTAUDIO = (
    "the microphone needs PortAudio, which is missing; install libportaudio2 (Debian, Ubuntu), portaudio "
    "(Fedora, Arch, Homebrew), and start again. Files, pipes and the demo work without it"
)


@dataclass(frozen=True, slots=True)
class InputDevice:
    """An audio input as PortAudio lists it."""

    index: int
    name: str
    channels: int
    sample_rate: int
    is_default: bool


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise DeviceError(_NO_PORTAUDIO) from error
    except Exception as error:  # its PortAudioError, which cannot be named when the import failed
        raise DeviceError(f"PortAudio does not start: {error}") from error
    return sounddevice


def input_devices() -> list[InputDevice]:
    """All inputs, in PortAudio's order.

    Raises:
        DeviceError: PortAudio is missing or fails.
    """
    sounddevice = _sounddevice()
    try:
        devices = sounddevice.query_devices()
        default = sounddevice.default.device[0]
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"PortAudio cannot list the audio devices: {error}") from error
    return [
        InputDevice(
            index=device["index"],
            name=device["name"],
            channels=device["max_input_channels"],
            sample_rate=round(device["default_samplerate"]),
            is_default=device["index"] == default,
        )
        for device in devices
        if device["max_input_channels"] > 0
    ]


def find_device(wanted: str | int | None, devices: list[InputDevice]) -> InputDevice:
    """The device meant by an index, a part of a name (case ignored), or None for the default.

    Raises:
        DeviceError: there is no input device at all.
        InputError: none or several match; the message lists the choices.
    """
    if not devices:
        raise DeviceError("no audio input was found; plug in a microphone, or pass audio through a file or a pipe")
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    text = str(wanted).strip()
    if text.isdecimal():
        # Never a part of a name: 2 must not find "USB Audio (hw:1,2)" when device 2 is an output.
        matches = [device for device in devices if device.index == int(text)]
    else:
        matches = [device for device in devices if text.lower() in device.name.lower()]
    # An exact name wins over the longer names that contain it.
    exact = [device for device in matches if device.name.lower() == text.lower()]
    matches = exact[:1] or matches
    if len(matches) == 1:
        return matches[0]
    choices = "; ".join(f"{device.index}: {device.name}" for device in matches or devices)
    raise InputError(f"{'several inputs match' if matches else 'no input matches'} {text!r}; there are {choices}")


class Microphone:
    """Opens an input device; iterating gives mono float32 blocks at `sample_rate` until `stop`.

    The audio callback only copies into a ring buffer. What does not fit there is counted in `dropped`.

    Raises:
        DeviceError: no PortAudio, no such input, or it cannot be opened; from the iteration, once everything
            captured was given out: the device went away.
        InputError: the wanted device is not there, or several match.
    """

    def __init__(self, device: str | int | None = None) -> None:
        self._sounddevice = _sounddevice()
        self.device = find_device(device, input_devices())
        self.sample_rate = self._probe_rate()
        self._ring = RingBuffer(BUFFER_S * self.sample_rate)
        self._overflows = 0
        self._stopped = False
        self._stream: Any = None

    @property
    def dropped(self) -> int:
        """Samples (at `sample_rate`) lost because nobody read them in time."""
        return self._ring.dropped

    @property
    def overflows(self) -> int:
        """How often the sound card lost samples before we could have them; it does not say how many."""
        return self._overflows

    def _probe_rate(self) -> int:
        """The device's own rate if it really opens with it, else the first common rate that does."""
        for rate in dict.fromkeys((self.device.sample_rate, *_FALLBACK_RATES)):
            try:
                self._sounddevice.check_input_settings(
                    device=self.device.index, channels=self._channels, dtype="float32", samplerate=rate
                )
            except self._sounddevice.PortAudioError:
                continue
            return rate
        raise DeviceError(
            f"input {self.device.name!r} opens at none of the usual sample rates; another program may hold it"
        )

    @property
    def _channels(self) -> int:
        # Two at most: an audio interface's further inputs are seldom the speaker's voice.
        return min(2, self.device.channels)

    def _callback(self, block: FloatArray, frames: int, timing: Any, status: Any) -> None:
        if status and status.input_overflow:
            self._overflows += 1
        self._ring.write(block.mean(axis=1))

    def start(self) -> None:
        try:
            self._stream = self._sounddevice.InputStream(
                device=self.device.index,
                channels=self._channels,
                samplerate=self.sample_rate,
                dtype="float32",
                callback=self._callback,
            )
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            self.close()
            raise DeviceError(f"input {self.device.name!r} cannot be opened: {error}") from error

    def stop(self) -> None:
        """End the capture; the iteration gives out what was captured and ends. Safe to call from a signal handler."""
        self._stopped = True

    def close(self) -> None:
        self._stopped = True
        if self._stream is not None:
            self._stream.close(ignore_errors=True)

    def __enter__(self) -> Microphone:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[FloatArray]:
        """Blocks as they come; an empty one at least every 20 ms, so that the reader can do other things."""
        # Only own waiting counts: after Ctrl-Z and fg, hours may have passed by the clock.
        waited_s = 0.0
        while True:
            # Asked before reading: what came before the end was captured, and is not lost.
            stopped, active = self._stopped, self._is_active()
            start, stop = self._ring.released, self._ring.written
            block = self._ring.read(start, stop)
            self._ring.release(stop)
            yield block
            if stopped:
                return
            if len(block):
                waited_s = 0.0
            if not active or waited_s > STALL_S:
                raise DeviceError(f"input {self.device.name!r} went away; what was captured until then is recognised")
            if not len(block):
                time.sleep(POLL_S)
                waited_s += POLL_S

    def _is_active(self) -> bool:
        try:
            return self._stream is not None and bool(self._stream.active)
        except self._sounddevice.PortAudioError:
            return False
