"""OpenAI's Realtime API, transcription sessions: what the server says.

The events of a stream become items: in each, the transcript of what was said between two commits.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from stream_asr.config import SegmenterConfig
from stream_asr.events import Final, Partial, SpeechStarted
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.json_messages import dump
from stream_asr.server.protocols.openai.common_codec import Transcript, error_object
from stream_asr.server.protocols.openai.realtime_client_codec import Append, Clear, ClientEvent, Commit, EventError, Setup, Update
from stream_asr.server.sessions.outbox import MarkReached, SessionEvent

_FLUSH_SLACK_S = 0.1
"""A flush ends the utterance a few frames before the audio does: at the last whole one that was heard."""


@dataclass(slots=True)
class _Boundary:
    """A commit or clear on its way through the stream.

    Attributes:
        position_s: of the audio, when the client asked for it.
        answered: the utterance that it cut off has become an item, or was forgotten.
    """

    number: int
    asked: Commit | Clear
    position_s: float
    answered: bool = False

    def cuts(self, final: Final) -> bool:
        """Whether the utterance goes up to here, rather than to a pause before."""
        return final.end >= self.position_s - _FLUSH_SLACK_S

    def precedes(self, event: SessionEvent) -> bool:
        """Whether ``event`` tells of audio after it. Such events may overtake the mark of a cut into silence."""
        if isinstance(event, SpeechStarted):
            return event.start >= self.position_s
        return isinstance(event, Partial | Final) and event.end > self.position_s


class Conversation:
    """One session. Every method that returns messages returns them in the order in which to send them.

    Args:
        name: of the session, a part of the names of its items.
        model: what is served.
        segmenter: with which turns are detected.
        beta: speak the older shape until the client speaks the current one.

    Attributes:
        setup: what the client has chosen.
    """

    def __init__(self, name: str, model: str, segmenter: SegmenterConfig, *, beta: bool = False) -> None:
        self.setup = Setup()
        self._name, self._model, self._segmenter, self._beta = name, model, segmenter, beta
        self._messages = self._items = self._cuts = 0
        self._previous: str | None = None
        self._boundaries: deque[_Boundary] = deque()
        self._began = False  # and the format cannot be changed any more
        self._has_audio = False  # since the last boundary
        self._speaking = False
        self._next_item(0.0)

    # --- to what the client does --------------------------------------------------------------------------

    def created(self) -> str:
        """The first message."""
        return self._session("created")

    def heard(self, event: ClientEvent) -> str | None:
        """The answer to an event of the client; None where the stream has to be asked first.

        Raises:
            EventError: it comes at the wrong time.
        """
        if isinstance(event, Update):
            return self._update(event)
        if isinstance(event, Append):
            if event.audio:
                self._began = self._has_audio = True
            return None
        if self._has_audio:
            return None
        if isinstance(event, Commit):
            raise EventError("input_audio_buffer_commit_empty", "there is no audio since the last commit")
        return self._message("input_audio_buffer.cleared")

    def _update(self, update: Update) -> str:
        setup = update.applied(self.setup)
        if self._began and setup.format != self.setup.format:
            raise EventError("invalid_value", "the audio format cannot be changed after the first audio")
        if self._began and self._silence_ms(setup) != self._silence_ms(self.setup):
            raise EventError("invalid_value", "silence_duration_ms cannot be changed after the first audio")
        shortest_ms, longest_ms = self._segmenter.endpoint_range_ms
        if not shortest_ms <= self._silence_ms(setup) <= longest_ms:
            reason = f"silence_duration_ms is {setup.endpoint_ms}; {shortest_ms} to {longest_ms} are accepted"
            raise EventError("invalid_value", reason)
        self.setup, self._beta = setup, update.beta
        return self._session("updated")

    def _silence_ms(self, setup: Setup) -> int:
        return self._segmenter.endpoint_ms if setup.endpoint_ms is None else setup.endpoint_ms

    def cut(self, asked: Commit | Clear, position_s: float) -> int:
        """Note a commit or clear of all audio up to ``position_s``, where the stream was flushed just now.

        Returns:
            The tag with which the stream must be marked there.
        """
        self._has_audio = False
        self._cuts += 1
        self._boundaries.append(_Boundary(self._cuts, asked, position_s))
        return self._cuts

    def failed(self, error: SessionError) -> str:
        """An ``error`` message."""
        told = {**error_object(error), "event_id": error.event_id if isinstance(error, EventError) else None}
        return self._message("error", ascii_only=True, error=told)

    # --- to what the recognizer says ----------------------------------------------------------------------

    def react(self, event: SessionEvent) -> list[str]:
        """What an event of the stream means to the client; the mark of each `cut` comes back as `MarkReached`."""
        messages: list[str] = []
        while self._boundaries and self._boundaries[0].precedes(event):
            messages += self._settle(self._boundaries.popleft())
        if isinstance(event, SpeechStarted):
            messages += self._started(event)
        elif isinstance(event, Partial):
            messages += self._delta(self._transcript.grow(event.stable))
        elif isinstance(event, Final):
            messages += self._ended(event)
        elif isinstance(event, MarkReached) and self._boundaries and self._boundaries[0].number == event.tag:
            messages += self._settle(self._boundaries.popleft())
        return messages

    def _started(self, event: SpeechStarted) -> list[str]:
        self._speaking = True
        if not self.setup.detects_turns:
            return []
        start_ms = round(1000 * event.start)
        return [self._message("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=self._item)]

    def _ended(self, final: Final) -> list[str]:
        self._speaking = False
        boundary = self._boundaries[0] if self._boundaries and self._boundaries[0].cuts(final) else None
        if boundary is not None and isinstance(boundary.asked, Clear):
            boundary.answered = True
            self._next_item(boundary.position_s)
            return []
        messages: list[str] = []
        if boundary is not None:
            boundary.answered = self.setup.detects_turns
        elif self.setup.detects_turns:
            end_ms = round(1000 * final.end)
            messages.append(self._message("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=self._item))
        messages += self._delta(self._transcript.end(final.text))
        return messages + self._commit(final.end) if self.setup.detects_turns else messages

    def _settle(self, boundary: _Boundary) -> list[str]:
        """All audio before ``boundary`` has been recognised."""
        # Speech that goes on now began after it: the item that was announced for it is not the one that ends here.
        has_begun = self._speaking and self.setup.detects_turns
        if isinstance(boundary.asked, Clear):
            if not (boundary.answered or has_begun):
                self._next_item(boundary.position_s)
            return [self._message("input_audio_buffer.cleared")]
        if boundary.answered:
            return []
        if has_begun:
            return self._completed(self._new_name(), "", boundary.position_s)
        return self._commit(boundary.position_s)

    def _commit(self, end_s: float) -> list[str]:
        """The current item is complete."""
        messages = self._completed(self._item, self._transcript.text, end_s)
        self._next_item(end_s)
        return messages

    def _completed(self, item: str, transcript: str, end_s: float) -> list[str]:
        before, self._previous = self._previous, item
        whole = {
            "id": item,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        messages = [self._message("input_audio_buffer.committed", item_id=item, previous_item_id=before)]
        for kind in ("created",) if self._beta else ("added", "done"):
            messages.append(self._message(f"conversation.item.{kind}", item=whole, previous_item_id=before))
        seconds = math.ceil(max(0.0, end_s - self._item_start_s))
        messages.append(
            self._message(
                "conversation.item.input_audio_transcription.completed",
                item_id=item,
                content_index=0,
                transcript=transcript,
                usage={"type": "duration", "seconds": seconds},
            )
        )
        return messages

    def _next_item(self, start_s: float) -> None:
        self._item = self._new_name()
        self._item_start_s = start_s
        self._transcript = Transcript()

    def _new_name(self) -> str:
        self._items += 1
        return f"item_{self._name}_{self._items}"

    def _delta(self, piece: str) -> list[str]:
        if not piece:
            return []
        kind = "conversation.item.input_audio_transcription.delta"
        return [self._message(kind, item_id=self._item, content_index=0, delta=piece)]

    # --- how it is written --------------------------------------------------------------------------------

    def _session(self, happened: str) -> str:
        detector = {
            "type": "server_vad",
            "prefix_padding_ms": self._segmenter.pre_roll_ms,
            "silence_duration_ms": self._silence_ms(self.setup),
        }
        turn_detection = detector if self.setup.detects_turns else None
        transcription = {"model": self._model, **self.setup.transcription}
        form, session_id = self.setup.format, f"sess_{self._name}"
        if self._beta:
            session: dict[str, Any] = {
                "id": session_id,
                "object": "realtime.transcription_session",
                "input_audio_format": form.flat,
                "input_audio_transcription": transcription,
                "turn_detection": turn_detection,
            }
            return self._message(f"transcription_session.{happened}", ascii_only=True, session=session)
        audio_format = {"type": form.nested, "rate": form.sample_rate}
        settings = {"format": audio_format, "transcription": transcription, "turn_detection": turn_detection}
        session = {
            "type": "transcription",
            "id": session_id,
            "object": "realtime.transcription_session",
            "audio": {"input": settings},
        }
        return self._message(f"session.{happened}", ascii_only=True, session=session)

    def _message(self, kind: str, *, ascii_only: bool = False, **values: Any) -> str:
        self._messages += 1
        message = {"type": kind, "event_id": f"event_{self._name}_{self._messages}", **values}
        return dump(message, ascii_only=ascii_only)
