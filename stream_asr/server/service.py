"""What the routes of an app share."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from stream_asr.recognizer import Recognizer
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.registry import SessionRegistry
from stream_asr.server.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Service:
    recognizer: Recognizer
    settings: ServerSettings
    metrics: Metrics
    sessions: SessionRegistry

    @classmethod
    def from_connection(cls, connection: HTTPConnection) -> Service:
        """The service behind a request or a websocket."""
        service: Service = connection.app.state.service
        return service
