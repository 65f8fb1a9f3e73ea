"""Objects shared by all routes of an application."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from stream_asr.recognizer import Recognizer
from stream_asr.server.metrics import Metrics
from stream_asr.server.sessions.registry import SessionRegistry
from stream_asr.server.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Service:
    """The recognizer, and what the server keeps for it. Stored in ``app.state.service``."""

    recognizer: Recognizer
    settings: ServerSettings
    metrics: Metrics
    sessions: SessionRegistry

    @classmethod
    def from_connection(cls, connection: HTTPConnection) -> Service:
        """Return the service of the application that received a request or a websocket."""
        service: Service = connection.app.state.service
        return service
