"""Send a recording to a caption server and print the captions.

    python stream_file.py talk.wav                          # at real-time pace
    python stream_file.py talk.mp3 --pace max --text > talk.txt

Needs `websockets`, `soundfile` and numpy, and `captions.py` in the same folder. To get subtitles, upload the recording:

    curl -F file=@talk.mp3 -F response_format=srt http://127.0.0.1:8765/v1/audio/transcriptions
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

import soundfile
from captions import TOKEN_HELP, Captions, ServerError

BLOCK_S = 0.1


async def feed(captions: Captions, file: soundfile.SoundFile, realtime: bool) -> Exception | None:
    """Send the recording in blocks; with ``realtime``, at the pace of a microphone. Return the error that ended it."""
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
        captions.finish()  # a damaged file has captions up to the damage
    return None


async def show(captions: Captions, text_only: bool) -> None:
    """Print the events, or only the text of finals."""
    async for event in captions:
        if not text_only:
            print(json.dumps(event, ensure_ascii=False), flush=True)
        elif event["type"] == "final" and event["text"]:
            print(event["text"], flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Send a recording to a caption server and print the captions.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--token", default=os.environ.get("STREAM_ASR_TOKEN"), help=TOKEN_HELP)
    parser.add_argument("--pace", choices=("realtime", "max"), default="realtime")
    parser.add_argument("--hotword", action="append", help="word or phrase to prefer; repeatable")
    parser.add_argument("--text", action="store_true", help="print the text of finals instead of all events as JSON")
    options = parser.parse_args()
    if not options.file.is_file():
        parser.error(f"file {options.file} does not exist")

    with soundfile.SoundFile(options.file) as file:
        hotwords = {"hotwords": options.hotword} if options.hotword else {}
        captions = Captions(options.url, file.samplerate, channels=file.channels, token=options.token, **hotwords)
        # If reading the file fails, the captions of the audio sent before are still received.
        _, failure = await asyncio.gather(
            show(captions, options.text), feed(captions, file, realtime=options.pace == "realtime")
        )
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
