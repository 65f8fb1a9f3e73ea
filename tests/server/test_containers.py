"""Containers that come as a stream, as browsers send them: unpacked as they arrive, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from stream_asr import InputError, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.audio.container import ContainerReader
from stream_asr.server.media import container_stream as unpacking
from stream_asr.server.media.container_stream import ContainerPipe
from tests.support.containers import browser_recording, container
from tests.support.deepgram_sdk import deepgram_client
from tests.support.fakes import conversation, loud, silence, sound
from tests.support.serving import TIMEOUT_S, RunningServer, blocked_model, run_server, wait_until

pytest.importorskip("av", reason="PyAV is an extra")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SAID = ["hello world", "how are you", "fine thanks"]
LIVE = "/v1/listen"
FINALIZE, KEEP_ALIVE, CLOSE = (f'{{"type":"{kind}"}}' for kind in ("Finalize", "KeepAlive", "CloseStream"))


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_server(max_speed=1e6) as server:
        yield server
        wait_until(lambda: not unpacking_threads())


def unpacking_threads() -> int:
    """How many threads wait for a client or decode what it sent."""
    found = 0
    for frame in sys._current_frames().values():
        at: Any = frame
        while at is not None and at.f_code.co_filename != unpacking.__file__:
            at = at.f_back
        found += at is not None
    return found


def send(connection: ClientConnection, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        connection.send(data[at : at + size])


def hear(connection: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(connection.recv(TIMEOUT_S))
    return message


def ending(connection: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    messages = []
    with suppress(ConnectionClosed):
        while True:
            messages.append(hear(connection))
    return messages, connection.close_code


def transcript(messages: list[dict[str, Any]]) -> str:
    finals = [message for message in messages if message["type"] == "Results" and message["is_final"]]
    return " ".join(text for final in finals if (text := final["channel"]["alternatives"][0]["transcript"]))


# --- what comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 1777, 10**6])
@pytest.mark.parametrize(("kind", "codec"), [("matroska", "pcm_s16le"), ("wav", "pcm_s16le"), ("flac", "flac")])
def test_any_container_in_pieces_of_any_size(served: RunningServer, kind: str, codec: str, size: int) -> None:
    audio = conversation(*SAID)
    data = container(audio, kind, codec)
    with served.connect(LIVE) as connection:
        send(connection, data, size)
        connection.send(CLOSE)
        messages, closed = ending(connection)
    assert closed == 1000
    assert [message["speech_final"] for message in messages[:-1]] == [True] * 3
    assert transcript(messages) == " ".join(SAID)
    assert messages[-1]["duration"] == len(audio) / 16_000
    assert messages[-1]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("kind", "codec"), [("ogg", "libopus"), ("mp3", "libmp3lame"), ("adts", "aac"), ("mp4", "aac"), ("webm", "libopus")]
)
def test_lossy_containers(served: RunningServer, kind: str, codec: str) -> None:
    fragments = {"movflags": "frag_every_frame+empty_moov+default_base_moof"} if kind == "mp4" else {}
    data = container(conversation("hello") / 2, kind, codec, rate=48_000, **fragments)
    with served.connect(LIVE) as connection:
        send(connection, data, 500)
        connection.send(CLOSE)
        messages, closed = ending(connection)
    assert closed == 1000
    assert messages[-1]["duration"] == pytest.approx(len(conversation("hello")) / 48_000, abs=0.1)


class Dribble:
    """A file that comes in small pieces, and counts them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0

    def read(self, size: int, /) -> bytes:
        piece = self.data[self.read_bytes : self.read_bytes + min(size, 100)]
        self.read_bytes += len(piece)
        return piece


@pytest.mark.parametrize(
    ("kind", "codec"), [("webm", "libopus"), ("ogg", "libopus"), ("mp3", "libmp3lame"), ("adts", "aac")]
)
def test_sound_comes_after_a_look_at_little_and_none_is_lost_by_that(kind: str, codec: str) -> None:
    often = {"page_duration": "20000"} if kind == "ogg" else {}
    data = container(np.tile(conversation("hello"), 10) / 2, kind, codec, rate=48_000, **often)
    live = Dribble(data)
    blocks = ContainerReader("live", live, live=True).blocks()
    first = next(blocks)
    assert live.read_bytes < 3000
    whole = np.concatenate(list(ContainerReader("whole", Dribble(data)).blocks()))
    np.testing.assert_array_equal(np.concatenate([first, *blocks]), whole)


def test_a_recorder_that_begins_anew(served: RunningServer) -> None:
    """Its next container follows the first one."""
    with served.connect(LIVE) as connection:
        for text in SAID:
            send(connection, container(conversation(text)), 1000)
        connection.send(CLOSE)
        assert transcript(ending(connection)[0]) == " ".join(SAID)


@pytest.fixture(scope="module")
def recording(speech: FloatArray) -> bytes:
    """The bundled speech, as a browser records it."""
    return browser_recording(soxr.resample(speech, 16_000, 48_000))


def test_the_text_is_that_of_transcribe(
    recognizer: Recognizer, recording: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a plain websocket with captions while it is open, and for Deepgram's own client."""
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "talk.webm").write_bytes(recording)
    expected = recognizer.transcribe(tmp_path / "talk.webm")
    assert len(expected.words) > 10
    chance = random.Random(1)
    with run_server(recognizer, max_speed=100) as server:
        with server.connect(f"{LIVE}?interim_results=true") as connection:
            at, bytes_a_second = 0, len(recording) / expected.duration_s
            while at < len(recording) / 2:
                size = round(bytes_a_second * chance.uniform(0.1, 0.25))
                connection.send(recording[at : at + size])
                at += size
            early = [hear(connection)]
            while not any(message["is_final"] for message in early):
                early.append(hear(connection))
            assert not early[0]["is_final"]
            connection.send(recording[at:])
            connection.send(CLOSE)
            messages, closed = ending(connection)
        assert closed == 1000
        assert transcript(early + messages) == expected.text

        heard: list[Any] = []
        with deepgram_client(server.address) as deepgram, deepgram.listen.v1.connect(model="nova-3") as there:
            there.on("message", heard.append)  # type: ignore[arg-type]
            listening = threading.Thread(target=there.start_listening, daemon=True)
            listening.start()
            for at in range(0, len(recording), 1000):
                there.send_media(recording[at : at + 1000])
            there.send_close_stream()
            listening.join(TIMEOUT_S)
        told = [message.channel.alternatives[0] for message in heard if message.type == "Results" and message.is_final]
        assert " ".join(alternative.transcript for alternative in told if alternative.transcript) == expected.text
        words = [word.dict(exclude_none=True) for alternative in told for word in alternative.words]
        assert words == [word.to_json() for word in expected.words]


# --- while it is open -----------------------------------------------------------------------------------------


def test_finalize_means_all_that_was_sent_before(served: RunningServer) -> None:
    first, second = (np.concatenate([silence(0.5), sound(text), silence(0.2)]) for text in SAID[:2])
    data = container(np.concatenate([first, second]))
    with served.connect(LIVE) as connection:
        connection.send(KEEP_ALIVE)
        connection.send(data[: len(data) // 2])
        connection.send(FINALIZE)
        assert hear(connection)["from_finalize"]
        connection.send(data[len(data) // 2 :])
        connection.send(KEEP_ALIVE)
        connection.send(FINALIZE)
        last = hear(connection)
        assert last["from_finalize"]
        assert last["start"] + last["duration"] == pytest.approx(len(data) / 32_000, abs=0.1)
        connection.send(CLOSE)
        assert ending(connection)[1] == 1000


def test_ends_of_utterances_are_told(served: RunningServer) -> None:
    with served.connect(f"{LIVE}?utterance_end_ms=1000&endpointing=80") as connection:
        send(connection, container(conversation(*SAID[:2], pause_s=1.5)), 3200)
        kinds = [hear(connection)["type"] for _ in range(4)]
        assert kinds == ["Results", "UtteranceEnd"] * 2
        connection.send(CLOSE)
        assert ending(connection)[1] == 1000


@pytest.mark.parametrize("messages", [[CLOSE], [b""], [KEEP_ALIVE, FINALIZE, CLOSE]])
def test_nothing_came(served: RunningServer, messages: list[str | bytes]) -> None:
    with served.connect(LIVE) as connection:
        for message in messages:
            connection.send(message)
        answers, closed = ending(connection)
    assert closed == 1000
    assert answers[-1]["type"] == "Metadata"
    assert answers[-1]["duration"] == 0


# --- what goes wrong ------------------------------------------------------------------------------------------


def told_and_closed(served: RunningServer, *messages: bytes | str) -> tuple[list[dict[str, Any]], int | None]:
    with served.connect(LIVE) as connection:
        with suppress(ConnectionClosed):
            for message in messages:
                connection.send(message)
        return ending(connection)


@pytest.mark.parametrize(
    "messages", [[b"no audio at all", CLOSE], [bytes(700_000)] * 2, [b"ffconcat version 1.0\nfile 'own.wav'\n", CLOSE]]
)
def test_what_is_no_audio_is_refused(
    served: RunningServer, messages: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    (error,), closed = told_and_closed(served, *messages)
    assert (error["type"], error["variant"], closed) == ("Error", "bad_audio", 1007)
    assert "the stream is not audio that can be decoded; wav, flac, ogg" in error["description"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_damaged_container_is_recognised_up_to_there(served: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ContainerReader.blocks

    def damaged(reader: ContainerReader) -> Iterator[FloatArray]:
        for number, block in enumerate(whole(reader)):
            if number == 100:
                raise InputError("the stream cannot be decoded from 2.0 s on: it is broken")
            yield block

    monkeypatch.setattr(ContainerReader, "blocks", damaged)
    *results, error = told_and_closed(served, container(conversation(*SAID)))[0]
    assert transcript(results).startswith(SAID[0])
    assert results[-1]["start"] + results[-1]["duration"] == pytest.approx(100 * 0.02)
    assert (error["variant"], error["description"]) == (
        "bad_audio",
        "the stream cannot be decoded from 2.0 s on: it is broken",
    )


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=3000) | st.sampled_from([KEEP_ALIVE, FINALIZE, CLOSE]), max_size=8), st.booleans())
def test_whatever_comes_the_connection_ends_in_good_order(
    served: RunningServer, messages: list[Any], begins_well: bool
) -> None:
    start = [container(conversation("hi"))[:9000]] if begins_well else []
    answers, closed = told_and_closed(served, *start, *messages, CLOSE)
    assert closed in (1000, 1007)
    assert answers[-1]["type"] == ("Metadata" if closed == 1000 else "Error")
    wait_until(lambda: served.service.sessions.open_count == 0)


def test_a_client_that_vanishes_leaves_no_thread_behind(served: RunningServer) -> None:
    for data in (b"", b"\x1aE\xdf\xa3", container(conversation(*SAID))[:20_000]):
        with served.connect(LIVE) as connection:
            if data:
                connection.send(data)
            wait_until(lambda: unpacking_threads() == 1)
            connection.socket.close()
        wait_until(lambda: unpacking_threads() == 0)
        wait_until(lambda: served.service.sessions.open_count == 0)


def test_a_client_that_falls_silent_gets_its_words_first() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect(LIVE) as connection:
        data = container(np.concatenate([silence(0.5), sound("hello world"), silence(0.4)]))
        connection.send(data)
        messages, closed = ending(connection)
        assert transcript(messages) == "hello world"
        assert (messages[-1]["variant"], closed) == ("idle_timeout", 1008)
        wait_until(lambda: unpacking_threads() == 0)


def test_a_server_that_stops_tells_the_last_words() -> None:
    with run_server() as server, server.connect(LIVE) as connection:
        send(connection, container(np.concatenate([conversation(SAID[0]), sound(SAID[1]), silence(0.4)])), 1600)
        first = hear(connection)
        server.stop()
        messages, closed = ending(connection)
        assert transcript([first, *messages]).startswith(SAID[0])
        assert (messages[-1]["variant"], closed) == ("shutting_down", 1001)
        server.join()
    assert unpacking_threads() == 0


def test_a_stream_has_the_limits_of_recordings_and_of_streams() -> None:
    data = container(conversation(*SAID))
    with run_server(max_upload_bytes=100_000, max_speed=1e6) as server, server.connect(LIVE) as connection:
        send(connection, data, 10_000)
        messages, closed = ending(connection)
        assert transcript(messages).startswith(SAID[0])
        assert (messages[-1]["variant"], closed) == ("file_too_big", 1009)
        assert "the stream has more than 100000 bytes" in messages[-1]["description"]
    with run_server(max_duration_s=3.0, max_speed=1e6) as server, server.connect(LIVE) as connection:
        send(connection, data, 10_000)
        messages, closed = ending(connection)
        assert transcript(messages).startswith(SAID[0])
        assert (messages[-1]["variant"], closed) == ("too_long", 1008)


def test_without_pyav_it_is_named(served: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "find_spec", lambda name: None)
    with pytest.raises(InvalidStatus) as refused, served.connect(LIVE):
        pass
    assert refused.value.response.status_code == 400
    assert "pip install 'stream-asr[av]'" in json.loads(refused.value.response.body or b"")["err_msg"]
    with served.connect(f"{LIVE}?encoding=linear16&sample_rate=16000") as connection:
        connection.send(CLOSE)
        assert ending(connection)[1] == 1000


# --- back-pressure --------------------------------------------------------------------------------------------


def test_a_fast_client_has_to_wait_and_loses_nothing() -> None:
    """The model stands still, so what is taken is what one buffer holds, a pipe, and the sockets."""
    go_on = threading.Event()
    said = SAID * 12
    data = container(conversation(*said), frame_samples=1600)
    with (
        Recognizer(blocked_model(go_on), detector=lambda: loud) as recognizer,
        run_server(recognizer, max_speed=1e6) as server,
        server.connect(LIVE) as connection,
    ):

        def talk() -> None:
            send(connection, data, 10_000)
            connection.send(CLOSE)

        sender = threading.Thread(target=talk, daemon=True)
        sender.start()
        try:
            wait_until(lambda: server.metric("stream_asr_audio_seconds_total") > 14)
            time.sleep(0.2)  # in which nothing happens
            assert server.metric("stream_asr_audio_seconds_total") < 31, "what the buffer holds, of 70 s"
        finally:
            go_on.set()
        messages, closed = ending(connection)
        sender.join()
    assert closed == 1000
    assert transcript(messages) == " ".join(said)


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.lists(st.integers(1, 400), min_size=1))
def test_a_pipe_brings_all_bytes_in_their_order(pieces: list[bytes], sizes: list[int]) -> None:
    read = bytearray()

    async def run() -> None:
        pipe = ContainerPipe()

        def take() -> None:
            for number in range(10**6):
                piece = pipe.read(sizes[number % len(sizes)])
                assert len(piece) <= sizes[number % len(sizes)]
                if not piece:
                    return
                read.extend(piece)

        reading = asyncio.get_running_loop().run_in_executor(None, take)
        for number, piece in enumerate(pieces):
            await pipe.write(piece)
            if number % 3 == 0:
                await pipe.wait_consumed()
                assert bytes(read) == b"".join(pieces[: number + 1])
        pipe.write_eof()
        await reading

    asyncio.run(run())
    assert bytes(read) == b"".join(pieces)


def test_a_pipe_makes_its_writer_wait() -> None:
    async def run() -> None:
        pipe = ContainerPipe()
        writing = asyncio.ensure_future(pipe.write(bytes(100_000)))
        await asyncio.sleep(0.01)
        assert not writing.done()
        assert len(pipe.read(10**6)) == 100_000
        await asyncio.wait_for(writing, TIMEOUT_S)
        pipe.close()
        await asyncio.wait_for(pipe.wait_consumed(), TIMEOUT_S)

    asyncio.run(run())
