"""The engine with a second pass: what shares a batch, in which order, and what happens when a request fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from stream_asr.acoustic.base import DecodeOutput, DecodeRequest
from stream_asr.array_types import FloatArray
from stream_asr.config import EngineConfig, RecognizerConfig, SecondPassConfig, WindowConfig
from stream_asr.decoding.attention import AttentionDecoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.errors import StreamASRError
from stream_asr.streaming.engine import Engine
from stream_asr.streaming.mailbox import Mailbox
from stream_asr.streaming.pipeline import Pipeline
from stream_asr.streaming.second_pass import SecondPass
from tests.support.fakes import FRAME, LABELS, FakeModel, FakeSecondPass, conversation, loud, silence, sound
from tests.support.streaming import add_stream, final_texts, run_until_idle

CONFIG = RecognizerConfig(
    windows=WindowConfig(left_context_ms=1000, commit_ms=800, right_context_ms=600),
    engine=EngineConfig(buffer_ms=20_000),
    second_pass=SecondPassConfig(max_tokens_per_s=15, min_blank_log_prob=-0.2),
)


def open_stream(
    engine: Engine, decoder: FakeSecondPass, audio: FloatArray, *, ended: bool = True, live: bool = True
) -> Mailbox:
    """Add a stream to the engine, with audio in its buffer."""
    rules = AttentionDecoder(decoder.vocabulary, LABELS, FRAME, CONFIG.second_pass)
    pipeline = Pipeline(
        CONFIG,
        GreedyDecoder(LABELS, FRAME),
        FRAME,
        detector=loud,
        second_pass=lambda start: SecondPass(rules, decoder, start),
        live=live,
    )
    return add_stream(engine, pipeline, audio, ended=ended)


def test_passes_of_several_streams_share_a_batch() -> None:
    model, decoder = FakeModel(), FakeSecondPass(parallel_requests=3)
    engine = Engine(model, CONFIG.engine, decoder)
    mailboxes = [open_stream(engine, decoder, conversation("hello world")) for _ in range(5)]
    run_until_idle(engine)
    assert decoder.batches == [3, 3, 3, 1], "two passes for each stream"
    texts = [final_texts(mailbox.take_all()) for mailbox in mailboxes]
    assert all(text == texts[0] and text[0].lower().startswith("hello") for text in texts)
    assert sum(engine.stats.batches) == len(model.batches)


def test_passes_run_before_windows_of_their_stream_and_finals_before_both() -> None:
    order: list[str] = []

    def tag(levels: FloatArray) -> str:
        (letter,) = (letter for letter in "yz" if LABELS.tokens.index(letter) in np.unique(np.rint(levels * 64)))
        return letter

    def record_windows(windows: Sequence[FloatArray]) -> None:
        order.append(f"window {tag(windows[0])}")

    def record_passes(requests: Sequence[DecodeRequest]) -> None:
        assert requests[0].samples is not None
        order.append(f"pass {tag(requests[0].samples)}")

    decoder = FakeSecondPass(record_passes)
    engine = Engine(FakeModel(record_windows), EngineConfig(max_batch_size=1), decoder)
    open_stream(engine, decoder, np.concatenate([silence(0.5), sound("yabcdefghijklmnopqrstuvyyyy")]), ended=False)
    open_stream(engine, decoder, conversation("za"), ended=False)
    for _ in range(6):
        engine.step()
    assert order == ["window z", "pass z", "window y", "pass y", "window y", "pass y"]


def test_windows_and_passes_never_share_a_batch(caplog: pytest.LogCaptureFixture) -> None:
    model, decoder = FakeModel(pads=True), FakeSecondPass(parallel_requests=8)
    engine = Engine(model, CONFIG.engine, decoder)
    open_stream(engine, decoder, conversation("hello world"))
    engine.step()
    assert (len(model.batches), len(decoder.batches)) == (1, 0)
    open_stream(engine, decoder, conversation("good day"))
    for _ in range(2):  # the stream with a pass is the second one in one step and the first one in the other
        engine.step()
    assert (len(model.batches), len(decoder.batches)) == (2, 1)
    run_until_idle(engine)
    assert not caplog.records, "the engine would run mixed jobs again, one by one"


def test_request_that_fails_ends_only_its_own_stream() -> None:
    batches: list[int] = []

    def fail_on_z(requests: Sequence[DecodeRequest]) -> None:
        batches.append(len(requests))
        letters = (np.rint(request.samples * 64) for request in requests if request.samples is not None)
        if any(LABELS.tokens.index("z") in levels for levels in letters):
            raise ValueError("bad request")

    decoder = FakeSecondPass(fail_on_z, parallel_requests=8)
    engine = Engine(FakeModel(pads=True), CONFIG.engine, decoder)
    first = open_stream(engine, decoder, conversation("hello world"))
    bad = open_stream(engine, decoder, conversation("zip and zap and zoo"))
    last = open_stream(engine, decoder, conversation("hello world"))
    run_until_idle(engine)
    assert final_texts(first.take_all()) == final_texts(last.take_all()) != []
    assert batches[:4] == [3, 1, 1, 1], "all in one batch, then one by one"
    bad.take_all()
    with pytest.raises(StreamASRError, match="bad request"):
        bad.take_all()


def test_wrong_number_of_outputs_is_an_error() -> None:
    class Forgetful(FakeSecondPass):
        def decode(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
            return []

    decoder = Forgetful()
    engine = Engine(FakeModel(), CONFIG.engine, decoder)
    mailbox = open_stream(engine, decoder, conversation("hello world"))
    run_until_idle(engine)
    mailbox.take_all()
    with pytest.raises(StreamASRError, match="0 outputs for 1 jobs"):
        mailbox.take_all()


@pytest.mark.parametrize("lies", [0.0, 0.7], ids=["honest", "lying"])
def test_streams_in_threads_get_the_text_of_recordings(lies: float) -> None:
    """Promise 1 with real threads: some streams are fed in blocks, others are recordings, all at the same time."""
    threads = 6
    decoder = FakeSecondPass(lies=lies, parallel_requests=3)
    engine = Engine(FakeModel(pads=True), replace(CONFIG.engine, max_batch_size=4), decoder)
    audio = [
        conversation("the quick brown fox jumps over the lazy dog", "see you soon", f"stream {name}")
        for name in "abcdef"
    ]
    alone = Engine(FakeModel(pads=True), CONFIG.engine, decoder)
    expected = []
    for samples in audio:
        mailbox = open_stream(alone, decoder, samples, live=False)
        run_until_idle(alone)
        expected.append(final_texts(mailbox.take_all()))
    results: dict[int, list[str]] = {}

    def feed(index: int) -> None:
        mailbox = open_stream(engine, decoder, np.zeros(0, dtype=np.float32), ended=False, live=index % 2 == 0)
        for start in range(0, len(audio[index]), 1000 * (index + 1)):
            mailbox.pipeline.buffer.write(audio[index][start : start + 1000 * (index + 1)])
            engine.wake()
        mailbox.pipeline.end_of_audio()
        engine.wake()
        assert mailbox.wait(lambda: mailbox.ended, 30)
        results[index] = final_texts(mailbox.take_all())

    engine.start()
    feeders = [threading.Thread(target=feed, args=(index,)) for index in range(threads)]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()
    engine.close()
    assert [results[index] for index in range(threads)] == expected
    assert max(decoder.batches) <= 3
