"""Measure the latencies of a caption server under load: N clients send a recording at real-time pace.

    python load.py talk.wav --clients 8

Prints latencies as seen by the clients, including network and computation:
  first partial  from the end of an utterance's first word to the first caption with text
  partial        from the newest audio that a caption reflects to the arrival of the caption
  final          from the end of an utterance (including its trailing silence) to its final

Needs `websockets`, `soundfile` and numpy, and `captions.py` in the same folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from captions import TOKEN_HELP, Captions, ServerError

BLOCK_S = 0.1


@dataclass
class Client:
    """Measurements of one client."""

    first_partial_s: list[float] = field(default_factory=list)
    partial_s: list[float] = field(default_factory=list)
    final_s: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    overloads: int = 0
    reconnections: int = 0
    failure: str | None = None

    async def run(self, options: argparse.Namespace, pcm: bytes, sample_rate: int, delay_s: float) -> None:
        """Wait for ``delay_s``, then run one session."""
        await asyncio.sleep(delay_s)
        captions = Captions(options.url, sample_rate, token=options.token)
        started_s = time.monotonic()
        feeder = asyncio.create_task(feed(captions, pcm, sample_rate, started_s))
        first_partial_at_s: dict[int, float] = {}
        try:
            async for event in captions:
                now_s = time.monotonic() - started_s
                if event["type"] == "partial":
                    first_partial_at_s.setdefault(event["utterance"], now_s)
                    self.partial_s.append(now_s - event["end"])
                elif event["type"] == "final":
                    self.final_s.append(now_s - event["end"])
                    self.texts.append(event["text"])
                    if event["words"] and event["utterance"] in first_partial_at_s:
                        self.first_partial_s.append(first_partial_at_s[event["utterance"]] - event["words"][0]["end"])
                elif event["type"] == "overload":
                    self.overloads += 1
        except ServerError as error:
            self.failure = str(error)
        finally:
            feeder.cancel()
        self.reconnections = captions.reconnections


async def feed(captions: Captions, pcm: bytes, sample_rate: int, started_s: float) -> None:
    """Send 16-bit mono audio at real-time pace."""
    block_bytes = round(BLOCK_S * sample_rate) * 2
    for start in range(0, len(pcm), block_bytes):
        await asyncio.sleep(started_s + (start + block_bytes) / 2 / sample_rate - time.monotonic())
        captions.push(pcm[start : start + block_bytes])
    captions.finish()


def format_percentile(values_s: Sequence[float], percent: int) -> str:
    ordered = sorted(values_s)
    return f"{ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000:7.0f} ms" if ordered else "      -"


async def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the latencies of a caption server under load.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--spread", type=float, default=2.0, help="seconds over which the clients start")
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--token", default=os.environ.get("STREAM_ASR_TOKEN"), help=TOKEN_HELP)
    options = parser.parse_args()
    if options.clients < 1:
        parser.error(f"--clients is {options.clients}; it must be at least 1")
    if not options.file.is_file():
        parser.error(f"file {options.file} does not exist")

    samples, sample_rate = soundfile.read(options.file, dtype="int16", always_2d=True)
    pcm = samples[:, 0].astype("<i2").tobytes()
    clients = [Client() for _ in range(options.clients)]
    delays = [random.uniform(0, options.spread) for _ in clients]
    await asyncio.gather(
        *(client.run(options, pcm, sample_rate, delay_s) for client, delay_s in zip(clients, delays, strict=True))
    )

    served = [client for client in clients if client.failure is None]
    print(f"{len(served)} of {len(clients)} clients served, {len(pcm) / 2 / sample_rate:.1f} s of audio each")
    print(f"{'':16}{'p50':>10}{'p90':>10}{'p99':>10}")
    for name in ("first_partial_s", "partial_s", "final_s"):
        values = [value for client in served for value in getattr(client, name)]
        cells = (format_percentile(values, percent) for percent in (50, 90, 99))
        print(f"{name.removesuffix('_s').replace('_', ' '):16}{''.join(cells)}")
    texts = Counter(" ".join(client.texts) for client in served)
    agreement = "identical" if len(texts) <= 1 else f"{len(texts)} different"
    print(f"transcripts: {agreement}; overload events: {sum(client.overloads for client in clients)}; ", end="")
    print(f"reconnections: {sum(client.reconnections for client in clients)}")
    for failure, count in Counter(client.failure for client in clients if client.failure).items():
        print(f"{count} failed: {failure}", file=sys.stderr)
    return 0 if len(served) == len(clients) else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (OSError, soundfile.LibsndfileError) as error:
        sys.exit(f"load: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
