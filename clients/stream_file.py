"""Send a recording to a caption server and print what comes back.

    python stream_file.py talk.wav                          # as if it were spoken now
    python stream_file.py talk.mp3 --pace max --srt talk.srt

Needs `websockets`, `soundfile` and numpy, and `captions.py` beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import soundfile
from captions import TOKEN_HELP, Captions, ServerError

BLOCK_S = 0.1


async def feed(captions: Captions, file: soundfile.SoundFile, realtime: bool) -> Exception | None:
    """Send the recording in blocks, each when a microphone would have it. Returns why it broke off, if it did."""
    started_s, sent_s = time.monotonic(), 0.0
    try:
        for block in file.blocks(round(BLOCK_S * file.samplerate), dtype="int16"):
            sent_s += len(block) / file.samplerate
            if realtime:
                await asyncio.sleep(started_s + sent_s - time.monotonic())
            await captions.send(block.astype("<i2").tobytes())
    except (ServerError, soundfile.LibsndfileError) as error:
        return error
    finally:
        captions.finish()  # a damaged file has last words, too
    return None


async def show(captions: Captions, finals: list[dict[str, Any]], text_only: bool) -> None:
    """Print what comes back, and keep the finals."""
    async for event in captions:
        if event["type"] == "final" and event["text"]:
            finals.append(event)
            if text_only:
                print(event["text"], flush=True)
        if not text_only:
            print(json.dumps(event, ensure_ascii=False), flush=True)


def srt_time(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"


def srt(finals: list[dict[str, Any]]) -> str:
    """One cue a final; `stream-asr transcribe --format srt` breaks long ones into lines."""
    cues = [
        f"{number}\n{srt_time(final['words'][0]['start'])} --> {srt_time(final['words'][-1]['end'])}\n{final['text']}\n"
        for number, final in enumerate(finals, 1)
    ]
    return "\n".join(cues)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Send a recording to a caption server.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--token", default=os.environ.get("STREAM_ASR_TOKEN"), help=TOKEN_HELP)
    parser.add_argument("--pace", choices=("realtime", "max"), default="realtime")
    parser.add_argument("--text", action="store_true", help="print the text of finals, not all events as JSON")
    parser.add_argument("--srt", type=Path, help="also write the finals as subtitles")
    options = parser.parse_args()
    if not options.file.is_file():
        parser.error(f"there is no file {options.file}")
    if options.srt and not options.srt.absolute().parent.is_dir():
        parser.error(f"there is no folder {options.srt.parent} for --srt")

    finals: list[dict[str, Any]] = []
    with soundfile.SoundFile(options.file) as file:
        captions = Captions(options.url, file.samplerate, channels=file.channels, token=options.token)
        # The captions of what was sent come to their end, whatever becomes of the rest of the file.
        _, failure = await asyncio.gather(
            show(captions, finals, options.text), feed(captions, file, realtime=options.pace == "realtime")
        )
    if options.srt:
        options.srt.write_text(srt(finals), encoding="utf-8")
    if captions.reconnections:
        print(f"the connection was lost {captions.reconnections} time(s)", file=sys.stderr)
    if failure is not None:
        raise failure


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (ServerError, OSError, soundfile.LibsndfileError) as error:
        sys.exit(f"stream_file: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
