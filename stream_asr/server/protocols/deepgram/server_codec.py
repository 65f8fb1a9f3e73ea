"""Deepgram's answers: the messages of a live stream, and the response for a recording."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream_asr.events import Final, Partial, SpeechStarted, Word
from stream_asr.server.protocols.deepgram.client_codec import Control, Query
from stream_asr.server.protocols.json_messages import dump
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent


@dataclass(frozen=True, slots=True)
class Origin:
    """What every answer says about where it comes from.

    Attributes:
        created: ISO 8601, UTC.
        version: of this package.
    """

    request_id: str
    created: str
    model: str
    version: str

    @property
    def model_uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.model))

    @property
    def model_info(self) -> dict[str, str]:
        return {"name": self.model, "version": self.version, "arch": "ctc"}

    def metadata(self, sha256: str, duration_s: float, channels: int) -> dict[str, Any]:
        """About audio whose bytes, as they were sent, have this digest."""
        return {
            "transaction_key": "deprecated",
            "request_id": self.request_id,
            "sha256": sha256,
            "created": self.created,
            "duration": round(duration_s, 3),
            "channels": channels,
            "models": [self.model_uuid],
            "model_info": {self.model_uuid: self.model_info},
        }


class Results:
    """The live messages for the events of a session.

    ``is_final`` says that the text of a stretch of audio will not change any more: so it comes with every growth of
    the stable text, and these results join up to the whole text. ``speech_final`` says that the utterance is over.

    Client requests that are answered in their place among the events come back as the tags of `MarkReached`: the values
    of `Control.FINALIZE` and `Control.CONFIGURE`, and, for ``utterance_end_ms``, positions in milliseconds.
    """

    def __init__(self, query: Query, origin: Origin) -> None:
        self._query, self._origin = query, origin
        self._told_words = 0  # of the current utterance, as final
        self._told_s = 0.0  # where the next result starts
        self._speaking = False
        self._last_word_s: float | None = None
        self._finalizing = 0
        self._held: dict[str, Any] | None = None

    def finalizing(self) -> None:
        """The client has asked for a final; a `MarkReached` with ``Finalize`` follows.

        Until then the newest final is held back: it may be the one that has to say ``from_finalize``.
        """
        self._finalizing += 1

    def hear(self, event: SessionEvent) -> list[str]:
        """The messages that an event leads to."""
        if isinstance(event, MarkReached):
            return [dump(message) for message in self._reached(event.tag)]
        messages = self._released()
        if isinstance(event, SpeechStarted):
            messages += self._silence(event.start)  # positions may be further apart than pauses are long
            self._speaking, self._told_words, self._told_s = True, 0, event.start
            if self._query.vad_events:
                messages.append({"type": "SpeechStarted", "channel": [0, 1], "timestamp": round(event.start, 3)})
        elif isinstance(event, Partial):
            messages += self._partial(event)
        elif isinstance(event, Final):
            rest = event.words[self._told_words :]
            result = self._result(event.end, rest, is_final=True, speech_final=self._query.endpointing)
            self._speaking, self._told_s = False, event.end
            if self._finalizing:
                self._held = result
            else:
                messages.append(result)
        return [dump(message) for message in messages]

    def end(self) -> list[str]:
        """What is left to say when no event follows."""
        return [dump(message) for message in self._released()]

    def metadata(self, sha256: str, duration_s: float, channels: int) -> str:
        """The last message."""
        return dump({"type": "Metadata", **self._origin.metadata(sha256, duration_s, channels)})

    def _partial(self, event: Partial) -> list[dict[str, Any]]:
        messages = []
        stable_words = event.stable.count(" ") + 1 if event.stable else 0
        if grown := event.words[self._told_words : stable_words]:
            messages.append(self._result(grown[-1].end, grown, is_final=True))
            self._told_words, self._told_s = stable_words, grown[-1].end
        if self._query.interim_results and (rest := event.words[self._told_words :]):
            messages.append(self._result(event.end, rest))
        return messages

    def _reached(self, tag: str | int) -> list[dict[str, Any]]:
        if tag == Control.FINALIZE.value:
            self._finalizing -= 1
            result = self._held or self._result(self._told_s, (), is_final=True)
            self._held = None
            return [{**result, "from_finalize": True}]
        if tag == Control.CONFIGURE.value:
            return [
                {
                    "type": "ConfigureFailure",
                    "request_id": self._origin.request_id,
                    "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
                    "description": "a stream cannot be configured once it runs",
                }
            ]
        return self._silence(int(tag) / 1000)

    def _silence(self, position_s: float) -> list[dict[str, Any]]:
        """All audio before ``position_s`` is recognised."""
        last, gap_ms = self._last_word_s, self._query.utterance_end_ms
        if last is None or gap_ms is None or self._speaking or self._held or position_s - last < gap_ms / 1000:
            return []
        self._last_word_s = None
        return [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": round(last, 3)}]

    def _released(self) -> list[dict[str, Any]]:
        held, self._held = self._held, None
        return [held] if held else []

    def _result(
        self, end: float, words: Sequence[Word], *, is_final: bool = False, speech_final: bool = False
    ) -> dict[str, Any]:
        """The text from where the last final result ended."""
        if is_final and words:
            self._last_word_s = words[-1].end
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": round(max(0.0, end - self._told_s), 3),
            "start": round(self._told_s, 3),
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": False,
            "channel": {"alternatives": [_alternative(words, self._query)]},
            "metadata": {
                "request_id": self._origin.request_id,
                "model_info": self._origin.model_info,
                "model_uuid": self._origin.model_uuid,
            },
        }


def recording(query: Query, metadata: dict[str, Any], finals: Sequence[Final]) -> dict[str, Any]:
    """The answer for a whole recording.

    Args:
        metadata: see `Origin.metadata`.
        finals: those that hold words, in order.
    """
    words = [word for final in finals for word in final.words]
    results: dict[str, Any] = {"channels": [{"alternatives": [_alternative(words, query)]}]}
    if query.utterances:
        results["utterances"] = [
            {
                **_alternative(final.words, query),
                "start": round(final.words[0].start, 3),
                "end": round(final.words[-1].end, 3),
                "channel": 0,
                "id": str(uuid.uuid5(uuid.UUID(metadata["request_id"]), str(final.utterance))),
            }
            for final in finals
        ]
    return {"metadata": metadata, "results": results}


def _alternative(words: Sequence[Word], query: Query) -> dict[str, Any]:
    confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
    return {
        "transcript": " ".join(word.word for word in words),
        "confidence": round(confidence, 3),
        "words": [{**word.to_json(), **({"punctuated_word": word.word} if query.formatted else {})} for word in words],
    }
