"""Clients of caption servers: one class for each protocol, all with the same interface.

    with PROTOCOLS["vosk"]("ws://127.0.0.1:2700", None) as client:
        client.feed(samples)           # float32 of shape (samples,) at client.sample_rate
        client.finish()
        for event in client:           # in another thread, as the events arrive: Partial, Final
            ...

Clients convert server messages to the events of this package, so that all servers are measured alike. The ``end`` of a
final is the end of the utterance as reported by the server, or NaN. ``words`` is empty if the server reports no word
times.
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

from signals import pcm16
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidURI
from websockets.sync.client import connect

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError, StreamASRError
from stream_asr.events import Event, Final, Partial, Word

_IDLE_TIMEOUT_S = 30.0
"""Maximum wait for a message after the end of the audio. Before it, a server may be silent for as long as speakers."""

_POLL_INTERVAL_S = 0.5
"""Interval at which a waiting reader checks whether the audio has ended."""


class ServerError(StreamASRError):
    """The server reported an error, closed the connection or stopped responding."""


class Client:
    """A connection to a server, open inside its ``with`` block.

    Args:
        url: ws://HOST:PORT or wss://HOST. A path replaces the path of the protocol; query parameters are added to
            those of the protocol and replace those of the same name.
        token: access token.

    Attributes:
        sample_rate: sample rate of the audio, in Hz.
        path: default path of the protocol.
        query: default query parameters of the protocol.
        auth_scheme: scheme of the Authorization header.
    """

    sample_rate = 16_000
    path = "/"
    query: Sequence[tuple[str, str]] = ()
    auth_scheme = "Bearer"

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url, self._token = self._make_url(url), token
        self._utterance = 0
        self._finished_at_s = math.inf

    def _make_url(self, url: str) -> str:
        parts = urlsplit(url)
        path = parts.path if parts.path.strip("/") else self.path
        query = dict([*self.query, *parse_qsl(parts.query)])
        return urlunsplit(parts._replace(path=path, query=urlencode(query)))

    # --- overridden by each protocol --------------------------------------------------------------------------

    def send_start(self) -> None:
        """Send the messages that precede the audio."""

    def feed(self, samples: FloatArray) -> None:
        """Send audio, float32 of shape (samples,) at `sample_rate`."""
        self._send(pcm16(samples))

    def send_end(self) -> None:
        """Send the message that ends the audio."""
        raise NotImplementedError

    def parse_message(self, message: dict[str, Any]) -> list[Event]:
        """Convert a message of the server to events.

        Raises:
            ServerError: the message is an error.
        """
        raise NotImplementedError

    def remaining_events(self) -> list[Event]:
        """Return the events that are pending when the server closes the connection."""
        return []

    @property
    def finished(self) -> bool:
        """Whether the last event has been received although the server keeps the connection open."""
        return False

    # --- common to all protocols ------------------------------------------------------------------------------

    def finish(self) -> None:
        """End the audio."""
        self._finished_at_s = time.monotonic()
        self.send_end()

    def send_json(self, **message: Any) -> None:
        """Send a message as JSON text."""
        self._send(json.dumps(message))

    def make_partial(self, text: str, stable: str = "") -> Partial:
        """Make a partial of the current utterance."""
        return Partial(self._utterance, math.nan, math.nan, stable, text)

    def make_final(self, text: str, words: tuple[Word, ...] = (), end_s: float = math.nan) -> Final:
        """Make the final of the current utterance and go on to the next utterance."""
        self._utterance += 1
        return Final(self._utterance - 1, math.nan, end_s, text, 1.0, words)

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they arrive, until the server closes the connection or `finished` is true.

        Raises:
            ServerError: the server reported an error, closed the connection abnormally, or sent nothing for 30 s
                after the end of the audio.
        """
        while not self.finished:
            try:
                message = self._receive()
            except ConnectionClosedOK:
                break
            except ConnectionClosed as error:
                raise ServerError(f"the server closed the connection: {error}") from error
            yield from self.parse_message(json.loads(message))
        yield from self.remaining_events()

    def _send(self, message: str | bytes) -> None:
        try:
            self._connection.send(message)
        except ConnectionClosed as error:
            raise ServerError(f"the server closed the connection: {error}") from error

    def _receive(self) -> str | bytes:
        start_s = time.monotonic()
        while True:
            try:
                return self._connection.recv(_POLL_INTERVAL_S)
            except TimeoutError:
                if time.monotonic() > max(start_s, self._finished_at_s) + _IDLE_TIMEOUT_S:
                    raise ServerError(f"the server sent nothing for {_IDLE_TIMEOUT_S:g} s") from None

    def __enter__(self) -> Client:
        """Connect.

        Raises:
            InputError: the connection failed or the server refused it.
        """
        headers = {"Authorization": f"{self.auth_scheme} {self._token}"} if self._token else {}
        with ExitStack() as stack:
            try:
                # Compression does not shrink audio. Some servers send messages above the default maximum size.
                self._connection = stack.enter_context(
                    connect(self._url, additional_headers=headers, compression=None, max_size=None, max_queue=None)
                )
            except (OSError, InvalidHandshake, InvalidURI) as error:
                raise InputError(f"cannot connect to {self._url.partition('?')[0]}: {error}") from error
            self.send_start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Native(Client):
    """Native protocol of this package."""

    path = "/v1/stream"

    def send_start(self) -> None:
        self.send_json(type="start", sample_rate=self.sample_rate, encoding="pcm_s16le")

    def send_end(self) -> None:
        self.send_json(type="finish")

    def parse_message(self, message: dict[str, Any]) -> list[Event]:
        kind = message["type"]
        if kind == "error":
            raise ServerError(message["message"])
        if kind == "partial":
            return [self.make_partial(message["text"], message["stable"])]
        if kind == "final":
            words = tuple(Word(**word) for word in message["words"])
            return [self.make_final(message["text"], words, message["end"])]
        return []


class Vosk(Client):
    """Websocket protocol of Vosk. Partials have no stable part; utterances have no end apart from that of words."""

    def send_start(self) -> None:
        self.send_json(config={"sample_rate": self.sample_rate, "words": 1})

    def send_end(self) -> None:
        self.send_json(eof=1)

    def parse_message(self, message: dict[str, Any]) -> list[Event]:
        if message.get("partial"):
            return [self.make_partial(message["partial"])]
        if message.get("text"):
            return [self.make_final(message["text"], _parse_words(message.get("result", ()), "conf"))]
        return []


class Deepgram(Client):
    """Live API of Deepgram. Results with ``is_final`` are stable; ``speech_final`` ends the utterance."""

    path = "/v1/listen"
    query = (("encoding", "linear16"), ("sample_rate", "16000"), ("channels", "1"), ("interim_results", "true"))
    auth_scheme = "Token"

    def send_start(self) -> None:
        self._stable: list[str] = []
        self._words: list[Word] = []

    def send_end(self) -> None:
        self.send_json(type="CloseStream")

    def parse_message(self, message: dict[str, Any]) -> list[Event]:
        if message["type"] == "Error":
            raise ServerError(message.get("description") or str(message))
        if message["type"] != "Results":
            return []
        best = message["channel"]["alternatives"][0]
        if not message["is_final"]:
            stable = " ".join(self._stable)
            text = " ".join([*self._stable, best["transcript"]])
            return [self.make_partial(text, stable)] if best["transcript"] else []
        if best["transcript"]:
            self._stable.append(best["transcript"])
            self._words += _parse_words(best.get("words", ()), "confidence")
        if message["speech_final"]:
            return self._end_utterance(message["start"] + message["duration"])
        stable = " ".join(self._stable)
        return [self.make_partial(stable, stable)] if best["transcript"] else []

    def remaining_events(self) -> list[Event]:
        return self._end_utterance(math.nan)

    def _end_utterance(self, end_s: float) -> list[Event]:
        text, words = " ".join(self._stable), tuple(self._words)
        self._stable, self._words = [], []
        return [self.make_final(text, words, end_s)] if text else []


class OpenAI(Client):
    """Transcription sessions of OpenAI's Realtime API. Deltas never change; there are no word times."""

    sample_rate = 24_000
    path = "/v1/realtime"
    query = (("intent", "transcription"),)
    model = "gpt-4o-transcribe"
    """Model name, which servers of other vendors ignore."""

    def send_start(self) -> None:
        self._texts: dict[str, str] = {}
        self._ends_s: dict[str, float] = {}
        self._utterances: dict[str, int] = {}
        self._pending: set[str] = set()
        self._commit_sent = self._commit_answered = False
        audio_input = {
            "format": {"type": "audio/pcm", "rate": self.sample_rate},
            "transcription": {"model": self.model},
        }
        self.send_json(type="session.update", session={"type": "transcription", "audio": {"input": audio_input}})

    def feed(self, samples: FloatArray) -> None:
        self.send_json(type="input_audio_buffer.append", audio=base64.b64encode(pcm16(samples)).decode())

    def send_end(self) -> None:
        self._commit_sent = True
        self.send_json(type="input_audio_buffer.commit")

    @property
    def finished(self) -> bool:
        return self._commit_answered and not self._pending

    def parse_message(self, message: dict[str, Any]) -> list[Event]:
        kind, item = message["type"], message.get("item_id", "")
        if kind == "error":
            # Servers refuse to commit if there was no speech since the last turn.
            if not (self._commit_sent and message["error"].get("code") == "input_audio_buffer_commit_empty"):
                raise ServerError(message["error"]["message"])
            self._commit_answered = True
        elif kind == "input_audio_buffer.speech_stopped":
            self._ends_s[item] = message["audio_end_ms"] / 1000
        elif kind == "input_audio_buffer.committed":
            self._pending.add(item)
            self._commit_answered = self._commit_sent
        elif kind.endswith("input_audio_transcription.delta"):
            text = self._texts[item] = self._texts.get(item, "") + message["delta"]
            return [Partial(self._number(item), math.nan, math.nan, text, text)] if text.strip() else []
        elif kind.endswith("input_audio_transcription.completed"):
            self._pending.discard(item)
            text = message["transcript"]
            end_s = self._ends_s.get(item, math.nan)
            return [Final(self._number(item), math.nan, end_s, text, 1.0, ())] if text else []
        elif kind.endswith("input_audio_transcription.failed"):
            raise ServerError(message["error"]["message"])
        return []

    def _number(self, item: str) -> int:
        """Return the utterance number of an item. Items overlap: the next may start before one is transcribed."""
        return self._utterances.setdefault(item, len(self._utterances))


PROTOCOLS: dict[str, Callable[[str, str | None], Client]] = {
    "native": Native,
    "vosk": Vosk,
    "deepgram": Deepgram,
    "openai": OpenAI,
}


def _parse_words(words: Sequence[dict[str, Any]], confidence_key: str) -> tuple[Word, ...]:
    return tuple(Word(word["word"], word["start"], word["end"], word.get(confidence_key, 1.0)) for word in words)
