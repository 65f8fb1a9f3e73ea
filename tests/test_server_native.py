"""The native protocol over real sockets, with a fake model."""

from __future__ import annotations

from fakes import conversation
from serving import Client, serving

SAID = ["hello world", "how are you", "fine thanks"]


def test_a_conversation() -> None:
    audio = conversation(*SAID)
    with serving() as server, server.connect() as connection:
        client = Client(connection)
        ready = client.start()
        assert ready == {"type": "ready", "session": ready["session"], "model": "fake", "sample_rate": 16_000}
        client.send(audio)
        client.say("ping", id="p1")
        client.say("finish")
        done = client.until("done")
        assert client.finals == SAID
        assert done == {"type": "done", "received": len(audio), "seconds": len(audio) / 16_000}
