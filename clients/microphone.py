"""Caption the local microphone with a remote caption server, until Ctrl-C.

    python microphone.py --url wss://captions.example.org

Needs `websockets` and `sounddevice`, and `captions.py` in the same folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from typing import Any

from captions import TOKEN_HELP, Captions, ServerError

BLOCK_S = 0.05


def show(event: dict[str, Any]) -> None:
    """Print a final on its own line; overwrite the current line with the caption in progress."""
    width = shutil.get_terminal_size().columns - 1
    if event["type"] == "partial":
        print("\r" + event["text"][-width:].ljust(width), end="", flush=True)
    elif event["type"] == "final":
        print("\r" + event["text"].ljust(width), flush=True)
    elif event["type"] == "overload":
        print(f"\nthe server is {event['lag_ms'] / 1000:.1f} s behind", file=sys.stderr)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Caption the local microphone with a remote server.")
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--token", default=os.environ.get("STREAM_ASR_TOKEN"), help=TOKEN_HELP)
    parser.add_argument("--input-device", help="number or part of the name; list devices with python -m sounddevice")
    options = parser.parse_args()
    try:
        import sounddevice  # imported late: PortAudio may be missing although the package is installed
    except OSError as error:
        sys.exit(f"microphone: {error}; on Debian and Ubuntu: apt install libportaudio2")

    device = options.input_device
    device = int(device) if device is not None and device.isdigit() else device
    sample_rate = round(sounddevice.query_devices(device, "input")["default_samplerate"])
    captions = Captions(options.url, sample_rate, token=options.token)
    loop = asyncio.get_running_loop()

    def on_block(block: Any, frames: int, time: Any, status: Any) -> None:
        # Called in PortAudio's thread. Samples have the CPU's byte order, which is little-endian on common systems.
        loop.call_soon_threadsafe(captions.push, bytes(block))

    microphone = sounddevice.RawInputStream(
        sample_rate, round(BLOCK_S * sample_rate), device, channels=1, dtype="int16", callback=on_block
    )

    def stop() -> None:
        microphone.stop()
        captions.finish()  # the last finals are still to come

    with suppress(NotImplementedError):  # on Windows, Ctrl-C stops without the last finals
        loop.add_signal_handler(signal.SIGINT, stop)
    try:
        with microphone:
            async for event in captions:
                show(event)
    except sounddevice.PortAudioError as error:
        sys.exit(f"microphone: {error}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (ServerError, OSError, ValueError) as error:
        sys.exit(f"microphone: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
