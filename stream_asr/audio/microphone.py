"""Capture from a microphone through PortAudio, at the sample rate of the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stream_asr.array_types import FloatArray
from stream_asr.audio.ring_buffer import RingBuffer
from stream_asr.config import AUDIO
from stream_asr.errors import DeviceError, InputError

if TYPE_CHECKING:
    from types import TracebackType

_NO_PORTAUDIO = (
    "the microphone needs PortAudio, which is not installed; install libportaudio2 (Debian, Ubuntu) or portaudio "
    "(Fedora, Arch, Homebrew) and try again. Files, pipes and the demo work without it"
)


@dataclass(frozen=True, slots=True)
class InputDevice:
    """An audio input that PortAudio lists.

    Attributes:
        index: PortAudio's number of the device.
        name: name of the device.
        channels: number of input channels.
        sample_rate: default sample rate in Hz.
        is_default: whether it is the system's default input.
    """

    index: int
    name: str
    channels: int
    sample_rate: int
    is_default: bool


def _import_sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise DeviceError(_NO_PORTAUDIO) from error
    except Exception as error:  # PortAudioError, which a failed import does not define
        raise DeviceError(f"PortAudio cannot be initialized: {error}") from error
    return sounddevice


def list_input_devices() -> list[InputDevice]:
    """Return all input devices, in PortAudio's order.

    Raises:
        DeviceError: PortAudio is not installed, or it fails.
    """
    sounddevice = _import_sounddevice()
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


def find_device(query: str | int | None, devices: list[InputDevice]) -> InputDevice:
    """Select an input device.

    Args:
        query: an index, a part of a name (case is ignored), or None for the default device.
        devices: the devices to select from.

    Raises:
        DeviceError: there is no input device.
        InputError: no device matches, or several do; the message lists the choices.
    """
    if not devices:
        raise DeviceError("no audio input was found; connect a microphone, or read audio from a file or a pipe")
    if query is None:
        return next((device for device in devices if device.is_default), devices[0])
    text = str(query).strip()
    if text.isdecimal():
        # A number never matches a name: 2 must not select "USB Audio (hw:1,2)" if device 2 is an output.
        matches = [device for device in devices if device.index == int(text)]
    else:
        matches = [device for device in devices if text.lower() in device.name.lower()]
    # An exact match takes precedence over longer names that contain it.
    exact = [device for device in matches if device.name.lower() == text.lower()]
    matches = exact[:1] or matches
    if len(matches) == 1:
        return matches[0]
    choices = "; ".join(f"{device.index}: {device.name}" for device in matches or devices)
    problem = "several inputs match" if matches else "no input matches"
    raise InputError(f"{problem} {text!r}; choose one of {choices}")


class Microphone:
    """Capture from an input device. Iteration yields mono float32 blocks at `sample_rate` until `stop`.

    The audio callback only copies samples into a ring buffer. Samples that do not fit are counted in `dropped`.

    Args:
        device: index or part of the name of the device; None for the default device.

    Raises:
        DeviceError: PortAudio is not installed, there is no input device, or the device cannot be opened. Iteration
            raises it when the device is disconnected, after it has yielded all captured samples.
        InputError: no device matches ``device``, or several do.
    """

    def __init__(self, device: str | int | None = None) -> None:
        self._sounddevice = _import_sounddevice()
        self.device = find_device(device, list_input_devices())
        self.sample_rate = self._probe_rate()
        self._ring = RingBuffer(AUDIO.microphone_buffer_s * self.sample_rate)
        self._overflows = 0
        self._stopped = False
        self._stream: Any = None

    @property
    def dropped(self) -> int:
        """Number of samples (at `sample_rate`) that were dropped because the buffer was full."""
        return self._ring.dropped

    @property
    def overflows(self) -> int:
        """Number of overflows that PortAudio reported. It does not report how many samples each one lost."""
        return self._overflows

    def _probe_rate(self) -> int:
        """Return the device's default rate if the device opens at it, else the first fallback rate that works."""
        for rate in dict.fromkeys((self.device.sample_rate, *AUDIO.microphone_fallback_rates)):
            try:
                self._sounddevice.check_input_settings(
                    device=self.device.index, channels=self._channels, dtype="float32", samplerate=rate
                )
            except self._sounddevice.PortAudioError:
                continue
            return rate
        raise DeviceError(
            f"input {self.device.name!r} does not open at any common sample rate; another program may be using it"
        )

    @property
    def _channels(self) -> int:
        # Two at most: the other inputs of an audio interface rarely carry the speaker's voice.
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
        """Stop capturing. Iteration yields the samples captured so far, then ends. Safe in a signal handler."""
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
        """Yield blocks as they arrive, and an empty block every 20 ms in between so that the caller is not blocked."""
        # Count only the time spent in sleep here: a suspended process (Ctrl-Z) has not waited for the device.
        waited_s = 0.0
        while True:
            # Check before reading, so that samples captured just before the end are still yielded.
            stopped, active = self._stopped, self._is_active()
            start, stop = self._ring.released, self._ring.written
            block = self._ring.read(start, stop)
            self._ring.release(stop)
            yield block
            if stopped:
                return
            if len(block):
                waited_s = 0.0
            if not active or waited_s > AUDIO.microphone_stall_s:
                raise DeviceError(
                    f"input {self.device.name!r} was disconnected; the audio captured before that is recognized"
                )
            if not len(block):
                time.sleep(AUDIO.microphone_poll_s)
                waited_s += AUDIO.microphone_poll_s

    def _is_active(self) -> bool:
        try:
            return self._stream is not None and bool(self._stream.active)
        except self._sounddevice.PortAudioError:
            return False
