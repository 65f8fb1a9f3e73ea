"""What the server sends to clients of the Realtime API: the events of a stream as items of a conversation.

An item is the transcript of the audio between two commits. Commits come from the client, or with turn detection from
the ends of utterances.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from stream_asr.config import SegmenterConfig
from stream_asr.events import Final, Partial, SpeechStarted
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.json_messages import dump_message
from stream_asr.server.protocols.openai.common_codec import Transcript, error_object
from stream_asr.server.protocols.openai.realtime_client_codec import (
    Append,
    Clear,
    ClientEvent,
    Commit,
    EventError,
    SessionSettings,
    SessionUpdate,
)
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent
from stream_asr.server.settings import REALTIME_FLUSH_TOLERANCE_S


@dataclass(slots=True)
class _Boundary:
    """A commit or clear in flight: the audio before it has not been recognized completely.

    Attributes:
        tag: tag of its mark in the stream.
        request: the client's event.
        position_s: position in the audio at which the client sent the event.
        handled: whether the utterance that it cut off has become an item or was discarded.
    """

    tag: int
    request: Commit | Clear
    position_s: float
    handled: bool = False

    def cuts_off(self, final: Final) -> bool:
        """Whether the utterance ends at this boundary, rather than at an earlier pause."""
        return final.end >= self.position_s - REALTIME_FLUSH_TOLERANCE_S

    def precedes(self, event: SessionEvent) -> bool:
        """Whether ``event`` concerns later audio. Such events can overtake the mark of a boundary in silence."""
        if isinstance(event, SpeechStarted):
            return event.start >= self.position_s
        return isinstance(event, Partial | Final) and event.end > self.position_s


class Conversation:
    """State of one session. Methods return the messages to send, in order.

    Args:
        name: name of the session, part of all ids.
        model: name of the model.
        segmenter: the recognizer's settings of turn detection.
        beta: use the format of the beta version until the client uses the current one.

    Attributes:
        settings: the current settings of the session.
    """

    def __init__(self, name: str, model: str, segmenter: SegmenterConfig, *, beta: bool = False) -> None:
        self.settings = SessionSettings()
        self._name, self._model, self._segmenter, self._beta = name, model, segmenter, beta
        self._message_count = self._item_count = self._boundary_count = 0
        self._previous_item_id: str | None = None
        self._boundaries: deque[_Boundary] = deque()
        self._audio_started = False  # then the audio settings are fixed
        self._has_uncommitted_audio = False
        self._in_speech = False
        self._start_item(0.0)

    # --- client events ------------------------------------------------------------------------------------

    def encode_created(self) -> str:
        """Encode the first message."""
        return self._encode_session("created")

    def on_client_event(self, event: ClientEvent) -> str | None:
        """Return the answer to a client event; None if the event concerns the stream.

        Raises:
            EventError: the event is not possible in the current state.
        """
        if isinstance(event, SessionUpdate):
            return self._update_settings(event)
        if isinstance(event, Append):
            if event.audio:
                self._audio_started = self._has_uncommitted_audio = True
            return None
        if self._has_uncommitted_audio:
            return None
        if isinstance(event, Commit):
            raise EventError("input_audio_buffer_commit_empty", "there is no audio since the last commit")
        return self._encode("input_audio_buffer.cleared")

    def _update_settings(self, update: SessionUpdate) -> str:
        settings = update.apply(self.settings)
        if self._audio_started and settings.format != self.settings.format:
            raise EventError("invalid_value", "the audio format cannot be changed after the first audio")
        if self._audio_started and self._silence_ms(settings) != self._silence_ms(self.settings):
            raise EventError("invalid_value", "silence_duration_ms cannot be changed after the first audio")
        shortest_ms, longest_ms = self._segmenter.endpoint_range_ms
        if not shortest_ms <= self._silence_ms(settings) <= longest_ms:
            message = f"silence_duration_ms is {settings.endpoint_ms}; accepted: {shortest_ms} to {longest_ms}"
            raise EventError("invalid_value", message)
        self.settings, self._beta = settings, update.beta
        return self._encode_session("updated")

    def _silence_ms(self, settings: SessionSettings) -> int:
        return self._segmenter.endpoint_ms if settings.endpoint_ms is None else settings.endpoint_ms

    def add_boundary(self, request: Commit | Clear, position_s: float) -> int:
        """Add a commit or clear at the end of the audio, where the stream has just been flushed.

        Args:
            request: the client event, which `on_client_event` did not answer.
            position_s: duration of the audio so far.

        Returns:
            The tag with which the stream must be marked at this position.
        """
        self._has_uncommitted_audio = False
        self._boundary_count += 1
        self._boundaries.append(_Boundary(self._boundary_count, request, position_s))
        return self._boundary_count

    def encode_error(self, error: SessionError) -> str:
        """Encode an ``error`` event."""
        event_id = error.event_id if isinstance(error, EventError) else None
        return self._encode("error", ascii_only=True, error={**error_object(error), "event_id": event_id})

    # --- stream events ------------------------------------------------------------------------------------

    def on_event(self, event: SessionEvent) -> list[str]:
        """Return the messages for an event of the stream, or for the `MarkReached` of a boundary."""
        messages: list[str] = []
        while self._boundaries and self._boundaries[0].precedes(event):
            messages += self._on_boundary(self._boundaries.popleft())
        if isinstance(event, SpeechStarted):
            messages += self._on_speech_started(event)
        elif isinstance(event, Partial):
            messages += self._encode_delta(self._transcript.extend(event.stable))
        elif isinstance(event, Final):
            messages += self._on_final(event)
        elif isinstance(event, MarkReached) and self._boundaries and self._boundaries[0].tag == event.tag:
            messages += self._on_boundary(self._boundaries.popleft())
        return messages

    def _on_speech_started(self, event: SpeechStarted) -> list[str]:
        self._in_speech = True
        if not self.settings.turn_detection:
            return []
        start_ms = round(1000 * event.start)
        return [self._encode("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=self._item_id)]

    def _on_final(self, final: Final) -> list[str]:
        self._in_speech = False
        boundary = self._boundaries[0] if self._boundaries and self._boundaries[0].cuts_off(final) else None
        if boundary is not None and isinstance(boundary.request, Clear):
            boundary.handled = True
            self._start_item(boundary.position_s)
            return []
        messages: list[str] = []
        if boundary is not None:
            boundary.handled = self.settings.turn_detection
        elif self.settings.turn_detection:
            end_ms = round(1000 * final.end)
            messages.append(
                self._encode("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=self._item_id)
            )
        messages += self._encode_delta(self._transcript.end_utterance(final.text))
        return messages + self._complete_item(final.end) if self.settings.turn_detection else messages

    def _on_boundary(self, boundary: _Boundary) -> list[str]:
        """Return the messages for a boundary, once all audio before it has been recognized."""
        # Current speech began after the boundary: its item is already announced and is not the one that ends here.
        is_next_item_announced = self._in_speech and self.settings.turn_detection
        if isinstance(boundary.request, Clear):
            if not (boundary.handled or is_next_item_announced):
                self._start_item(boundary.position_s)
            return [self._encode("input_audio_buffer.cleared")]
        if boundary.handled:
            return []
        if is_next_item_announced:
            return self._encode_item(self._new_item_id(), "", boundary.position_s)
        return self._complete_item(boundary.position_s)

    def _complete_item(self, end_s: float) -> list[str]:
        messages = self._encode_item(self._item_id, self._transcript.text, end_s)
        self._start_item(end_s)
        return messages

    def _start_item(self, start_s: float) -> None:
        self._item_id = self._new_item_id()
        self._item_start_s = start_s
        self._transcript = Transcript()

    def _new_item_id(self) -> str:
        self._item_count += 1
        return f"item_{self._name}_{self._item_count}"

    # --- encoding -----------------------------------------------------------------------------------------

    def _encode_item(self, item_id: str, transcript: str, end_s: float) -> list[str]:
        """Encode the messages that complete an item."""
        previous_item_id, self._previous_item_id = self._previous_item_id, item_id
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        messages = [
            self._encode("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous_item_id),
        ]
        for change in ("created",) if self._beta else ("added", "done"):
            messages.append(self._encode(f"conversation.item.{change}", item=item, previous_item_id=previous_item_id))
        seconds = math.ceil(max(0.0, end_s - self._item_start_s))
        messages.append(
            self._encode(
                "conversation.item.input_audio_transcription.completed",
                item_id=item_id,
                content_index=0,
                transcript=transcript,
                usage={"type": "duration", "seconds": seconds},
            )
        )
        return messages

    def _encode_delta(self, delta: str) -> list[str]:
        if not delta:
            return []
        event_type = "conversation.item.input_audio_transcription.delta"
        return [self._encode(event_type, item_id=self._item_id, content_index=0, delta=delta)]

    def _encode_session(self, change: str) -> str:
        detection = {
            "type": "server_vad",
            "prefix_padding_ms": self._segmenter.pre_roll_ms,
            "silence_duration_ms": self._silence_ms(self.settings),
        }
        turn_detection = detection if self.settings.turn_detection else None
        transcription = {"model": self._model, **self.settings.transcription}
        input_format, session_id = self.settings.format, f"sess_{self._name}"
        if self._beta:
            session: dict[str, Any] = {
                "id": session_id,
                "object": "realtime.transcription_session",
                "input_audio_format": input_format.beta_name,
                "input_audio_transcription": transcription,
                "turn_detection": turn_detection,
            }
            return self._encode(f"transcription_session.{change}", ascii_only=True, session=session)
        format_object = {"type": input_format.name, "rate": input_format.sample_rate}
        input_settings = {"format": format_object, "transcription": transcription, "turn_detection": turn_detection}
        session = {
            "type": "transcription",
            "id": session_id,
            "object": "realtime.transcription_session",
            "audio": {"input": input_settings},
        }
        return self._encode(f"session.{change}", ascii_only=True, session=session)

    def _encode(self, event_type: str, *, ascii_only: bool = False, **values: Any) -> str:
        self._message_count += 1
        message = {"type": event_type, "event_id": f"event_{self._name}_{self._message_count}", **values}
        return dump_message(message, ascii_only=ascii_only)
