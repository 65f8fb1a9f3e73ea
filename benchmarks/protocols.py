"""Clients of caption servers: one class for each protocol, all with the same interface.

    with PROTOCOLS["vosk"]("ws://127.0.0.1:2700") as connection:
        connection.feed(samples)       # float32 of shape (samples,) at connection.sample_rate
        connection.finish()
        for event in connection:       # in another thread, as they arrive: Partial, Final
            ...

What servers tell becomes this package's events, so that the arithmetic is the same for all. A final's ``end`` is
where the server says that the utterance ended, NaN where it does not; its ``words`` are empty where it gives no times.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from sound import pcm16
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

from stream_asr.array_types import FloatArray
from stream_asr.events import Event, Final, Partial, Word

_PATIENCE_S = 30.0
"""For a server's next message once it has all the audio; while nobody speaks, it may say nothing for hours."""

_LOOK_EVERY_S = 0.5
"""How often one who waits looks whether that is so by now."""


class Client:
    """A connection to a server, open inside its ``with`` block.

    Args:
        url: ws://HOST:PORT or wss://HOST; a path or a query takes the place of the protocol's own.
        token: sent as the protocol wants it.
    """

    sample_rate = 16_000
    path = "/"
    query: Sequence[tuple[str, str]] = ()
    scheme = "Bearer"

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url, self._token = self._address(url), token
        self._utterance = 0
        self._finished_s = math.inf

    def _address(self, url: str) -> str:
        parts = urlsplit(url)
        path = parts.path if parts.path.strip("/") else self.path
        query = dict([*self.query, *parse_qsl(parts.query)])
        return urlunsplit(parts._replace(path=path, query=urlencode(query)))

    # --- what a protocol says ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Send what comes before the audio."""

    def feed(self, samples: FloatArray) -> None:
        self._socket.send(pcm16(samples))

    def end(self) -> None:
        """Tell that there is no more audio."""
        raise NotImplementedError

    def hear(self, message: dict[str, Any]) -> list[Event]:
        """What a message of the server means."""
        raise NotImplementedError

    def rest(self) -> list[Event]:
        """What is left to say when the server has closed the connection."""
        return []

    # --- what is the same for all ---------------------------------------------------------------------------

    def finish(self) -> None:
        """There is no more audio."""
        self._finished_s = time.monotonic()
        self.end()

    def say(self, **message: Any) -> None:
        self._socket.send(json.dumps(message))

    def partial(self, text: str, stable: str = "") -> Partial:
        return Partial(self._utterance, math.nan, math.nan, stable, text)

    def final(self, text: str, words: tuple[Word, ...] = (), end: float = math.nan) -> Final:
        self._utterance += 1
        return Final(self._utterance - 1, math.nan, end, text, 1.0, words)

    def __iter__(self) -> Iterator[Event]:
        """Events as they arrive, until the server or `finished` ends the conversation.

        Raises:
            TimeoutError: the server has all the audio and says nothing any more.
            websockets.exceptions.ConnectionClosedError: it hung up in the middle; its reason is the message.
            RuntimeError: it tells an error.
        """
        while not self.finished:
            try:
                message = self._next()
            except ConnectionClosedOK:
                break
            yield from self.hear(json.loads(message))
        yield from self.rest()

    def _next(self) -> str | bytes:
        began_s = time.monotonic()
        while True:
            try:
                return self._socket.recv(_LOOK_EVERY_S)
            except TimeoutError:
                if time.monotonic() > max(began_s, self._finished_s) + _PATIENCE_S:
                    raise

    @property
    def finished(self) -> bool:
        """Nothing more will come, although the server keeps the connection open."""
        return False

    def __enter__(self) -> Client:
        """Connect.

        Raises:
            OSError: nothing listens there.
            websockets.exceptions.InvalidHandshake: the server refuses.
        """
        headers = {"Authorization": f"{self.scheme} {self._token}"} if self._token else {}
        with ExitStack() as opened:
            # Compressing sound costs much and gains nothing; some servers send long messages.
            self._socket = opened.enter_context(
                connect(self._url, additional_headers=headers, compression=None, max_size=None, max_queue=None)
            )
            self.begin()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


class Native(Client):
    """This package's own."""

    path = "/v1/stream"

    def begin(self) -> None:
        self.say(type="start", sample_rate=self.sample_rate, encoding="pcm_s16le")

    def end(self) -> None:
        self.say(type="finish")

    def hear(self, message: dict[str, Any]) -> list[Event]:
        kind = message["type"]
        if kind == "error":
            raise RuntimeError(message["message"])
        if kind == "partial":
            return [self.partial(message["text"], message["stable"])]
        if kind == "final":
            words = tuple(Word(**word) for word in message["words"])
            return [self.final(message["text"], words, message["end"])]
        return []


class Vosk(Client):
    """Of Vosk's websocket server. Its partials have no stable part, its results no end but that of their words."""

    def begin(self) -> None:
        self.say(config={"sample_rate": self.sample_rate, "words": 1})

    def end(self) -> None:
        self.say(eof=1)

    def hear(self, message: dict[str, Any]) -> list[Event]:
        if message.get("partial"):
            return [self.partial(message["partial"])]
        if message.get("text"):
            return [self.final(message["text"], _words(message.get("result", ()), "conf"))]
        return []


class Deepgram(Client):
    """Of Deepgram's live API. Results whose words are final are stable; ``speech_final`` ends the utterance."""

    path = "/v1/listen"
    query = (("encoding", "linear16"), ("sample_rate", "16000"), ("channels", "1"), ("interim_results", "true"))
    scheme = "Token"

    def begin(self) -> None:
        self._stable: list[str] = []
        self._words: list[Word] = []

    def end(self) -> None:
        self.say(type="CloseStream")

    def hear(self, message: dict[str, Any]) -> list[Event]:
        if message["type"] == "Error":
            raise RuntimeError(message.get("description") or message)
        if message["type"] != "Results":
            return []
        best = message["channel"]["alternatives"][0]
        if not message["is_final"]:
            stable = " ".join(self._stable)
            text = " ".join([*self._stable, best["transcript"]])
            return [self.partial(text, stable)] if best["transcript"] else []
        if best["transcript"]:
            self._stable.append(best["transcript"])
            self._words += _words(best.get("words", ()), "confidence")
        if message["speech_final"]:
            return self._ended(message["start"] + message["duration"])
        stable = " ".join(self._stable)
        return [self.partial(stable, stable)] if best["transcript"] else []

    def rest(self) -> list[Event]:
        return self._ended(math.nan)

    def _ended(self, end: float) -> list[Event]:
        text, words = " ".join(self._stable), tuple(self._words)
        self._stable, self._words = [], []
        return [self.final(text, words, end)] if text else []


class OpenAI(Client):
    """Of OpenAI's Realtime API, transcription sessions. Deltas are never taken back; there are no times of words."""

    sample_rate = 24_000
    path = "/v1/realtime"
    query = (("intent", "transcription"),)
    model = "gpt-4o-transcribe"
    """Of the vendor's own; other servers take any name."""

    def begin(self) -> None:
        self._texts: dict[str, str] = {}
        self._ends: dict[str, float] = {}
        self._numbers: dict[str, int] = {}
        self._open: set[str] = set()
        self._last_asked = self._last_answered = False
        heard = {"format": {"type": "audio/pcm", "rate": self.sample_rate}, "transcription": {"model": self.model}}
        self.say(type="session.update", session={"type": "transcription", "audio": {"input": heard}})

    def feed(self, samples: FloatArray) -> None:
        self.say(type="input_audio_buffer.append", audio=base64.b64encode(pcm16(samples)).decode())

    def end(self) -> None:
        self._last_asked = True
        self.say(type="input_audio_buffer.commit")

    @property
    def finished(self) -> bool:
        return self._last_answered and not self._open

    def hear(self, message: dict[str, Any]) -> list[Event]:
        kind, item = message["type"], message.get("item_id", "")
        if kind == "error":
            # Servers refuse to commit when there was nothing to say since the last turn.
            if not (self._last_asked and message["error"].get("code") == "input_audio_buffer_commit_empty"):
                raise RuntimeError(message["error"]["message"])
            self._last_answered = True
        elif kind == "input_audio_buffer.speech_stopped":
            self._ends[item] = message["audio_end_ms"] / 1000
        elif kind == "input_audio_buffer.committed":
            self._open.add(item)
            self._last_answered = self._last_asked
        elif kind.endswith("input_audio_transcription.delta"):
            text = self._texts[item] = self._texts.get(item, "") + message["delta"]
            return [Partial(self._number(item), math.nan, math.nan, text, text)] if text.strip() else []
        elif kind.endswith("input_audio_transcription.completed"):
            self._open.discard(item)
            text = message["transcript"]
            end = self._ends.get(item, math.nan)
            return [Final(self._number(item), math.nan, end, text, 1.0, ())] if text else []
        elif kind.endswith("input_audio_transcription.failed"):
            raise RuntimeError(message["error"]["message"])
        return []

    def _number(self, item: str) -> int:
        """Items may overlap: one is still transcribed while the next one is spoken."""
        return self._numbers.setdefault(item, len(self._numbers))


PROTOCOLS: dict[str, Callable[[str, str | None], Client]] = {
    "native": Native,
    "vosk": Vosk,
    "deepgram": Deepgram,
    "openai": OpenAI,
}


def _words(told: Sequence[dict[str, Any]], confidence: str) -> tuple[Word, ...]:
    return tuple(Word(word["word"], word["start"], word["end"], word.get(confidence, 1.0)) for word in told)
