"""Streams and recognizers as a user sees them, with threads and asyncio, on the fake model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stream_asr import (
    EngineConfig,
    Final,
    InputError,
    Marked,
    Overload,
    Partial,
    Recognizer,
    RecognizerConfig,
    StreamASRError,
    WindowConfig,
)
from stream_asr.array_types import FloatArray
from stream_asr.events import Event
from tests.support.fakes import FakeModel, conversation, loud, silence, sound

SENTENCES = ["hello world", "how are you", "fine thanks"]


def test_feed_poll_and_finish(fake_recognizer: Recognizer) -> None:
    audio = conversation(*SENTENCES)
    events = []
    with fake_recognizer.stream() as stream:
        for start in range(0, len(audio), 1600):
            assert stream.feed(audio[start : start + 1600]) == 0
            events += stream.poll()
        stream.finish()
        events += list(stream)
        assert stream.counts.captured == len(audio)
    assert [event.text for event in events if isinstance(event, Final)] == SENTENCES


def test_one_thread_feeds_while_another_reads(fake_recognizer: Recognizer) -> None:
    audio = conversation(*SENTENCES)
    with fake_recognizer.stream() as stream:

        def feed() -> None:
            for start in range(0, len(audio), 3200):
                stream.feed(audio[start : start + 3200])
                time.sleep(0.002)
            stream.finish()

        feeder = threading.Thread(target=feed)
        feeder.start()
        texts = [event.text for event in stream if isinstance(event, Final)]
        feeder.join()
    assert texts == SENTENCES


def test_events_can_be_read_with_async_for(fake_recognizer: Recognizer) -> None:
    audio = conversation(*SENTENCES)

    async def caption() -> list[str]:
        with fake_recognizer.stream() as stream:

            async def feed() -> None:
                for start in range(0, len(audio), 3200):
                    stream.feed(audio[start : start + 3200])
                    await asyncio.sleep(0)
                stream.finish()

            feeding = asyncio.create_task(feed())
            texts = [event.text async for event in stream if isinstance(event, Final)]
            await feeding
            return texts

    assert asyncio.run(asyncio.wait_for(caption(), 30)) == SENTENCES


def test_concurrent_streams_do_not_mix() -> None:
    texts = [f"{'abcdefghij'[n % 10]} stream of {'klmnopqrst'[n // 10]} words" for n in range(20)]
    recognized: dict[str, list[str]] = {}
    with Recognizer(FakeModel(), detector=lambda: loud) as recognizer:

        def caption(text: str) -> None:
            audio = conversation(text, text)
            with recognizer.stream() as stream:
                for start in range(0, len(audio), 1600):
                    stream.feed(audio[start : start + 1600])
                stream.finish()
                recognized[text] = [event.text for event in stream if isinstance(event, Final)]

        threads = [threading.Thread(target=caption, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert recognized == {text: [text, text] for text in texts}


def test_feed_does_not_wait_for_the_model_and_overload_is_reported() -> None:
    released = threading.Event()

    def wait_for_release(windows: Sequence[FloatArray]) -> None:
        assert released.wait(60)

    audio = conversation(*["the quick brown fox jumps over the lazy dog"] * 3)
    config = RecognizerConfig(engine=EngineConfig(buffer_ms=40_000))
    model = FakeModel(wait_for_release)
    with Recognizer(model, config, detector=lambda: loud) as recognizer, recognizer.stream() as stream:
        for start in range(0, len(audio), 3200):
            stream.feed(audio[start : start + 3200])  # would block if it waited for the model
        released.set()
        lags_ms: list[int] = []
        while not lags_ms:
            time.sleep(0.01)
            lags_ms = [event.lag_ms for event in stream.poll() if isinstance(event, Overload)]
        assert lags_ms[0] > config.engine.overload_lag_ms
        stream.finish()
        list(stream)
        assert stream.counts.dropped == 0


def test_second_loop_continues_where_the_first_stopped(fake_recognizer: Recognizer) -> None:
    with fake_recognizer.stream() as stream:
        stream.feed(conversation(*SENTENCES))
        stream.finish()
        stream._mailbox.wait(lambda: False)  # until the last event
        texts = [next(event.text for event in stream if isinstance(event, Final)) for _ in SENTENCES]
        assert texts == SENTENCES


def test_engine_is_idle_without_new_audio(fake_recognizer: Recognizer) -> None:
    async def count_rounds() -> int:
        with fake_recognizer.stream() as stream:

            async def read() -> list[Event]:
                return [event async for event in stream]

            stream.feed(silence(1))
            reader = asyncio.create_task(read())
            await asyncio.sleep(0.2)
            rounds = 0
            step = fake_recognizer._engine.step

            def counting_step() -> bool:
                nonlocal rounds
                rounds += 1
                return step()

            fake_recognizer._engine.step = counting_step  # type: ignore[method-assign]
            await asyncio.sleep(0.2)
            reader.cancel()
            return rounds

    assert asyncio.run(count_rounds()) <= 1


def test_wrong_number_of_outputs_fails_the_stream() -> None:
    class ModelWithoutOutput(FakeModel):
        def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
            return []

    with Recognizer(ModelWithoutOutput(), detector=lambda: loud) as recognizer, recognizer.stream() as stream:
        stream.feed(conversation("hello"))
        stream.finish()
        with pytest.raises(StreamASRError, match="0 outputs for 1 jobs"):
            list(stream)


def test_damaged_file_yields_finals_up_to_the_damage(fake_recognizer: Recognizer, tmp_path: Path) -> None:
    audio = np.concatenate([conversation(*SENTENCES), np.full(8000, np.nan, dtype=np.float32)])
    path = tmp_path / "damaged.wav"
    soundfile.write(path, audio, 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match="nan"):
        list(fake_recognizer.iter_finals(path))
    finals = fake_recognizer.iter_finals(path)
    assert next(finals).text == SENTENCES[0]
    assert next(finals).text == SENTENCES[1]


@pytest.mark.parametrize("audio", [b"\0\0", np.float32(0), np.zeros((2, 2, 2))])
def test_invalid_audio_argument_is_an_error(fake_recognizer: Recognizer, audio: object) -> None:
    with pytest.raises(InputError, match="path, or an array"):
        fake_recognizer.transcribe(audio)  # type: ignore[arg-type]


def test_invalid_sample_rate_is_an_error(fake_recognizer: Recognizer) -> None:
    with pytest.raises(InputError, match="4000 to 384000"):
        fake_recognizer.transcribe(np.zeros(100), sample_rate=0)


def test_drain_paces_a_fast_source() -> None:
    config = RecognizerConfig(engine=EngineConfig(buffer_ms=16_000))
    audio = conversation(*SENTENCES * 10)
    with Recognizer(FakeModel(), config, detector=lambda: loud) as recognizer, recognizer.stream() as stream:
        for start in range(0, len(audio), 16_000):
            assert stream.feed(audio[start : start + 16_000]) == 0
            assert stream.drain(timeout_s=30)
        stream.finish()
        assert [event.text for event in stream if isinstance(event, Final)] == SENTENCES * 10


def test_dropped_samples_are_counted(fake_recognizer: Recognizer) -> None:
    with fake_recognizer.stream() as stream:
        dropped = stream.feed(np.zeros(40 * 16_000, dtype=np.float32))
        assert dropped == 10 * 16_000
        stream.finish()
        list(stream)
        counts = stream.counts
    assert counts.dropped == dropped
    assert counts.captured == 40 * 16_000 == counts.recognised + counts.silent + counts.dropped


def test_transcribe_accepts_arrays_and_files(fake_recognizer: Recognizer, tmp_path: Path) -> None:
    audio = conversation(*SENTENCES)
    progress: list[tuple[float, float | None]] = []
    from_array = fake_recognizer.transcribe(audio, progress=lambda done_s, total_s: progress.append((done_s, total_s)))
    assert from_array.text == " ".join(SENTENCES)
    assert [word.word for word in from_array.words] == from_array.text.split()
    assert from_array.duration_s == len(audio) / 16_000
    assert progress[-1] == (from_array.duration_s, from_array.duration_s)
    assert sorted(progress) == progress
    path = tmp_path / "speech.wav"
    soundfile.write(path, audio, 16_000, subtype="FLOAT")
    assert fake_recognizer.transcribe(path) == from_array
    assert fake_recognizer.transcribe(str(path)) == from_array
    assert fake_recognizer.transcribe(np.stack([audio, audio], axis=1)) == from_array
    assert fake_recognizer.transcribe((audio * 32768).astype(np.int16)).text == from_array.text


@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_audio_is_resampled(fake_recognizer: Recognizer, rate: int) -> None:
    seconds = fake_recognizer.transcribe(np.zeros(3 * rate, dtype=np.int16), rate).duration_s
    assert seconds == pytest.approx(3, abs=0.001)


def test_flush_makes_a_final(fake_recognizer: Recognizer) -> None:
    with fake_recognizer.stream() as stream:
        stream.feed(np.concatenate([silence(0.5), sound("hello "), silence(0.2)]))
        stream.flush()
        event = next(event for event in stream if isinstance(event, Final))
    assert event.text == "hello"


def test_feed_after_finish_is_an_error(fake_recognizer: Recognizer) -> None:
    with fake_recognizer.stream() as stream:
        stream.finish()
        stream.finish()
        with pytest.raises(StreamASRError, match="finished"):
            stream.feed(b"\0\0")
        assert list(stream) == []


def test_invalid_audio_does_not_end_the_stream(fake_recognizer: Recognizer) -> None:
    audio = conversation("hello world")
    with fake_recognizer.stream() as stream:
        stream.feed(audio[:16_000])
        with pytest.raises(InputError):
            stream.feed(np.array([np.nan], dtype=np.float32))
        stream.feed(audio[16_000:])
        stream.finish()
        assert [event.text for event in stream if isinstance(event, Final)] == ["hello world"]


def test_with_statement_closes_the_stream(fake_recognizer: Recognizer) -> None:
    with fake_recognizer.stream() as stream:
        stream.feed(silence(1))
    with pytest.raises(StreamASRError, match="finished"):
        stream.feed(silence(1))
    with pytest.raises(StreamASRError, match="closed"):
        list(stream)
    stream.close()


def test_closed_recognizer_is_an_error() -> None:
    recognizer = Recognizer(FakeModel(), detector=lambda: loud)
    stream = recognizer.stream()
    recognizer.close()
    with pytest.raises(StreamASRError, match="closed"):
        list(stream)
    with pytest.raises(StreamASRError, match="closed"):
        recognizer.stream()
    recognizer.close()


def test_partials_begin_with_their_stable_text(fake_recognizer: Recognizer) -> None:
    audio = conversation("the quick brown fox jumps over the lazy dog and away it runs from there")
    partials = []
    with fake_recognizer.stream() as stream:
        for start in range(0, len(audio), 1600):
            stream.feed(audio[start : start + 1600])
            time.sleep(0.002)
            partials += [event for event in stream.poll() if isinstance(event, Partial)]
        stream.finish()
    assert partials
    assert any(partial.stable for partial in partials)
    assert all(partial.text.startswith(partial.stable) for partial in partials)


def test_endpoint_can_be_set_per_stream(fake_recognizer: Recognizer) -> None:
    """Other settings and other streams do not change."""
    audio = conversation("hello world", "and again", pause_s=0.8)

    def finals(endpoint_ms: int | None) -> list[Final]:
        with fake_recognizer.stream(endpoint_ms=endpoint_ms) as stream:
            stream.feed(audio)
            stream.finish()
            return [event for event in stream if isinstance(event, Final)]

    assert [final.text for final in finals(1200)] == ["hello worldand again"]
    default = finals(None)
    assert default == finals(500) == list(fake_recognizer.iter_finals(audio))
    assert [final.text for final in default] == ["hello world", "and again"]
    assert finals(80)[0].end == pytest.approx(default[0].end - 0.42, abs=0.03)


@pytest.mark.parametrize("endpoint_ms", [-1, 0, 79, 9_701, 10**12])
def test_endpoint_out_of_range_is_an_error(fake_recognizer: Recognizer, endpoint_ms: int) -> None:
    with pytest.raises(InputError, match=f"endpoint_ms is {endpoint_ms}; 80 to 9700 are accepted"):
        fake_recognizer.stream(endpoint_ms=endpoint_ms)


def test_contradictory_settings_are_an_error() -> None:
    with pytest.raises(InputError, match="at least"):
        RecognizerConfig(windows=WindowConfig(), engine=EngineConfig(buffer_ms=5000))
    with pytest.raises(InputError, match="overload_lag_ms"):
        RecognizerConfig(windows=WindowConfig(), engine=EngineConfig(overload_lag_ms=100))
    with pytest.raises(InputError, match="twice right_context_ms"):
        RecognizerConfig(
            windows=WindowConfig(right_context_ms=12_000), engine=EngineConfig(buffer_ms=90_000, overload_lag_ms=20_000)
        )
    with pytest.raises(InputError, match="at least 16"):
        EngineConfig(max_unread_events=2)
    with pytest.raises(InputError, match="above 0"):
        EngineConfig(max_batch_size=0)
    with pytest.raises(InputError, match="negative"):
        WindowConfig(left_context_ms=-1)


def test_limits_are_checked_against_the_windows_of_the_model() -> None:
    config = RecognizerConfig(engine=EngineConfig(overload_lag_ms=1500))
    assert config.with_default_windows(WindowConfig(commit_ms=480, right_context_ms=400)).engine == config.engine
    with pytest.raises(InputError, match="commit windows alone lag up to 2400 ms"):
        Recognizer(FakeModel(), config)


def marks(events: list[Event]) -> list[int]:
    return [event.mark for event in events if isinstance(event, Marked)]


def test_mark_follows_the_events_of_the_audio_before_it(fake_recognizer: Recognizer) -> None:
    with fake_recognizer.stream() as stream:
        stream.feed(conversation(*SENTENCES[:1]))
        first = stream.mark()
        stream.feed(conversation(*SENTENCES[1:]))
        second = stream.mark()
        events: list[Event] = []
        while second not in marks(events):
            stream._mailbox.wait_for_events()
            events += stream.poll()
        assert marks(events) == [first, second]
        order = [
            event.text if isinstance(event, Final) else event.mark
            for event in events
            if isinstance(event, Final | Marked)
        ]
        assert order == [SENTENCES[0], first, *SENTENCES[1:], second]


def test_mark_inside_an_utterance_follows_a_partial_but_not_the_final(fake_recognizer: Recognizer) -> None:
    with fake_recognizer.stream() as stream:
        stream.feed(np.concatenate([silence(0.5), sound("hello world and")]))
        stream.mark()
        captions = []
        for event in stream:
            if isinstance(event, Marked):
                break
            captions.append(event)
        assert isinstance(captions[-1], Partial)
        assert captions[-1].text.startswith("hello world")


def test_wait_for_room_paces_a_fast_source() -> None:
    config = RecognizerConfig(engine=EngineConfig(buffer_ms=16_000))
    audio = conversation(*SENTENCES * 10)

    async def caption() -> list[str]:
        with Recognizer(FakeModel(), config, detector=lambda: loud) as recognizer, recognizer.stream() as stream:

            async def feed() -> None:
                for start in range(0, len(audio), 16_000):
                    await stream.wait_for_room()
                    assert stream.feed(audio[start : start + 16_000]) == 0
                stream.finish()

            feeding = asyncio.create_task(feed())
            texts = [event.text async for event in stream if isinstance(event, Final)]
            await feeding
            return texts

    assert asyncio.run(asyncio.wait_for(caption(), 60)) == SENTENCES * 10


@pytest.mark.parametrize("live_source", [False, True])
def test_waiting_for_room_suppresses_overload_unless_the_source_is_live(live_source: bool) -> None:
    config = RecognizerConfig(engine=EngineConfig(buffer_ms=16_000))
    audio = conversation(*SENTENCES * 4)
    model = FakeModel(before=lambda windows: time.sleep(0.02))

    async def count_overloads() -> int:
        with Recognizer(model, config, detector=lambda: loud) as recognizer, recognizer.stream() as stream:

            async def feed() -> None:
                for start in range(0, len(audio), 16_000):
                    await stream.wait_for_room(live_source=live_source)
                    stream.feed(audio[start : start + 16_000])
                stream.finish()

            feeding = asyncio.create_task(feed())
            overloads = [event async for event in stream if isinstance(event, Overload)]
            await feeding
            return len(overloads)

    assert (asyncio.run(asyncio.wait_for(count_overloads(), 60)) > 0) == live_source


def test_engine_stats() -> None:
    model = FakeModel()
    with Recognizer(model, detector=lambda: loud) as recognizer:
        recognizer.transcribe(conversation(*SENTENCES))
        stats = recognizer.stats
        assert stats.running
        assert sum(size * count for size, count in enumerate(stats.batches)) == sum(map(len, model.batches))
        assert stats.waiting_windows == 0
    assert not recognizer.stats.running
