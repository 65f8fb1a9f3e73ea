"""Audio containers that arrive as a stream over Deepgram's protocol, as browsers record them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
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
from stream_asr.events import bare_text
from stream_asr.server.media import container_stream
from stream_asr.server.media.container_stream import ContainerPipe
from tests.support.containers import encode_browser_recording, encode_container
from tests.support.deepgram import deepgram_client
from tests.support.fakes import conversation, silence, sound
from tests.support.serving import TIMEOUT_S, RunningServer, run_blocked_server, run_server, wait_until

pytest.importorskip("av", reason="PyAV is an extra")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SENTENCES = ["hello world", "how are you", "fine thanks"]
PATH = "/v1/listen"
FINALIZE, KEEP_ALIVE, CLOSE = (f'{{"type":"{kind}"}}' for kind in ("Finalize", "KeepAlive", "CloseStream"))


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_server(max_speed=1e6) as server:
        yield server
        wait_until(lambda: count_decoder_threads() == 0)


def count_decoder_threads() -> int:
    """Count the threads that decode a container or wait for its data."""
    count = 0
    for thread_frame in sys._current_frames().values():
        frame: FrameType | None = thread_frame
        while frame is not None and frame.f_code.co_filename != container_stream.__file__:
            frame = frame.f_back
        count += frame is not None
    return count


def send_blocks(connection: ClientConnection, data: bytes, block_bytes: int) -> None:
    """Send ``data`` in messages of ``block_bytes``."""
    for start in range(0, len(data), block_bytes):
        connection.send(data[start : start + block_bytes])


def receive(connection: ClientConnection) -> dict[str, Any]:
    """Receive the next message."""
    message: dict[str, Any] = json.loads(connection.recv(TIMEOUT_S))
    return message


def receive_close(connection: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """Receive all remaining messages; return them and the close code."""
    messages = []
    with suppress(ConnectionClosed):
        while True:
            messages.append(receive(connection))
    return messages, connection.close_code


def join_finals(messages: list[dict[str, Any]]) -> str:
    """Join the transcripts of all final results."""
    finals = [message for message in messages if message["type"] == "Results" and message["is_final"]]
    return " ".join(text for final in finals if (text := final["channel"]["alternatives"][0]["transcript"]))


# --- results --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_bytes", [100, 1777, 10**6])
@pytest.mark.parametrize(("container", "codec"), [("matroska", "pcm_s16le"), ("wav", "pcm_s16le"), ("flac", "flac")])
def test_containers_in_messages_of_any_size(
    served: RunningServer, container: str, codec: str, block_bytes: int
) -> None:
    audio = conversation(*SENTENCES)
    data = encode_container(audio, container, codec)
    with served.connect(PATH) as connection:
        send_blocks(connection, data, block_bytes)
        connection.send(CLOSE)
        messages, closed = receive_close(connection)
    assert closed == 1000
    assert [message["speech_final"] for message in messages[:-1]] == [True] * 3
    assert join_finals(messages) == " ".join(SENTENCES)
    assert messages[-1]["duration"] == len(audio) / 16_000
    assert messages[-1]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("container", "codec"),
    [("ogg", "libopus"), ("mp3", "libmp3lame"), ("adts", "aac"), ("mp4", "aac"), ("webm", "libopus")],
)
def test_lossy_codecs(served: RunningServer, container: str, codec: str) -> None:
    options = {"movflags": "frag_every_frame+empty_moov+default_base_moof"} if container == "mp4" else {}
    audio = np.asarray(conversation("hello") / 2, dtype=np.float32)
    data = encode_container(audio, container, codec, rate=48_000, options=options)
    with served.connect(PATH) as connection:
        send_blocks(connection, data, 500)
        connection.send(CLOSE)
        messages, closed = receive_close(connection)
    assert closed == 1000
    assert messages[-1]["duration"] == pytest.approx(len(audio) / 48_000, abs=0.1)


class SlowFile:
    """File that returns at most 100 bytes per read, and counts them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0

    def read(self, size: int, /) -> bytes:
        data = self.data[self.read_bytes : self.read_bytes + min(size, 100)]
        self.read_bytes += len(data)
        return data


@pytest.mark.parametrize(
    ("container", "codec"), [("webm", "libopus"), ("ogg", "libopus"), ("mp3", "libmp3lame"), ("adts", "aac")]
)
def test_first_block_needs_little_data_and_no_audio_is_lost(container: str, codec: str) -> None:
    options = {"page_duration": "20000"} if container == "ogg" else {}
    audio = np.asarray(np.tile(conversation("hello"), 10) / 2, dtype=np.float32)
    data = encode_container(audio, container, codec, rate=48_000, options=options)
    live_file = SlowFile(data)
    blocks = ContainerReader("live", live_file, live=True).blocks()
    first = next(blocks)
    assert live_file.read_bytes < 3000
    expected = np.concatenate(list(ContainerReader("whole", SlowFile(data)).blocks()))
    np.testing.assert_array_equal(np.concatenate([first, *blocks]), expected)


def test_consecutive_containers_are_decoded(served: RunningServer) -> None:
    """A recorder that restarts sends a new container after the first one."""
    with served.connect(PATH) as connection:
        for text in SENTENCES:
            send_blocks(connection, encode_container(conversation(text)), 1000)
        connection.send(CLOSE)
        assert join_finals(receive_close(connection)[0]) == " ".join(SENTENCES)


@pytest.fixture(scope="module")
def recording(speech: FloatArray) -> bytes:
    """The bundled recording as a browser records it."""
    return encode_browser_recording(soxr.resample(speech, 16_000, 48_000))


def test_text_equals_that_of_transcribe(
    recognizer: Recognizer, recording: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a websocket that gets punctuation and interim results, and with Deepgram's client, which gets bare words."""
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "talk.webm").write_bytes(recording)
    expected = recognizer.transcribe(tmp_path / "talk.webm")
    assert len(expected.words) > 10
    generator = random.Random(1)
    with run_server(recognizer, max_speed=100) as server:
        with server.connect(f"{PATH}?interim_results=true&punctuate=true") as connection:
            position, bytes_per_second = 0, len(recording) / expected.duration_s
            while position < len(recording) / 2:
                block_bytes = round(bytes_per_second * generator.uniform(0.1, 0.25))
                connection.send(recording[position : position + block_bytes])
                position += block_bytes
            early = [receive(connection)]
            while not any(message["is_final"] for message in early):
                early.append(receive(connection))
            assert not early[0]["is_final"]
            connection.send(recording[position:])
            connection.send(CLOSE)
            messages, closed = receive_close(connection)
        assert closed == 1000
        assert join_finals(early + messages) == expected.text

        sdk_messages: list[Any] = []
        with deepgram_client(server.address) as deepgram, deepgram.listen.v1.connect(model="nova-3") as sdk_connection:
            sdk_connection.on("message", sdk_messages.append)
            listener = threading.Thread(target=sdk_connection.start_listening, daemon=True)
            listener.start()
            for start in range(0, len(recording), 1000):
                sdk_connection.send_media(recording[start : start + 1000])
            sdk_connection.send_close_stream()
            listener.join(TIMEOUT_S)
        results = [message for message in sdk_messages if message.type == "Results" and message.is_final]
        alternatives = [message.channel.alternatives[0] for message in results]
        text = " ".join(alternative.transcript for alternative in alternatives if alternative.transcript)
        assert text == bare_text(expected.text)
        words = [word.dict(exclude_none=True) for alternative in alternatives for word in alternative.words]
        assert words == [{**word.to_json(), "word": word.bare} for word in expected.words]


# --- during the stream ----------------------------------------------------------------------------------------


def test_finalize_covers_all_data_sent_before(served: RunningServer) -> None:
    first, second = (np.concatenate([silence(0.5), sound(text), silence(0.2)]) for text in SENTENCES[:2])
    data = encode_container(np.concatenate([first, second]))
    with served.connect(PATH) as connection:
        connection.send(KEEP_ALIVE)
        connection.send(data[: len(data) // 2])
        connection.send(FINALIZE)
        assert receive(connection)["from_finalize"]
        connection.send(data[len(data) // 2 :])
        connection.send(KEEP_ALIVE)
        connection.send(FINALIZE)
        last = receive(connection)
        assert last["from_finalize"]
        assert last["start"] + last["duration"] == pytest.approx(len(data) / 32_000, abs=0.1)
        connection.send(CLOSE)
        assert receive_close(connection)[1] == 1000


def test_utterance_ends_are_reported(served: RunningServer) -> None:
    with served.connect(f"{PATH}?utterance_end_ms=1000&endpointing=80") as connection:
        send_blocks(connection, encode_container(conversation(*SENTENCES[:2], pause_s=1.5)), 3200)
        kinds = [receive(connection)["type"] for _ in range(4)]
        assert kinds == ["Results", "UtteranceEnd"] * 2
        connection.send(CLOSE)
        assert receive_close(connection)[1] == 1000


@pytest.mark.parametrize("messages", [[CLOSE], [b""], [KEEP_ALIVE, FINALIZE, CLOSE]])
def test_stream_without_data_ends_normally(served: RunningServer, messages: list[str | bytes]) -> None:
    with served.connect(PATH) as connection:
        for message in messages:
            connection.send(message)
        responses, closed = receive_close(connection)
    assert closed == 1000
    assert responses[-1]["type"] == "Metadata"
    assert responses[-1]["duration"] == 0


# --- errors ---------------------------------------------------------------------------------------------------


def exchange(served: RunningServer, *messages: bytes | str) -> tuple[list[dict[str, Any]], int | None]:
    """Send messages on a new connection; return the responses and the close code."""
    with served.connect(PATH) as connection:
        with suppress(ConnectionClosed):
            for message in messages:
                connection.send(message)
        return receive_close(connection)


@pytest.mark.parametrize(
    "messages", [[b"no audio at all", CLOSE], [bytes(700_000)] * 2, [b"ffconcat version 1.0\nfile 'own.wav'\n", CLOSE]]
)
def test_data_that_is_not_audio_is_rejected(
    served: RunningServer, messages: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    (error,), closed = exchange(served, *messages)
    assert (error["type"], error["variant"], closed) == ("Error", "bad_audio", 1007)
    assert "the stream is not audio that can be decoded; wav, flac, ogg" in error["description"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_damaged_container_is_recognized_up_to_the_damage(
    served: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ContainerReader.blocks

    def blocks_until_damage(reader: ContainerReader) -> Iterator[FloatArray]:
        for number, block in enumerate(original(reader)):
            if number == 100:
                raise InputError("the stream cannot be decoded from 2.0 s on: it is broken")
            yield block

    monkeypatch.setattr(ContainerReader, "blocks", blocks_until_damage)
    *results, error = exchange(served, encode_container(conversation(*SENTENCES)))[0]
    assert join_finals(results).startswith(SENTENCES[0])
    assert results[-1]["start"] + results[-1]["duration"] == pytest.approx(100 * 0.02)
    assert (error["variant"], error["description"]) == (
        "bad_audio",
        "the stream cannot be decoded from 2.0 s on: it is broken",
    )


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=3000) | st.sampled_from([KEEP_ALIVE, FINALIZE, CLOSE]), max_size=8), st.booleans())
def test_any_messages_lead_to_an_orderly_close(
    served: RunningServer, messages: list[Any], starts_with_audio: bool
) -> None:
    start = [encode_container(conversation("hi"))[:9000]] if starts_with_audio else []
    responses, closed = exchange(served, *start, *messages, CLOSE)
    assert closed in (1000, 1007)
    assert responses[-1]["type"] == ("Metadata" if closed == 1000 else "Error")
    wait_until(lambda: served.service.sessions.open_count == 0)


def test_decoder_thread_ends_when_the_client_vanishes(served: RunningServer) -> None:
    for data in (b"", b"\x1aE\xdf\xa3", encode_container(conversation(*SENTENCES))[:20_000]):
        with served.connect(PATH) as connection:
            if data:
                connection.send(data)
            wait_until(lambda: count_decoder_threads() == 1)
            connection.socket.close()
        wait_until(lambda: count_decoder_threads() == 0)
        wait_until(lambda: served.service.sessions.open_count == 0)


def test_silent_client_gets_its_finals_before_the_timeout_error() -> None:
    with run_server(idle_timeout_s=0.5) as server, server.connect(PATH) as connection:
        data = encode_container(np.concatenate([silence(0.5), sound("hello world"), silence(0.4)]))
        connection.send(data)
        messages, closed = receive_close(connection)
        assert join_finals(messages) == "hello world"
        assert (messages[-1]["variant"], closed) == ("idle_timeout", 1008)
        wait_until(lambda: count_decoder_threads() == 0)


def test_server_shutdown_sends_the_last_finals() -> None:
    with run_server() as server, server.connect(PATH) as connection:
        send_blocks(
            connection,
            encode_container(np.concatenate([conversation(SENTENCES[0]), sound(SENTENCES[1]), silence(0.4)])),
            1600,
        )
        first = receive(connection)
        server.stop()
        messages, closed = receive_close(connection)
        assert join_finals([first, *messages]).startswith(SENTENCES[0])
        assert (messages[-1]["variant"], closed) == ("shutting_down", 1001)
        server.join()
    assert count_decoder_threads() == 0


def test_size_and_duration_limits_apply() -> None:
    data = encode_container(conversation(*SENTENCES))
    with run_server(max_upload_bytes=100_000, max_speed=1e6) as server, server.connect(PATH) as connection:
        send_blocks(connection, data, 10_000)
        messages, closed = receive_close(connection)
        assert join_finals(messages).startswith(SENTENCES[0])
        assert (messages[-1]["variant"], closed) == ("file_too_big", 1009)
        assert "the stream has more than 100000 bytes" in messages[-1]["description"]
    with run_server(max_duration_s=3.0, max_speed=1e6) as server, server.connect(PATH) as connection:
        send_blocks(connection, data, 10_000)
        messages, closed = receive_close(connection)
        assert join_finals(messages).startswith(SENTENCES[0])
        assert (messages[-1]["variant"], closed) == ("too_long", 1008)


def test_missing_decoder_is_reported(served: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_stream, "find_spec", lambda name: None)
    with pytest.raises(InvalidStatus) as refused, served.connect(PATH):
        pass
    assert refused.value.response.status_code == 400
    assert "pip install 'stream-asr[av]'" in json.loads(refused.value.response.body or b"")["err_msg"]
    with served.connect(f"{PATH}?encoding=linear16&sample_rate=16000") as connection:
        connection.send(CLOSE)
        assert receive_close(connection)[1] == 1000


# --- backpressure ---------------------------------------------------------------------------------------------


def test_fast_client_has_to_wait_and_loses_no_audio() -> None:
    """The model is blocked, so the server accepts what fits into one buffer, the pipe and the socket buffers."""
    sentences = SENTENCES * 12
    data = encode_container(conversation(*sentences), frame_samples=1600)
    with run_blocked_server(max_speed=1e6) as (server, unblock), server.connect(PATH) as connection:

        def send_all() -> None:
            send_blocks(connection, data, 10_000)
            connection.send(CLOSE)

        sender = threading.Thread(target=send_all, daemon=True)
        sender.start()
        try:
            wait_until(lambda: server.metric("stream_asr_audio_seconds_total") > 14)
            time.sleep(0.2)  # more audio would be accepted in this time
            assert server.metric("stream_asr_audio_seconds_total") < 31, "one buffer, of 70 s"
        finally:
            unblock.set()
        messages, closed = receive_close(connection)
        sender.join()
    assert closed == 1000
    assert join_finals(messages) == " ".join(sentences)


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.lists(st.integers(1, 400), min_size=1))
def test_pipe_delivers_all_bytes_in_order(blocks: list[bytes], read_sizes: list[int]) -> None:
    received = bytearray()

    async def run() -> None:
        pipe = ContainerPipe()

        def read_all() -> None:
            for size in itertools.cycle(read_sizes):
                data = pipe.read(size)
                assert len(data) <= size
                if not data:
                    return
                received.extend(data)

        reader = asyncio.get_running_loop().run_in_executor(None, read_all)
        for index, block in enumerate(blocks):
            await pipe.write(block)
            if index % 3 == 0:
                await pipe.wait_consumed()
                assert bytes(received) == b"".join(blocks[: index + 1])
        pipe.write_eof()
        await reader

    asyncio.run(run())
    assert bytes(received) == b"".join(blocks)


def test_full_pipe_makes_its_writer_wait() -> None:
    async def run() -> None:
        pipe = ContainerPipe()
        writer = asyncio.ensure_future(pipe.write(bytes(100_000)))
        await asyncio.sleep(0.01)
        assert not writer.done()
        assert len(pipe.read(10**6)) == 100_000
        await asyncio.wait_for(writer, TIMEOUT_S)
        pipe.close()
        await asyncio.wait_for(pipe.wait_consumed(), TIMEOUT_S)

    asyncio.run(run())
