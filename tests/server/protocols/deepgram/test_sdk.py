"""Deepgram's published SDK against the server; only the address is changed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import bare_text
from tests.support.deepgram import (
    ApiError,
    AsyncDeepgramClient,
    DeepgramClient,
    EventType,
    deepgram_client,
    deepgram_environment,
)
from tests.support.fakes import conversation, silence, sound
from tests.support.serving import TIMEOUT_S, pcm16, run_server, server_process

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SENTENCES = ["hello world", "how are you", "fine thanks"]
RAW: dict[str, Any] = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16_000}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect directly; the websocket client of the SDK has no option for it."""
    monkeypatch.setenv("NO_PROXY", "*")


def caption(deepgram: DeepgramClient, audio: bytes, block_bytes: int = 3200, **options: Any) -> list[Any]:
    """Stream audio and return all messages, as objects of the SDK."""
    messages: list[Any] = []
    with deepgram.listen.v1.connect(**RAW, **options) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        listener = threading.Thread(target=connection.start_listening, daemon=True)
        listener.start()
        connection.send_keep_alive()
        for start in range(0, len(audio), block_bytes):
            connection.send_media(audio[start : start + block_bytes])
        connection.send_close_stream()
        listener.join(TIMEOUT_S)
        assert not listener.is_alive()
    return messages


def join_finals(messages: list[Any]) -> str:
    finals = [message for message in messages if message.type == "Results" and message.is_final]
    return " ".join(text for final in finals if (text := final.channel.alternatives[0].transcript))


def test_live_messages() -> None:
    audio = conversation(*SENTENCES, pause_s=1.5)
    with run_server() as server, deepgram_client(server.address) as deepgram:
        messages = caption(
            deepgram,
            pcm16(audio),
            interim_results=True,
            utterance_end_ms=1000,
            vad_events=True,
            smart_format=True,
            endpointing=300,
        )
    assert {message.type for message in messages} == {"SpeechStarted", "Results", "UtteranceEnd", "Metadata"}
    assert join_finals(messages) == " ".join(SENTENCES)
    utterances = [message for message in messages if message.type == "Results" and message.speech_final]
    assert [message.channel.alternatives[0].transcript for message in utterances] == SENTENCES
    for message in utterances:
        for word in message.channel.alternatives[0].words:
            assert message.start <= word.start < word.end <= message.start + message.duration
            assert word.confidence > 0.8
            assert word.punctuated_word == word.word
    assert any(not message.is_final for message in messages if message.type == "Results")
    ends = [message.last_word_end for message in messages if message.type == "UtteranceEnd"]
    assert ends == [message.channel.alternatives[0].words[-1].end for message in utterances]
    assert messages[-1].type == "Metadata"
    assert messages[-1].duration == len(audio) / 16_000


def test_long_utterance_has_several_final_results() -> None:
    text = "this goes on and on without any pause for a while until it ends"
    with run_server() as server, deepgram_client(server.address) as deepgram:
        messages = caption(deepgram, pcm16(conversation(text)))
    results = [message for message in messages if message.type == "Results"]
    assert len(results) > 2
    assert all(message.is_final for message in results)
    assert [message.speech_final for message in results] == [False] * (len(results) - 1) + [True]
    assert join_finals(messages) == text


def test_finalize_does_not_wait_for_a_pause() -> None:
    async def run(address: str) -> list[Any]:
        messages: list[Any] = []
        async with httpx.AsyncClient(trust_env=False) as http_client:
            environment = deepgram_environment(address)
            deepgram = AsyncDeepgramClient(api_key="any", environment=environment, httpx_client=http_client)
            async with deepgram.listen.v1.connect(**RAW) as connection:
                audio = np.concatenate([silence(0.5), sound("hello world"), silence(0.2)])
                await connection.send_media(pcm16(audio))
                await connection.send_finalize()
                messages.append(await asyncio.wait_for(connection.recv(), TIMEOUT_S))
                await connection.send_close_stream()
                messages.append(await asyncio.wait_for(connection.recv(), TIMEOUT_S))
        return messages

    with run_server() as server:
        result, metadata = asyncio.run(run(server.address))
    assert result.from_finalize
    assert result.is_final
    assert result.channel.alternatives[0].transcript == "hello world"
    assert metadata.type == "Metadata"


def test_api_key_is_a_token_of_the_server() -> None:
    with run_server(tokens=("secret",)) as server:
        with deepgram_client(server.address, "secret") as deepgram:
            assert join_finals(caption(deepgram, pcm16(conversation("hello")))) == "hello"
        with deepgram_client(server.address, "wrong") as deepgram, pytest.raises(ApiError) as refused:
            deepgram.listen.v1.media.transcribe_file(request=b"x")
        assert refused.value.status_code == 401
        assert refused.value.body["err_code"] == "INVALID_AUTH"


def test_http_errors_are_errors_of_the_sdk() -> None:
    with run_server() as server, deepgram_client(server.address) as deepgram, pytest.raises(ApiError) as refused:
        deepgram.listen.v1.media.transcribe_url(url="https://example.org/talk.mp3")
    assert refused.value.status_code == 400
    assert "does not download from a url" in refused.value.body["err_msg"]


def test_text_equals_that_of_transcribe(recognizer: Recognizer, speech: FloatArray, demo_path: Path) -> None:
    audio = pcm16(speech)
    expected_live = recognizer.transcribe(np.frombuffer(audio, "<i2"))
    expected_file = recognizer.transcribe(demo_path)
    with (
        server_process("--max-speed", "100") as (_, address),
        deepgram_client(address.removeprefix("ws://")) as deepgram,
    ):
        messages = caption(deepgram, audio, interim_results=True, smart_format=True)
        response: Any = deepgram.listen.v1.media.transcribe_file(request=demo_path.read_bytes(), utterances=True)
    assert join_finals(messages) == expected_live.text
    words = [
        word
        for message in messages
        if message.type == "Results" and message.is_final
        for word in message.channel.alternatives[0].words
    ]
    assert [word.word for word in words] == [word.bare for word in expected_live.words]
    assert [word.punctuated_word for word in words] == [word.word for word in expected_live.words]
    assert all(0 < word.confidence <= 1 for word in words)
    alternative = response.results.channels[0].alternatives[0]
    assert alternative.transcript == bare_text(expected_file.text)
    assert [word.dict(exclude_none=True) for word in alternative.words] == [
        {**word.to_json(), "word": word.bare} for word in expected_file.words
    ]
    utterances = [utterance.transcript for utterance in response.results.utterances]
    assert utterances == [bare_text(final.text) for final in expected_file.utterances]
    assert response.metadata.duration == pytest.approx(expected_file.duration_s, abs=0.001)
