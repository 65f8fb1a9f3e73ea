"""Deepgram's published client, with nothing changed but the address, against a server in a process of its own."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from tests.support.deepgram import deepgram_client, deepgram_environment
from tests.support.fakes import conversation, silence, sound
from tests.support.serving import TIMEOUT_S, run_server, server_process

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks its libraries for names that are on their way out
    from deepgram import AsyncDeepgramClient, DeepgramClient
    from deepgram.core.api_error import ApiError
    from deepgram.core.events import EventType

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SAID = ["hello world", "how are you", "fine thanks"]
RAW: dict[str, Any] = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16_000}


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections to this machine go through no proxy."""
    monkeypatch.setenv("NO_PROXY", "*")


def s16(audio: FloatArray) -> bytes:
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype("<i2").tobytes()


def blocks(audio: bytes, size: int = 3200) -> Iterator[bytes]:
    return (audio[at : at + size] for at in range(0, len(audio), size))


def listen(deepgram: DeepgramClient, audio: bytes, **options: Any) -> list[Any]:
    """All messages that come for ``audio``, as the SDK has typed them."""
    messages: list[Any] = []
    with deepgram.listen.v1.connect(**RAW, **options) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        listening = threading.Thread(target=connection.start_listening, daemon=True)
        listening.start()
        connection.send_keep_alive()
        for block in blocks(audio):
            connection.send_media(block)
        connection.send_close_stream()
        listening.join(TIMEOUT_S)
        assert not listening.is_alive()
    return messages


def transcript(messages: list[Any]) -> str:
    finals = [message for message in messages if message.type == "Results" and message.is_final]
    return " ".join(text for final in finals if (text := final.channel.alternatives[0].transcript))


def test_live() -> None:
    with run_server() as server, deepgram_client(server.address) as deepgram:
        messages = listen(
            deepgram,
            s16(conversation(*SAID, pause_s=1.5)),
            interim_results=True,
            utterance_end_ms=1000,
            vad_events=True,
            smart_format=True,
            endpointing=300,
        )
    assert {message.type for message in messages} == {"SpeechStarted", "Results", "UtteranceEnd", "Metadata"}
    assert transcript(messages) == " ".join(SAID)
    said = [message for message in messages if message.type == "Results" and message.speech_final]
    assert [message.channel.alternatives[0].transcript for message in said] == SAID
    for message in said:
        for word in message.channel.alternatives[0].words:
            assert message.start <= word.start < word.end <= message.start + message.duration
            assert word.confidence > 0.8
            assert word.punctuated_word == word.word
    assert any(not message.is_final for message in messages if message.type == "Results")
    ends = [message.last_word_end for message in messages if message.type == "UtteranceEnd"]
    assert ends == [message.channel.alternatives[0].words[-1].end for message in said]
    assert messages[-1].type == "Metadata"
    assert messages[-1].duration == len(conversation(*SAID, pause_s=1.5)) / 16_000


def test_a_long_utterance_is_final_piece_by_piece() -> None:
    text = "this goes on and on without any pause for a while until it ends"
    with run_server() as server, deepgram_client(server.address) as deepgram:
        messages = listen(deepgram, s16(conversation(text)))
    results = [message for message in messages if message.type == "Results"]
    assert len(results) > 2
    assert all(message.is_final for message in results)
    assert [message.speech_final for message in results] == [False] * (len(results) - 1) + [True]
    assert transcript(messages) == text


def test_finalize_does_not_wait_for_a_pause() -> None:
    async def run(address: str) -> list[Any]:
        heard: list[Any] = []
        async with httpx.AsyncClient(trust_env=False) as requests:
            deepgram = AsyncDeepgramClient(
                api_key="any", environment=deepgram_environment(address), httpx_client=requests
            )
            async with deepgram.listen.v1.connect(**RAW) as connection:
                await connection.send_media(s16(np.concatenate([silence(0.5), sound("hello world"), silence(0.2)])))
                await connection.send_finalize()
                heard.append(await asyncio.wait_for(connection.recv(), TIMEOUT_S))
                await connection.send_close_stream()
                heard.append(await asyncio.wait_for(connection.recv(), TIMEOUT_S))
        return heard

    with run_server() as server:
        result, metadata = asyncio.run(run(server.address))
    assert result.from_finalize
    assert result.is_final
    assert result.channel.alternatives[0].transcript == "hello world"
    assert metadata.type == "Metadata"


def test_keys_are_tokens() -> None:
    with run_server(tokens=("secret",)) as server:
        with deepgram_client(server.address, "secret") as deepgram:
            assert transcript(listen(deepgram, s16(conversation("hello")))) == "hello"
        with deepgram_client(server.address, "wrong") as deepgram, pytest.raises(ApiError) as refused:
            deepgram.listen.v1.media.transcribe_file(request=b"x")
        assert refused.value.status_code == 401
        assert refused.value.body["err_code"] == "INVALID_AUTH"


def test_mistakes_arrive_as_its_errors() -> None:
    with run_server() as server, deepgram_client(server.address) as deepgram, pytest.raises(ApiError) as refused:
        deepgram.listen.v1.media.transcribe_url(url="https://example.org/talk.mp3")
    assert refused.value.status_code == 400
    assert "fetches nothing from a url" in refused.value.body["err_msg"]


def test_the_text_is_that_of_transcribe(recognizer: Recognizer, speech: FloatArray, demo_path: Path) -> None:
    expected, from_file = recognizer.transcribe(np.frombuffer(s16(speech), "<i2")), recognizer.transcribe(demo_path)
    with (
        server_process("--max-speed", "100") as (_, address),
        deepgram_client(address.removeprefix("ws://")) as deepgram,
    ):
        live = listen(deepgram, s16(speech), interim_results=True)
        answer = deepgram.listen.v1.media.transcribe_file(request=demo_path.read_bytes(), utterances=True)
    assert transcript(live) == expected.text
    words = [
        word.dict(exclude_none=True)
        for message in live
        if message.type == "Results" and message.is_final
        for word in message.channel.alternatives[0].words
    ]
    assert [word["word"] for word in words] == [word.word for word in expected.words]
    assert all(0 < word["confidence"] <= 1 for word in words)
    told = answer.results.channels[0].alternatives[0]
    assert told.transcript == from_file.text
    assert [word.dict(exclude_none=True) for word in told.words] == [word.to_json() for word in from_file.words]
    assert [said.transcript for said in answer.results.utterances] == [said.text for said in from_file.utterances]
    assert answer.metadata.duration == pytest.approx(from_file.duration_s, abs=0.001)
