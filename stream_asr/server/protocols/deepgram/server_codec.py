"""What the server sends to clients of Deepgram: live messages, responses for recordings, and errors."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stream_asr.events import Final, Partial, SpeechStarted, Word
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.deepgram.client_codec import Control, Query
from stream_asr.server.protocols.json_messages import dump_message
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent

_ERROR_CODES = {400: "Bad Request", 401: "INVALID_AUTH"}
"""Deepgram's ``err_code`` for an HTTP status."""

_CHANNEL_INDEX = [0, 1]
"""The first of one channel."""


def encode_error(error: SessionError) -> str:
    """Encode the live message for an error; a close follows."""
    return dump_message(
        {"type": "Error", "variant": error.code, "description": error.message, "message": error.message}
    )


def error_body(status: int, code: str, message: str, request_id: str) -> dict[str, str]:
    """Build the body of an HTTP error response.

    Args:
        status: HTTP status.
        code: the server's error code, for statuses for which Deepgram has none.
        message: description of the error.
        request_id: UUID of the request.
    """
    return {"err_code": _ERROR_CODES.get(status, code), "err_msg": message, "request_id": request_id}


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """Identifies a request, the model and the server in all messages.

    Attributes:
        request_id: UUID of the request.
        created: time of the request: ISO 8601, UTC.
        model: name of the model.
        version: version of this package.
        two_pass: whether an attention decoder decodes the utterances again.
    """

    request_id: str
    created: str
    model: str
    version: str
    two_pass: bool = False

    @property
    def model_uuid(self) -> str:
        """UUID that is derived from the name of the model."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.model))

    @property
    def model_info(self) -> dict[str, str]:
        """Description of the model."""
        return {"name": self.model, "version": self.version, "arch": "ctc+attention" if self.two_pass else "ctc"}

    def metadata_object(self, sha256: str, duration_s: float, channels: int) -> dict[str, Any]:
        """Build the metadata of a stream or recording.

        Args:
            sha256: digest of the bytes that the client sent, in hexadecimal.
            duration_s: duration of the audio.
            channels: number of channels.
        """
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


class ResultEncoder:
    """Encodes the events of a session as live messages.

    ``is_final`` marks text that will not change. A result with it is sent whenever the stable text grows, and these
    results join up to the whole text. ``speech_final`` marks the end of an utterance.

    Client requests with an answer at their place among the events return as tags of `MarkReached`: the values of
    `Control.FINALIZE` and `Control.CONFIGURE`, and for ``utterance_end_ms`` positions in milliseconds.
    """

    def __init__(self, query: Query, request_info: RequestInfo) -> None:
        self._query, self._request_info = query, request_info
        self._final_words = 0  # words of the current utterance that were sent as final
        self._final_s = 0.0  # end of the last final result
        self._in_speech = False
        self._last_word_s: float | None = None
        self._pending_finalizes = 0
        self._held_result: dict[str, Any] | None = None

    def expect_finalize(self) -> None:
        """Prepare for a `MarkReached` with `Control.FINALIZE`, after a request of the client.

        Until then the latest final is held back, because the last one before the mark carries ``from_finalize``.
        """
        self._pending_finalizes += 1

    def on_event(self, event: SessionEvent) -> list[str]:
        """Return the messages for an event."""
        if isinstance(event, MarkReached):
            return [dump_message(message) for message in self._on_mark(event.tag)]
        messages = self._release_held_result()
        if isinstance(event, SpeechStarted):
            # Marks may be further apart than the silence before this event.
            messages += self._utterance_end(event.start)
            self._in_speech, self._final_words, self._final_s = True, 0, event.start
            if self._query.vad_events:
                timestamp = round(event.start, 3)
                messages.append({"type": "SpeechStarted", "channel": _CHANNEL_INDEX, "timestamp": timestamp})
        elif isinstance(event, Partial):
            messages += self._on_partial(event)
        elif isinstance(event, Final):
            words = event.words[self._final_words :]
            result = self._result(event.end, words, is_final=True, speech_final=self._query.endpointing)
            self._in_speech, self._final_s = False, event.end
            if self._pending_finalizes:
                self._held_result = result
            else:
                messages.append(result)
        return [dump_message(message) for message in messages]

    def flush(self) -> list[str]:
        """Return the messages that are held back, at the end of the events."""
        return [dump_message(message) for message in self._release_held_result()]

    def encode_metadata(self, sha256: str, duration_s: float, channels: int) -> str:
        """Encode the last message; see `RequestInfo.metadata_object`."""
        return dump_message({"type": "Metadata", **self._request_info.metadata_object(sha256, duration_s, channels)})

    def _on_partial(self, event: Partial) -> list[dict[str, Any]]:
        messages = []
        stable_words = event.stable.count(" ") + 1 if event.stable else 0
        if _has_text(new_words := event.words[self._final_words : stable_words]):
            messages.append(self._result(new_words[-1].end, new_words, is_final=True))
            self._final_words, self._final_s = stable_words, new_words[-1].end
        if self._query.interim_results and _has_text(interim_words := event.words[self._final_words :]):
            messages.append(self._result(event.end, interim_words))
        return messages

    def _on_mark(self, tag: str | int) -> list[dict[str, Any]]:
        if tag == Control.FINALIZE.value:
            self._pending_finalizes -= 1
            result = self._held_result or self._result(self._final_s, (), is_final=True)
            self._held_result = None
            return [{**result, "from_finalize": True}]
        if tag == Control.CONFIGURE.value:
            return [
                {
                    "type": "ConfigureFailure",
                    "request_id": self._request_info.request_id,
                    "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
                    "description": "a running stream cannot be configured",
                }
            ]
        return self._utterance_end(int(tag) / 1000)

    def _utterance_end(self, position_s: float) -> list[dict[str, Any]]:
        """Return ``UtteranceEnd`` if all audio before ``position_s`` is recognized and the silence is long enough."""
        last_s, gap_ms = self._last_word_s, self._query.utterance_end_ms
        if last_s is None or gap_ms is None or self._in_speech or self._held_result:
            return []
        if position_s - last_s < gap_ms / 1000:
            return []
        self._last_word_s = None
        return [{"type": "UtteranceEnd", "channel": _CHANNEL_INDEX, "last_word_end": round(last_s, 3)}]

    def _release_held_result(self) -> list[dict[str, Any]]:
        held, self._held_result = self._held_result, None
        return [held] if held else []

    def _result(
        self, end_s: float, words: Sequence[Word], *, is_final: bool = False, speech_final: bool = False
    ) -> dict[str, Any]:
        """Build a result for the audio from the end of the last final result to ``end_s``."""
        if is_final and words:
            self._last_word_s = words[-1].end
        return {
            "type": "Results",
            "channel_index": _CHANNEL_INDEX,
            "duration": round(max(0.0, end_s - self._final_s), 3),
            "start": round(self._final_s, 3),
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": False,
            "channel": {"alternatives": [_alternative(words, self._query)]},
            "metadata": {
                "request_id": self._request_info.request_id,
                "model_info": self._request_info.model_info,
                "model_uuid": self._request_info.model_uuid,
            },
        }


def recording_response(query: Query, metadata: dict[str, Any], finals: Sequence[Final]) -> dict[str, Any]:
    """Build the response for a recording.

    Args:
        query: the parameters of the request.
        metadata: see `RequestInfo.metadata_object`.
        finals: the finals that contain words, in order.
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


def _has_text(words: Iterable[Word]) -> bool:
    """Whether there is more than punctuation, which is not sent alone."""
    return any(word.bare for word in words)


def _alternative(words: Sequence[Word], query: Query) -> dict[str, Any]:
    """Build the text of words. Punctuation between words is part of the transcript, but not a word."""
    spoken = [word for word in words if word.bare]
    confidence = sum(word.confidence for word in spoken) / len(spoken) if spoken else 0.0
    return {
        "transcript": " ".join([word.word for word in words] if query.formatted else [word.bare for word in spoken]),
        "confidence": round(confidence, 3),
        "words": [_word_object(word, query) for word in spoken],
    }


def _word_object(word: Word, query: Query) -> dict[str, Any]:
    punctuated = {"punctuated_word": word.word} if query.formatted else {}
    return {**word.to_json(), "word": word.bare, **punctuated}
